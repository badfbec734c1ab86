"""The parts of a vision-language model: which parameter belongs to which, freezing, learning rates."""

from __future__ import annotations

import re
from typing import Any

from configs.errors import UserError
from leap.training.recipes import TrainingRecipe

PARTS = ("vision", "merger", "llm")

# deepstack_merger_list belongs to the merger: it maps vision features of early layers into the language model.
_MERGER = re.compile(r"(?:^|\.)visual\.(?:merger|deepstack_merger_list)\.")
_VISION = re.compile(r"(?:^|\.)visual\.")


def part_of(parameter_name: str) -> str:
    """The part that a parameter of a Qwen-VL model belongs to; embeddings and head are the language model's."""
    if _MERGER.search(parameter_name):
        return "merger"
    return "vision" if _VISION.search(parameter_name) else "llm"


def freeze(model: Any, parts: list[str]) -> str:
    """Stop gradients of `parts` and return a line that says how much of each part trains.

    UserError if nothing is left to train or the model has no such part.
    """
    sizes = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        sizes[part] += parameter.numel()
        if part in parts:
            parameter.requires_grad_(False)
    absent = [part for part in parts if sizes[part] == 0]
    if absent:
        raise UserError(f"cannot freeze {absent[0]}: {type(model).__name__} has no parameters of that part")
    if all(part in parts or sizes[part] == 0 for part in PARTS):
        raise UserError(f"nothing is left to train with freeze: {' '.join(parts)}")
    counts = (f"{part} {size:,}{' (frozen)' if part in parts else ''}" for part, size in sizes.items())
    return "parameters: " + ", ".join(counts)


def learning_rate_of(part: str, recipe: TrainingRecipe) -> float:
    """The peak learning rate of a part."""
    rate = {"vision": recipe.vision_lr, "merger": recipe.merger_lr}.get(part)
    return recipe.learning_rate if rate is None else rate


def parameter_groups(model: Any, recipe: TrainingRecipe, decay: set[str]) -> list[dict[str, Any]]:
    """AdamW groups of the trainable parameters: one a part and kind, with weight decay for the names in `decay`."""
    groups: dict[tuple[str, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((part_of(name), name in decay), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate_of(part, recipe),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
