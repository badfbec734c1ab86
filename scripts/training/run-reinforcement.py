#!/usr/bin/env python3
"""Train a planner on its own plans: rewards of the scorer on training rows, GRPO by TRL (pip install -e '.[rl]').

    python scripts/training/run-reinforcement.py --checkpoint output --rows data/train.jsonl --val_file data/val.jsonl
    python scripts/training/run-reinforcement.py --checkpoint output/lora --method rft --output_dir output/rft

Starts from any checkpoint, full or adapter. Knobs come from configs/training/grpo.yaml (or --config) and the command
line. The same command resumes from the last complete checkpoint. docs/reinforcement.md says when it helps.
"""

from configs.config import REPOSITORY
from leap.cli import parse_knobs, run
from leap.training.recipes import ReinforcementLoraRecipe
from leap.training.start import announce_and_reinforce


def main() -> None:
    recipe = REPOSITORY / "configs/training/grpo.yaml"
    announce_and_reinforce(parse_knobs(ReinforcementLoraRecipe, None, __doc__, recipe=recipe))


if __name__ == "__main__":
    run(main)
