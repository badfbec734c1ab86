#!/usr/bin/env python3
"""Check a benchmark folder: every file there, pictures decode, ground truth can be scored.

    python scripts/utils/verify_dataset.py
    python scripts/utils/verify_dataset.py --data_path dataset/vlm_evaluation_v1.0 --dimension Spatial

Prints a table by dimension and each defect with its path. Exit status 1 if there is any defect.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig, dimensions_named
from leap.cli import knob, parse_knobs, run
from leap.progress import Progress
from leap.vlabench.examples import example_problems, find_examples


@dataclass(frozen=True)
class Options:
    data_path: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the benchmark")
    dimension: list[str] = knob(["all"], "dimensions to check, or all")
    workers: int = knob(4, "threads that read and decode", check="> 0")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    dimensions = dimensions_named(options.dimension)
    WorkspaceConfig.from_environment().require(options.data_path, "benchmark")
    defects: list[tuple[Path, str]] = []
    rows = []
    for dimension in dimensions:
        if not (options.data_path / dimension).is_dir():
            defects.append((options.data_path / dimension, "is missing"))
            rows.append((dimension, 0, 0, 0))
            continue
        examples = find_examples(options.data_path, [dimension], allow_empty=True).get(dimension, [])
        if not examples:
            defects.append((options.data_path / dimension, "holds no example"))
        found: list[tuple[Path, str]] = []
        with ThreadPoolExecutor(options.workers) as pool, Progress(dimension, len(examples), "example") as progress:
            for problems in pool.map(example_problems, examples):
                found += problems
                progress.advance()
        defects += found
        rows.append((dimension, len({e.task for e in examples}), len(examples), len(found)))

    print(f"{'dimension':14}{'tasks':>7}{'examples':>10}{'defects':>9}")
    for dimension, tasks, count, bad in rows:
        print(f"{dimension:14}{tasks:>7}{count:>10}{bad:>9}")
    for path, reason in defects:
        print(f"{path}: {reason}")
    print(f"{len(defects)} defects" if defects else "no defects")
    return 1 if defects else 0


if __name__ == "__main__":
    run(main)
