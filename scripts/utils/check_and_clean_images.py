#!/usr/bin/env python3
"""Check the pictures that planning files name, write cleaned files beside them, and move broken pictures away.

    python scripts/utils/check_and_clean_images.py
    python scripts/utils/check_and_clean_images.py --rows data/train.jsonl data/test.jsonl --drop_near_duplicates
    python scripts/utils/check_and_clean_images.py --rows data/train.jsonl --benchmark dataset/vlm_evaluation_v1.0
    python scripts/utils/check_and_clean_images.py --delete
    python scripts/utils/check_and_clean_images.py --undo

Every picture must be there, decode to its end, show more than one colour and have a sane size. Rows that keep to this
go to <name>.cleaned.jsonl, the others with reasons to <name>.dropped.jsonl; no file is changed in place. Without
--delete no picture moves: the run lists what would. --delete moves broken and blank pictures (--orphans: also those
that no row names) to data/.trash/<time>, --undo [FOLDER] puts them back. Exit status 1 if rows are dropped, 0 if all
is sound or --delete did its work.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.config import WorkspaceConfig
from leap.cli import as_plain, knob, parse_knobs, run
from leap.data.cleaning import (
    Cleaning,
    CleaningKnobs,
    changed_pictures,
    check_files,
    pictures_to_move,
    require_test_files,
)
from leap.data.cleaning_report import defects_text, report_text
from leap.data.planning_files import choose_planning_files
from leap.data.row_checks import write_cleaned
from leap.data.trash import TRASH, move_to_trash, trash_named, undo
from leap.files import write_json
from leap.progress import say
from leap.vlabench.held_out import drop_leaks

NEWEST = "newest"
MOST_SHOWN = 20


@dataclass(frozen=True)
class Options(CleaningKnobs):
    benchmark: Path | None = knob(None, "drop training rows that show a picture or a scene of this benchmark")
    undo: str = knob("", "put back what this trash folder holds, or the newest, and do nothing else")


def main() -> int:
    options = parse_knobs(Options, arguments(), __doc__)
    if options.undo:
        return put_back(options)
    workspace = WorkspaceConfig.from_environment()
    files, note = choose_planning_files(options.files, options.data_dir, workspace)
    if note:
        say(note)
    require_test_files(options, files, workspace)
    if options.benchmark:
        workspace.require(options.benchmark, "benchmark")

    drop_tested = partial(drop_leaks, benchmark=options.benchmark) if options.benchmark else None
    cleaning = check_files(files, options, workspace, drop_tested)
    findings = cleaning.findings | {"settings": as_plain(options)}
    say("\n".join(filter(None, [report_text(findings), defects_text(findings)])))
    for path in write_cleaned(cleaning.files):
        say(f"written: {path}")
    if options.report:
        write_json(options.report, findings)
        say(f"written: {options.report}")
    clear_away(options, cleaning)
    return 1 if cleaning.drops_rows and not options.delete else 0


def arguments() -> list[str]:
    """The command line, with the newest trash folder meant by --undo alone."""
    words = sys.argv[1:]
    if "--undo" in words:
        after = words.index("--undo") + 1
        if after == len(words) or words[after].startswith("-"):
            words.insert(after, NEWEST)
    return words


def put_back(options: Options) -> int:
    home = options.files[0].parent if options.files else options.data_dir
    trash, count = undo(home, None if options.undo == NEWEST else trash_named(home, options.undo))
    say(f"put back {count:,} files of {trash}")
    return 0


def clear_away(options: Options, cleaning: Cleaning) -> None:
    """Move what --delete means to the trash, or say what it would move."""
    reasons, staying = pictures_to_move(cleaning, with_orphans=options.orphans)
    for path in staying:
        say(f"left where it is, no picture file or outside of the data folders: {path}")
    if options.delete:
        for path in changed_pictures(cleaning, reasons):
            say(f"left where it is, changed since it was looked at: {path}")
            del reasons[path]
        trash = move_to_trash(cleaning.home, reasons)
        say(f"moved {len(reasons):,} pictures to {trash}; --undo puts them back" if trash else "no picture to move")
    elif reasons:
        say(f"--delete would move {len(reasons):,} pictures to {cleaning.home / TRASH}:")
        for path in list(reasons)[:MOST_SHOWN]:
            say(f"  {path} ({reasons[path]})")
        if len(reasons) > MOST_SHOWN:
            say(f"  ... and {len(reasons) - MOST_SHOWN:,} more")


if __name__ == "__main__":
    run(main)
