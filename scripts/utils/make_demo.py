#!/usr/bin/env python3
"""Make the demo of the quickstart: tiny planner, training and validation rows, tabletop benchmark.

    LEAP_WORKSPACE=output/quickstart python scripts/utils/make_demo.py

Writes models/tiny-planner, data/train.jsonl, data/val.jsonl, data/blind_10.jsonl (the rows of the blind review) and
dataset/vlm_evaluation_v1.0 into the workspace. What is there already is kept. It refuses to write into the
repository's own folders: name a workspace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import configs  # noqa: F401  says what is missing where the environment is not active
from leap.cli import knob, parse_knobs, run
from leap.demo.build import build_benchmark, build_blind_rows, build_folder, build_rows, demo_workspace, training_texts
from leap.progress import say


@dataclass(frozen=True)
class Options:
    rows: int = knob(12000, "training rows", check="> 0")
    val_rows: int = knob(400, "validation rows", check="> 0")
    examples_per_task: int = knob(20, "benchmark examples a task (14 tasks)", check="> 0")
    seed: int = knob(0, "seed of scenes, rows and weights", check=">= 0")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    workspace = demo_workspace()

    def rows(folder: Path) -> None:
        build_rows(folder / "train.jsonl", "train", options.rows, options.seed)
        build_rows(folder / "val.jsonl", "validation", options.val_rows, options.seed)

    def model(folder: Path) -> None:
        from leap.demo.tiny_planner import build_tiny_planner

        build_tiny_planner(folder, training_texts(workspace.data / "train.jsonl"), options.seed)

    build_folder(workspace.benchmark, lambda folder: build_benchmark(folder, options.examples_per_task, options.seed))
    build_folder(workspace.data, rows)
    blind = workspace.data / "blind_10.jsonl"
    if not blind.is_file():
        build_blind_rows(blind, options.seed)
        say(f"made: {blind}")
    build_folder(workspace.models / "tiny-planner", model)


if __name__ == "__main__":
    run(main)
