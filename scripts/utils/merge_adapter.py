#!/usr/bin/env python3
"""Fold a LoRA adapter into its base model: a full checkpoint that loads without PEFT.

    python scripts/utils/merge_adapter.py --checkpoint output/lora_standard/checkpoint-200

Writes <checkpoint>-merged beside it (or --output_dir) and compares the logits of both on a random prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.models.checkpoints import merged_folder
from leap.planners.candidates import chosen_checkpoint
from leap.progress import say


@dataclass(frozen=True)
class Options:
    checkpoint: Path | None = knob(None, "folder of the adapter")
    base_model: Path | None = knob(None, "its base (default: the one it names)")
    output_dir: Path | None = knob(None, "folder to write (default: <checkpoint>-merged)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if options.checkpoint is None:
        raise UserError("name the adapter with --checkpoint, as in output/lora_standard/checkpoint-200")
    adapter = chosen_checkpoint(options.checkpoint, WorkspaceConfig.from_environment())
    folder = options.output_dir or merged_folder(adapter)

    from leap.training.adapters import merge

    difference = merge(adapter, folder, options.base_model)
    say(f"merged: {folder} (largest difference of logits {difference:.2g})")


if __name__ == "__main__":
    run(main)
