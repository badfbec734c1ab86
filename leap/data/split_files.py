"""Planning files split on disk: a file a side, a blind sample, and split_report.json about what the sides share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob
from leap.data.overlap import overlap_report, report_text
from leap.data.planning_files import require_each_once
from leap.data.splits import (
    SplitRow,
    blind_sample,
    check_fractions,
    check_images_from,
    hash_images,
    raw_lines,
    read_split_rows,
    sha256_lines,
    split,
    write_new,
)
from leap.progress import say


@dataclass(frozen=True)
class SplitKnobs:
    """How rows are split."""

    by: str = knob("episode", "what stays whole on one side", choices=("task", "episode"))
    test_fraction: float = knob(0.1, "share of the rows to test on", check="> 0")
    val_fraction: float = knob(0.0, "share of the rows to validate on", check=">= 0")
    blind: int = knob(0, "test rows for a blind review, one a task name of the most frequent", check=">= 0")
    seed: int = knob(42, "seed of the split and the blind sample", check=">= 0")
    image_root: Path | None = knob(None, "folder that image paths are relative to, if not beside the JSONL file")
    overwrite: bool = knob(False, "replace files of another split")


def split_files(
    knobs: SplitKnobs, files: Sequence[Path], folder: Path, name: str, threads: int = 8, blind_name: str = "blind"
) -> None:
    """Split the rows of `files` into <name>_train.jsonl, <name>_test.jsonl, ... and <blind_name>_<count>.jsonl in
    `folder` and say what came of it."""
    check_split(knobs, folder, name)
    rows = [row for of_file in read_files(knobs, files, threads) for row in of_file]
    sides = split(rows, knobs.by, knobs.test_fraction, knobs.val_fraction, knobs.seed)
    pairs = [("train", "val"), ("train", "test"), ("val", "test"), ("train", "blind")]
    outputs = {f"{name}_{side}": side_rows for side, side_rows in sides.items()}
    if knobs.blind:
        sides["blind"] = outputs[f"{blind_name}_{knobs.blind}"] = drawn(knobs, sides["test"])
    report: dict = {
        "by": knobs.by,
        "seed": knobs.seed,
        "asked": {"test": knobs.test_fraction, "val": knobs.val_fraction},
        "files": {f"{stem}.jsonl": sha256_lines(raw_lines(part)) for stem, part in outputs.items()},
    }
    report |= overlap_report(sides, [pair for pair in pairs if sides.keys() >= set(pair)])
    write_sides(knobs, folder, outputs, report)
    for side, fraction in report["asked"].items():
        if fraction:
            say(f"{side}: {len(sides[side]) / len(rows):.1%} of the rows, asked {fraction:.1%}")
    say(report_text(report))


def check_split(knobs: SplitKnobs, folder: Path, name: str) -> None:
    """UserError for what can be told before any row is read."""
    check_fractions(knobs.test_fraction, knobs.val_fraction)
    if not knobs.val_fraction and (folder / f"{name}_val.jsonl").exists():
        raise UserError(f"{folder / f'{name}_val.jsonl'} is of another split; remove it or ask for --val_fraction")


def read_files(knobs: SplitKnobs, files: Sequence[Path], threads: int, hashed: bool = True) -> list[list[SplitRow]]:
    """The rows of each file, their pictures hashed."""
    workspace = WorkspaceConfig.from_environment()
    require_each_once(files, workspace)
    rows = [read_split_rows(file, knobs.image_root, workspace.root) for file in files]
    if hashed:
        hash_images([row for of_file in rows for row in of_file], threads)
    return rows


def drawn(knobs: SplitKnobs, rows: list[SplitRow]) -> list[SplitRow]:
    """The blind sample of these rows."""
    sample = blind_sample(rows, knobs.blind, knobs.seed)
    if len(sample) < knobs.blind:
        say(f"only {len(sample)} blind rows: the test rows state no more task names")
    return sample


def write_sides(knobs: SplitKnobs, folder: Path, outputs: dict[str, list[SplitRow]], report: dict | None) -> None:
    """Write a file for each stem of `outputs`, and the report if there is one."""
    contents: dict[Path, Callable[[], Iterable[bytes]]] = {}
    rows = [row for side in outputs.values() for row in side]
    check_images_from(folder, rows, knobs.image_root, WorkspaceConfig.from_environment().root)
    for stem, side in outputs.items():
        contents[folder / f"{stem}.jsonl"] = partial(raw_lines, side)
    sources = {row.file.resolve() for row in rows}
    for path in contents:
        if path.resolve() in sources:
            raise UserError(f"{path} is a source; choose another --name or --output_dir")
    if report is not None:
        text = json.dumps(report, indent=2) + "\n"
        contents[folder / "split_report.json"] = lambda: [text.encode()]
    write_new(contents, knobs.overwrite)
    for path in contents:
        say(f"written: {path}")
