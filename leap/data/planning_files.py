"""Which planning files a command means: those that it names, or those of a folder, each once."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import json_object
from leap.rows.records import NoRows, row_from_record

CLEANED, DROPPED = ".cleaned.jsonl", ".dropped.jsonl"  # what the image check writes beside a planning file

_TESTED = re.compile(r"(?<![a-z])(test|val|valid|validation|eval|dev|blind)(?![a-z])", re.IGNORECASE)
_TRAINED = re.compile(r"(?<![a-z])train(?![a-z])", re.IGNORECASE)
_WHOLE = re.compile(r"all_.*|.*_all", re.IGNORECASE)


def choose_planning_files(named: Sequence[Path], folder: Path, workspace: WorkspaceConfig) -> tuple[list[Path], str]:
    """(files, note): the files that a command line names, without any those of `folder`; the note says what these leave
    out, or is empty. UserError if there is none, one is missing or one is named twice."""
    note = ""
    if named:
        files = list(named)
    else:
        files, whole = default_files(workspace.require(folder, "data folder"))
        note = left_out_text(whole, files) if whole else ""
    if not files:
        raise UserError(f"{folder} holds no planning file (*.jsonl); name some with --rows")
    require_each_once(files, workspace)
    return files, note


def require_each_once(files: Sequence[Path], workspace: WorkspaceConfig) -> None:
    """UserError if a planning file is not there or is named twice."""
    for file in files:
        workspace.require_file(file, "planning file")
    if len({file.resolve() for file in files}) < len(files):
        raise UserError(f"a file is named twice: {' '.join(map(str, files))}")


def planning_files(folder: Path) -> list[Path]:
    """The planning files of a folder: *.jsonl whose first line is a planning row, but for those written here."""
    paths = [path for path in sorted(folder.glob("*.jsonl")) if not path.name.startswith(".")]
    return [path for path in paths if not path.name.endswith((CLEANED, DROPPED)) and _opens_with_a_row(path)]


def default_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """(files, left out): the planning files of a folder without those that, by name, hold the rows of its split whole.

    These are all_*.jsonl and *_all.jsonl beside a file with "train" in its name: they hold what is tested on, too.
    """
    files = planning_files(folder)
    whole = [path for path in files if _WHOLE.fullmatch(path.stem) and not is_tested(path)]
    parts = [path for path in files if path not in whole]
    return (parts, whole) if any(_TRAINED.search(path.stem) for path in parts) else (files, [])


def left_out_text(whole: Sequence[Path], parts: Sequence[Path]) -> str:
    """Why `default_files` leaves these files out, and how to have them."""
    names, others = (" ".join(path.name for path in paths) for paths in (whole, parts))
    return f"left out: {names}, by name the rows of {others} as a whole; --rows names the files to take instead"


def naming_the_check(error: UserError, path: Path) -> UserError:
    """The error; if it is the defect of one line of a planning file, with how to list those of all lines."""
    if isinstance(error, NoRows) or isinstance(error.__cause__, OSError):  # the whole file's
        return error
    command = f"python scripts/training/validate_data.py --rows {shlex.quote(str(path))}"
    return UserError(f"{str(error).rstrip('.')}. {command} lists all defects")


def is_tested(path: Path) -> bool:
    """Whether a file's name says that it is tested on: test, val, dev, eval or blind as a word."""
    return bool(_TESTED.search(path.stem))


def _opens_with_a_row(path: Path) -> bool:
    try:
        with open(path, "rb") as lines:
            line = next((line for line in lines if line.strip()), b"")
        row_from_record(json_object(line, str(path)), str(path), path.parent)
    except (OSError, UserError):
        return False
    return True
