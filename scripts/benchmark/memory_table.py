#!/usr/bin/env python3
"""Print the table of docs/training.md: memory of a training step and disk of a checkpoint, by formula.

    python scripts/benchmark/memory_table.py
    python scripts/benchmark/memory_table.py --sizes 2b --rows 1 2 4 --visual 768 --no-gradient_checkpointing

Recipes are the defaults of leap/training/recipes.py (those of LoRA are the preset "standard"). Needs neither GPU nor
weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.training.accounting import QWEN3_VL, memory_table
from leap.training.recipes import LoraRecipe, TrainingRecipe


@dataclass(frozen=True)
class Options:
    sizes: list[str] = knob(list(QWEN3_VL), "models: Qwen3-VL of these sizes", choices=tuple(QWEN3_VL))
    rows: list[int] = knob([1, 4, 6, 16], "rows in a forward pass")
    visual: list[int] = knob([256, 768], "visual tokens a row")
    text: int = knob(250, "tokens of prompt and plan a row, a quarter of them supervised", check="> 0")
    gradient_checkpointing: bool = knob(True, "recompute activations in the backward pass")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if min(options.rows) < 1 or min(options.visual) < 0:
        raise UserError(f"rows must be > 0 and visual >= 0, found rows {options.rows} and visual {options.visual}")
    recipes = {
        "full": TrainingRecipe(),
        "full, vision frozen": TrainingRecipe(freeze=["vision"]),
        "full, pure_bf16": TrainingRecipe(pure_bf16=True),
        "full, pure_bf16, adamw_8bit": TrainingRecipe(pure_bf16=True, optim="adamw_8bit"),
        "LoRA": LoraRecipe(),
        "LoRA, load_in_4bit": LoraRecipe(load_in_4bit=True),
    }
    recipes = {k: replace(r, gradient_checkpointing=options.gradient_checkpointing) for k, r in recipes.items()}
    print(memory_table(options.sizes, recipes, options.rows, options.visual, options.text))


if __name__ == "__main__":
    run(main)
