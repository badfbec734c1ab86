#!/usr/bin/env python3
"""Split planning rows into train, test and validation by whole tasks or episodes, and report what the sides share.

    python scripts/utils/split_dataset.py --source data/all.jsonl --by task --blind 10
    python scripts/utils/split_dataset.py --blind_from data/test.jsonl --blind 10
    python scripts/utils/split_dataset.py --report_only data/train.jsonl data/test.jsonl

Writes <name>_train.jsonl, <name>_test.jsonl, <name>_val.jsonl, blind_<n>.jsonl and split_report.json beside the source
(or to --output_dir). Lines stay as they are, in their order; the same rows and seed give the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.overlap import overlap_report, report_text
from leap.splits import (
    SplitRow,
    blind_sample,
    check_images_from,
    hash_images,
    raw_lines,
    read_split_rows,
    sha256_lines,
    split,
    write_new,
)


@dataclass(frozen=True)
class Options:
    source: list[Path] = knob([], "planning files to split")
    report_only: list[Path] = knob([], "report what these files share and split nothing; the one trained on first")
    blind_from: Path | None = knob(None, "test file to draw a blind sample from, without a split")
    output_dir: Path | None = knob(None, "folder to write to (default: the source's)")
    name: str | None = knob(None, "first part of the files' names (default: the source's)")
    by: str = knob("episode", "what stays whole on one side", choices=("task", "episode"))
    test_fraction: float = knob(0.1, "share of the rows to test on", check="> 0")
    val_fraction: float = knob(0.0, "share of the rows to validate on", check=">= 0")
    blind: int = knob(0, "test rows for a blind review, one a task name of the most frequent", check=">= 0")
    seed: int = knob(42, "seed of the split and the blind sample", check=">= 0")
    image_root: Path | None = knob(None, "folder that image paths are relative to, if not beside the JSONL file")
    workers: int = knob(8, "threads that read pictures", check="> 0")
    overwrite: bool = knob(False, "replace files of another split")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if sum(map(bool, (options.source, options.report_only, options.blind_from))) != 1:
        raise UserError("give one of --source FILES, --blind_from FILE and --report_only FILES")
    if options.report_only:
        compare(options)
    elif options.blind_from:
        draw_blind(options)
    else:
        split_files(options)


def compare(options: Options) -> None:
    files = options.report_only
    if len(files) < 2:
        raise UserError("name two files or more after --report_only, the one trained on first")
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = list(map(str, files))
    sides = dict(zip(names, read(options, files), strict=True))
    pairs = [(seen, tested) for index, tested in enumerate(names) for seen in names[:index]]
    report = overlap_report(sides, pairs)
    print(report_text(report))
    if options.output_dir:
        write(options, options.output_dir, {}, report)


def draw_blind(options: Options) -> None:
    if not options.blind:
        raise UserError("say how many rows the blind sample has, as in --blind 10")
    (rows,) = read(options, [options.blind_from], hashed=False)
    sample = drawn(options, rows)
    write(options, options.output_dir or options.blind_from.parent, {f"blind_{options.blind}": sample}, None)
    for row in sample:
        print(f"  {row.file.name}:{row.number}  {row.task_name!r:.80}")


def split_files(options: Options) -> None:
    files = options.source
    if len(files) > 1 and not options.name:
        raise UserError("name the files to write with --name, as there is more than one source")
    name = options.name or files[0].stem
    if Path(name).name != name:
        raise UserError(f"--name is the first part of file names, found {name!r}; --output_dir names their folder")
    folder = options.output_dir or files[0].parent
    if not options.val_fraction and (folder / f"{name}_val.jsonl").exists():
        raise UserError(f"{folder / f'{name}_val.jsonl'} is of another split; remove it or ask for --val_fraction")
    rows = [row for of_file in read(options, files) for row in of_file]
    sides = split(rows, options.by, options.test_fraction, options.val_fraction, options.seed)
    pairs = [("train", "val"), ("train", "test"), ("val", "test"), ("train", "blind")]
    outputs = {f"{name}_{side}": side_rows for side, side_rows in sides.items()}
    if options.blind:
        sides["blind"] = outputs[f"blind_{options.blind}"] = drawn(options, sides["test"])
    report: dict = {
        "by": options.by,
        "seed": options.seed,
        "asked": {"test": options.test_fraction, "val": options.val_fraction},
        "files": {f"{stem}.jsonl": sha256_lines(raw_lines(part)) for stem, part in outputs.items()},
    }
    report |= overlap_report(sides, [pair for pair in pairs if sides.keys() >= set(pair)])
    write(options, folder, outputs, report)
    for side, asked in report["asked"].items():
        if asked:
            print(f"{side}: {len(sides[side]) / len(rows):.1%} of the rows, asked {asked:.1%}")
    print(report_text(report))


def read(options: Options, files: list[Path], hashed: bool = True) -> list[list[SplitRow]]:
    """The rows of each file, their pictures hashed."""
    workspace = WorkspaceConfig.from_environment()
    for file in files:
        workspace.require_file(file, "planning file")
    if len({file.resolve() for file in files}) < len(files):
        raise UserError(f"a file is named twice: {' '.join(map(str, files))}")
    rows = [read_split_rows(file, options.image_root, workspace.root) for file in files]
    if hashed:
        hash_images([row for of_file in rows for row in of_file], options.workers)
    return rows


def drawn(options: Options, rows: list[SplitRow]) -> list[SplitRow]:
    sample = blind_sample(rows, options.blind, options.seed)
    if len(sample) < options.blind:
        print(f"the test rows state {len(sample)} task names only: so many rows in blind_{options.blind}.jsonl")
    return sample


def write(options: Options, folder: Path, outputs: dict[str, list[SplitRow]], report: dict | None) -> None:
    contents: dict[Path, Callable[[], Iterable[bytes]]] = {}
    rows = [row for side in outputs.values() for row in side]
    check_images_from(folder, rows, options.image_root, WorkspaceConfig.from_environment().root)
    for stem, side in outputs.items():
        contents[folder / f"{stem}.jsonl"] = partial(raw_lines, side)
    sources = {row.file.resolve() for row in rows}
    for path in contents:
        if path.resolve() in sources:
            raise UserError(f"{path} is a source; choose another --name or --output_dir")
    if report is not None:
        text = json.dumps(report, indent=2) + "\n"
        contents[folder / "split_report.json"] = lambda: [text.encode()]
    write_new(contents, options.overwrite)
    for path in contents:
        print(f"written: {path}")


if __name__ == "__main__":
    run(main)
