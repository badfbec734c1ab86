"""The parts of a vision-language model: which parameter belongs to which, freezing, learning rates."""

from __future__ import annotations

from typing import Any

from configs.errors import UserError
from leap.models.families import PARTS, QWEN, Family, family_of
from leap.training.recipes import TrainingRecipe


def part_of(parameter_name: str, family: Family = QWEN) -> str:
    """The part that a parameter of a model belongs to; embeddings and head are the language model's."""
    return family.part_of(parameter_name)


def freeze(model: Any, parts: list[str]) -> str:
    """Stop gradients of `parts` and return a line that says how much of each part trains.

    UserError if nothing is left to train or the model has no such part.
    """
    sizes, family = dict.fromkeys(PARTS, 0), family_of(model)
    for name, parameter in model.named_parameters():
        part = part_of(name, family)
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
    family = family_of(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((part_of(name, family), name in decay), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate_of(part, recipe),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
