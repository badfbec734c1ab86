#!/usr/bin/env python3
"""Full fine-tuning of a vision-language model on planning rows.

    python scripts/training/run-finetuning.py
    python scripts/training/run-finetuning.py --train_file data/my_rows.jsonl --output_dir output/my_run --lr 2e-5

Knobs come from configs/training/full.yaml (or --config) and the command line. The same command resumes from the last
complete checkpoint.
"""

from configs.config import REPOSITORY, WorkspaceConfig
from leap.cli import as_plain, parse_knobs, run
from leap.recipes import TrainingRecipe


def main() -> None:
    recipe = parse_knobs(TrainingRecipe, None, __doc__, recipe=REPOSITORY / "configs/training/full.yaml")
    for name, value in as_plain(recipe).items():
        print(f"  {name}: {value}")

    from leap.training import train  # torch and transformers load here, after --help and flag errors

    last = train(recipe, WorkspaceConfig.from_environment())
    print(f"trained: {last}")
    print(f"next: python scripts/evaluation/run_vlm_evaluation.py --checkpoint '{last}' --dimension all")


if __name__ == "__main__":
    run(main)
