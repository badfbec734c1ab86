#!/usr/bin/env python3
"""Split planning rows into train, test and validation by whole tasks or episodes, and report what the sides share.

    python scripts/utils/split_dataset.py --rows data/all.jsonl --by task --blind 10
    python scripts/utils/split_dataset.py --blind_from data/test.jsonl --blind 10
    python scripts/utils/split_dataset.py --report_only data/train.jsonl data/test.jsonl

Writes <name>_train.jsonl, <name>_test.jsonl, <name>_val.jsonl, blind_<n>.jsonl and split_report.json beside the source
(or to --output_dir). Lines stay as they are, in their order; the same rows and seed give the same files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.data.overlap import overlap_report, report_text
from leap.data.split_files import SplitKnobs, drawn, read_files, split_files, write_sides
from leap.progress import say


@dataclass(frozen=True)
class Options(SplitKnobs):
    rows: list[Path] = knob([], "planning files to split", flags=("--source",))
    report_only: list[Path] = knob([], "report what these files share and split nothing; the one trained on first")
    blind_from: Path | None = knob(None, "test file to draw a blind sample from, without a split")
    output_dir: Path | None = knob(None, "folder to write to (default: the source's)")
    name: str | None = knob(None, "first part of the files' names (default: the source's)")
    workers: int = knob(8, "threads that read pictures", check="> 0")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if sum(map(bool, (options.rows, options.report_only, options.blind_from))) != 1:
        raise UserError("give one of --rows FILES, --blind_from FILE and --report_only FILES")
    if options.report_only:
        compare(options)
    elif options.blind_from:
        draw_blind(options)
    else:
        split_sources(options)


def compare(options: Options) -> None:
    files = options.report_only
    if len(files) < 2:
        raise UserError("name two files or more after --report_only, the one trained on first")
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = list(map(str, files))
    sides = dict(zip(names, read_files(options, files, options.workers), strict=True))
    pairs = [(trained, tested) for index, tested in enumerate(names) for trained in names[:index]]
    report = overlap_report(sides, pairs)
    say(report_text(report))
    if options.output_dir:
        write_sides(options, options.output_dir, {}, report)


def draw_blind(options: Options) -> None:
    if not options.blind:
        raise UserError("say how many rows the blind sample has, as in --blind 10")
    (rows,) = read_files(options, [options.blind_from], options.workers, hashed=False)
    sample = drawn(options, rows)
    write_sides(options, options.output_dir or options.blind_from.parent, {f"blind_{options.blind}": sample}, None)
    for row in sample:
        say(f"  {row.file.name}:{row.number}  {row.task_name!r:.80}")


def split_sources(options: Options) -> None:
    files = options.rows
    if len(files) > 1 and not options.name:
        raise UserError("name the files to write with --name, as there is more than one source")
    name = options.name or files[0].stem
    if Path(name).name != name:
        raise UserError(f"--name is the first part of file names, found {name!r}; --output_dir names their folder")
    split_files(options, files, options.output_dir or files[0].parent, name, options.workers)


if __name__ == "__main__":
    run(main)
