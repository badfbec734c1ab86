#!/usr/bin/env python3
"""Add to the quickstart's workspace what learning by rewards is shown with: rows of full tables, and more test scenes.

    LEAP_WORKSPACE=output/quickstart python scripts/utils/make_reward_demo.py

Writes data/reward/train.jsonl and val.jsonl with their pictures, and dataset/held_out, a benchmark of scenes that
neither training nor validation sees. What is there already is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import configs  # noqa: F401  says what is missing where the environment is not active
from leap.cli import knob, parse_knobs, run
from leap.demo.build import build_benchmark, build_folder, build_reward_rows, demo_workspace


@dataclass(frozen=True)
class Options:
    rows: int = knob(2400, "training rows", check="> 0")
    val_rows: int = knob(400, "held-out rows that a training is watched by", check="> 0")
    examples_per_task: int = knob(40, "test examples a task (14 tasks)", check="> 0")
    seed: int = knob(1, "seed of scenes and rows", check=">= 0")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    workspace = demo_workspace()

    def rows(folder: Path) -> None:
        build_reward_rows(folder / "train.jsonl", "train", options.rows, options.seed)
        build_reward_rows(folder / "val.jsonl", "validation", options.val_rows, options.seed)

    held_out = workspace.benchmark.with_name("held_out")
    build_folder(held_out, lambda folder: build_benchmark(folder, options.examples_per_task, options.seed))
    build_folder(workspace.data / "reward", rows)


if __name__ == "__main__":
    run(main)
