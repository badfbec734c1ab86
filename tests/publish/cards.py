"""Reading a card."""

from huggingface_hub import ModelCard


def front_matter(card: str) -> dict:
    return ModelCard(card).data.to_dict()
