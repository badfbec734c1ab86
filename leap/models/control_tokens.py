"""The tokens with which a model's prompts are built, none of which may stand in anybody's words."""

from __future__ import annotations

import re
from typing import Any

_BARRED = re.compile(r"<\|.+\|>", re.DOTALL)  # some tokenizers do not mark all of these as special


def picture_tokens(processor: Any) -> frozenset[int]:
    """The ids that stand for a picture in a prompt; in Gemma 3's not the one in its chat template."""
    return frozenset({processor.image_token_id, *getattr(processor, "image_token_ids", ())})


class ControlTokens:
    """Those of one processor: special tokens, others spelt <|...|>, and those that stand for a picture."""

    def __init__(self, processor: Any) -> None:
        tokenizer = processor.tokenizer
        self._pictures = set(tokenizer.convert_ids_to_tokens(sorted(picture_tokens(processor))))
        added = tokenizer.added_tokens_decoder.values()
        control = {str(token) for token in added if token.special or _BARRED.fullmatch(str(token))}
        longest_first = sorted(self._pictures | control, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def problem(self, text: str) -> str | None:
        """The first control token in `text`, and what the model takes it for; None without one."""
        match = self._pattern.search(text)
        if match is None:
            return None
        token = match.group()
        meaning = "which this model takes for a picture" if token in self._pictures else "a control token of this model"
        return f"{token}, {meaning}"
