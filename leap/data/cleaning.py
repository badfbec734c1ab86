"""A check of planning files and their pictures, and which pictures it lets move to the trash."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob
from leap.data.cleaning_report import report
from leap.data.image_checks import (
    BLANK,
    BROKEN,
    Limits,
    PictureCheck,
    check_pictures,
    checks_journal,
    is_picture,
    look_stamp,
)
from leap.data.planning_files import is_tested
from leap.data.row_checks import PlanningFile, drop_near, judge_pictures, lies_in, near_pictures, orphans, read_file
from leap.data.trash import trashed_files


@dataclass(frozen=True)
class CleaningKnobs:
    """What is checked, what counts as a defect, and what happens to it."""

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


@dataclass
class Cleaning:
    """Checked planning files. Pictures in `folders` may be moved to the trash of `home`; `findings` is a report of
    leap/data/cleaning_report.py."""

    home: Path
    folders: list[Path]
    files: list[PlanningFile]
    checks: dict[Path, PictureCheck]
    findings: dict[str, Any]

    @property
    def drops_rows(self) -> bool:
        return any(file.dropped for file in self.files)


def require_test_files(knobs: CleaningKnobs, files: Sequence[Path], workspace: WorkspaceConfig) -> None:
    """UserError if a tested file is not there or is none of the files to check."""
    for file in knobs.test_files:
        workspace.require_file(file, "planning file")
    strangers = {file.resolve() for file in knobs.test_files} - {file.resolve() for file in files}
    if strangers:
        raise UserError(f"--test_files names what --rows does not: {min(strangers)}")


def check_files(
    files: Sequence[Path],
    knobs: CleaningKnobs,
    workspace: WorkspaceConfig,
    drop_more: Callable[[Sequence[PlanningFile]], None] | None = None,
) -> Cleaning:
    """Read the rows, check the pictures, and give each row that must go its reasons; `drop_more` may add to them."""
    home = files[0].parent
    folders = dict.fromkeys([*(file.parent for file in files), workspace.data, *filter(None, [knobs.image_root])])
    tested = {file.resolve() for file in knobs.test_files or filter(is_tested, files)}
    moved = trashed_files(home)
    checked = [
        read_file(
            file,
            tested=file.resolve() in tested,
            image_root=knobs.image_root,
            workspace=workspace.root,
            moved=moved,
        )
        for file in files
    ]
    paths = dict.fromkeys(path for file in checked for row in file.rows for _, path in row.pictures if path)
    checks = check_pictures(paths, checks_journal(home), knobs.workers or os.cpu_count() or 1, knobs.max_pixels)
    limits = Limits(knobs.min_side, knobs.max_pixels, knobs.max_aspect, knobs.blank_deviation)
    judge_pictures(checked, checks, limits)
    near = near_pictures(checked, checks, knobs.distance, knobs.colour_distance) if knobs.near_duplicates else []
    if knobs.drop_near_duplicates:
        drop_near(checked, near)
    if drop_more:
        drop_more(checked)
    findings = report(checked, checks, limits, near, orphans(checked, list(folders)))
    return Cleaning(home, list(folders), checked, checks, findings)


def pictures_to_move(cleaning: Cleaning, *, with_orphans: bool) -> tuple[dict[Path, str], list[Path]]:
    """({picture: reason} of what goes to the trash, broken or blank files that stay).

    A file stays that has no picture's name or really lies outside of the data folders: a row may name anything.
    """
    reasons = {
        Path(defect["picture"]): f"{defect['kind']}: {defect['reason']}"
        for defect in cleaning.findings["defects"]
        if defect["kind"] in (BROKEN, BLANK)
    }
    inside = {place: lies_in(place, cleaning.folders) for place in {path.parent for path in reasons}}
    staying = [path for path in reasons if not inside[path.parent] or not is_picture(path.name)]
    for path in staying:
        del reasons[path]
    if with_orphans:
        reasons |= {Path(path): "orphan: no row names it" for path in cleaning.findings["orphans"]}
    return reasons, staying


def changed_pictures(cleaning: Cleaning, paths: Iterable[Path]) -> list[Path]:
    """Those of these pictures that changed since they were checked."""
    checked = (path for path in paths if path in cleaning.checks)
    return [path for path in checked if look_stamp(path) != cleaning.checks[path].stamp]
