#!/usr/bin/env python3
"""Full fine-tuning of a vision-language model on planning rows.

    python scripts/training/run-finetuning.py
    python scripts/training/run-finetuning.py --rows data/my_rows.jsonl --output_dir output/my_run --lr 2e-5

Knobs come from configs/training/full.yaml (or --config) and the command line. The same command resumes from the last
complete checkpoint.
"""

from configs.config import REPOSITORY
from leap.cli import parse_knobs, run
from leap.training.recipes import TrainingRecipe
from leap.training.start import announce_and_train


def main() -> None:
    announce_and_train(parse_knobs(TrainingRecipe, None, __doc__, recipe=REPOSITORY / "configs/training/full.yaml"))


if __name__ == "__main__":
    run(main)
