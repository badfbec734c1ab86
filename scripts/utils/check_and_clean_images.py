#!/usr/bin/env python3
"""Check the pictures that planning files name, write cleaned files beside them, and move broken pictures away.

    python scripts/utils/check_and_clean_images.py
    python scripts/utils/check_and_clean_images.py --files data/train.jsonl data/test.jsonl --drop_near_duplicates
    python scripts/utils/check_and_clean_images.py --delete
    python scripts/utils/check_and_clean_images.py --undo

Every picture must be there, decode to its end, show more than one colour and have a sane size. Rows that keep to this
go to <name>.cleaned.jsonl, the others with reasons to <name>.dropped.jsonl; no file is changed in place. Without
--delete no picture moves: the run lists what would. --delete moves broken and blank pictures (--orphans: also those
that no row names) to data/.trash/<time>, --undo [FOLDER] puts them back. Exit status 1 if rows are dropped, 0 if all
is sound or --delete did its work.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import as_plain, knob, parse_knobs, run

NEWEST = "newest"
MOST_SHOWN = 20


@dataclass(frozen=True)
class Options:
    files: list[Path] = knob(
        [], "planning files to check (default: all of --data_dir but *_all and all_* beside a split)"
    )
    data_dir: Path = knob(Path("data"), "folder whose planning files are checked")
    test_files: list[Path] = knob([], "those of them that are tested on (default: test, val, dev, eval, blind in name)")
    image_root: Path | None = knob(None, "folder that image paths are relative to, if not beside the JSONL file")
    min_side: int = knob(32, "fewest pixels of a picture's shorter side", check="> 0")
    max_pixels: int = knob(50_000_000, "most pixels of a picture; a larger one is not decoded", check="> 0")
    max_aspect: float = knob(5.0, "most that the longer side measures in shorter ones", check=">= 1")
    blank_deviation: float = knob(
        2.0, "standard deviation (of 255) of the liveliest colour channel under which a picture is blank", check=">= 0"
    )
    near_duplicates: bool = knob(True, "look for training pictures near to tested ones")
    distance: int = knob(8, "most bits of 64 between the perceptual hashes of near-duplicates", check=">= 0")
    colour_distance: int = knob(
        24, "most levels of 255 between their 8 x 8 thumbnails, in the worst place", check=">= 0"
    )
    drop_near_duplicates: bool = knob(False, "drop the training rows that show a picture near to a tested one")
    report: Path | None = knob(None, "write all findings to this JSON file")
    workers: int | None = knob(None, "processes that decode (default: one a core)", check="> 0", free=True)
    delete: bool = knob(False, "move broken and blank pictures to the trash folder")
    orphans: bool = knob(False, "with --delete, move pictures that no row names too")
    undo: str = knob("", "put back what this trash folder holds, or the newest, and do nothing else")


def main() -> int:
    options = parse_knobs(Options, arguments(), __doc__)
    if options.undo:
        return put_back(options)
    files = named_files(options)

    from leap.data.cleaning import (
        drop_near,
        is_tested,
        judge_pictures,
        near_pictures,
        orphans,
        read_file,
        report,
        report_text,
        write_cleaned,
    )
    from leap.data.image_checks import Limits, kept_in, look_at_all
    from leap.data.trash import trashed
    from leap.files import write_json

    workspace = WorkspaceConfig.from_environment()
    home = files[0].parent
    folders = list(
        dict.fromkeys([*(file.parent for file in files), workspace.data, *filter(None, [options.image_root])])
    )
    limits = Limits(options.min_side, options.max_pixels, options.max_aspect, options.blank_deviation)
    tested = {file.resolve() for file in options.test_files or filter(is_tested, files)}
    moved = trashed(home)
    checked = [read_file(file, file.resolve() in tested, options.image_root, workspace.root, moved) for file in files]
    paths = dict.fromkeys(path for file in checked for row in file.rows for _, path in row.pictures if path)
    looks = look_at_all(paths, kept_in(home), options.workers or os.cpu_count() or 1, options.max_pixels)
    judge_pictures(checked, looks, limits)
    near = near_pictures(checked, looks, options.distance, options.colour_distance) if options.near_duplicates else []
    if options.drop_near_duplicates:
        drop_near(checked, near)
    lone = orphans(checked, folders)
    findings = report(checked, looks, limits, near, lone) | {"settings": as_plain(options)}
    print(report_text(findings))
    show(findings)
    for path in write_cleaned(checked):
        print(f"written: {path}")
    if options.report:
        write_json(options.report, findings)
        print(f"written: {options.report}")
    clear_away(options, home, folders, findings, looks)
    dropped = any(file.dropped for file in checked)
    return 1 if dropped and not options.delete else 0


def arguments() -> list[str]:
    """The command line, with the newest trash folder meant by --undo alone."""
    given = sys.argv[1:]
    if "--undo" in given:
        after = given.index("--undo") + 1
        if after == len(given) or given[after].startswith("-"):
            given.insert(after, NEWEST)
    return given


def named_files(options: Options) -> list[Path]:
    """The files to check, each there and named once."""
    from leap.data.cleaning import default_files, left_out_text

    workspace = WorkspaceConfig.from_environment()
    if not options.files:
        workspace.require(options.data_dir, "data folder")
    files, left_out = (options.files, []) if options.files else default_files(options.data_dir)
    if left_out:
        print(left_out_text(left_out, files))
    if not files:
        raise UserError(f"{options.data_dir} holds no planning file (*.jsonl); name some with --files")
    for file in [*files, *options.test_files]:
        workspace.require_file(file, "planning file")
    if len({file.resolve() for file in files}) < len(files):
        raise UserError(f"a file is named twice: {' '.join(map(str, files))}")
    strangers = {file.resolve() for file in options.test_files} - {file.resolve() for file in files}
    if strangers:
        raise UserError(f"--test_files names what --files does not: {min(strangers)}")
    return files


def put_back(options: Options) -> int:
    from leap.data.trash import TRASH, undo

    home = options.files[0].parent if options.files else options.data_dir
    trash = None
    if options.undo != NEWEST:
        named = Path(options.undo).expanduser().absolute()
        trash = named if named.is_dir() else home / TRASH / options.undo  # the name alone will do
    trash, count = undo(home, trash)
    print(f"put back {count:,} files of {trash}")
    return 0


def show(findings: dict) -> None:
    """The first defects and near-duplicates, one a line."""
    defects = findings["defects"]
    for defect in defects[:MOST_SHOWN]:
        print(f"{defect['rows'][0]}: {defect['picture']}: {defect['kind']}: {defect['reason']}")
    if len(defects) > MOST_SHOWN:
        print(f"... and {len(defects) - MOST_SHOWN:,} more defects; --report FILE has all")
    near = findings["near_duplicates"]
    for found in near[:5]:
        what = "equal" if found["equal"] else f"{found['bits']} bits, {found['colour']} levels"
        print(f"{found['picture']} is near {found['near']} ({what})")
    if len(near) > 5:
        print(f"... and {len(near) - 5:,} more; --report FILE has all")


def clear_away(options: Options, home: Path, folders: list[Path], findings: dict, looks: dict) -> None:
    """Move what --delete means to the trash, or say what it would move."""
    from leap.data.cleaning import lies_in
    from leap.data.image_checks import BLANK, BROKEN, PICTURES
    from leap.data.trash import TRASH, move_to_trash
    from leap.files import stamp_of

    reasons = {
        Path(defect["picture"]): f"{defect['kind']}: {defect['reason']}"
        for defect in findings["defects"]
        if defect["kind"] in (BROKEN, BLANK)
    }
    inside = {place: lies_in(place, folders) for place in {path.parent for path in reasons}}
    left = [path for path in reasons if not inside[path.parent] or path.suffix.lower() not in PICTURES]
    for path in left:
        print(f"left where it is, no picture file or outside of the data folders: {path}")
        del reasons[path]
    if options.orphans:
        reasons |= {Path(path): "orphan: no row names it" for path in findings["orphans"]}
    if not options.delete:
        if reasons:
            print(f"--delete would move {len(reasons):,} pictures to {home / TRASH}:")
            for path in list(reasons)[:MOST_SHOWN]:
                print(f"  {path} ({reasons[path]})")
            if len(reasons) > MOST_SHOWN:
                print(f"  ... and {len(reasons) - MOST_SHOWN:,} more")
        return
    for path in [path for path in reasons if path in looks and stamp_of([path]) != looks[path].stamp]:
        print(f"left where it is, changed since it was looked at: {path}")
        del reasons[path]
    trash = move_to_trash(home, reasons)
    print(f"moved {len(reasons):,} pictures to {trash}; --undo puts them back" if trash else "no picture to move")


if __name__ == "__main__":
    run(main)
