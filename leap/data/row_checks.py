"""Planning files and their pictures checked against each other: sound rows, dropped rows, near-duplicates, orphans.

A row is kept if it is a planning row and every picture that it names is there and sound. `<name>.cleaned.jsonl` holds
the kept lines, byte for byte; `<name>.dropped.jsonl` the others, as {"line": number, "reason": text, "text": line}.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.errors import UserError
from leap.data.image_checks import MISSING, Limits, PictureCheck, is_picture
from leap.data.near_duplicates import Fingerprints, near_duplicates
from leap.data.planning_files import CLEANED, DROPPED, naming_the_check
from leap.data.splits import published_ids, write_new
from leap.data.trash import Move
from leap.files import json_object
from leap.progress import Progress
from leap.rows.chat import first_file, image_candidates, image_items, task_name_of
from leap.rows.records import PlanningRow, no_rows, row_from_record
from leap.rows.videos import video_files, video_items

MALFORMED, LEAKED, TESTED = "malformed row", "near a tested picture", "shows what a benchmark tests"

_PICTURE_END = re.compile(rb'\.(?:png|jpe?g|webp|bmp|gif|tiff?)"', re.IGNORECASE)


class DropReason(NamedTuple):
    """Why a row is dropped, and for which of its pictures, as written."""

    kind: str
    text: str
    written: str = ""


@dataclass(slots=True)
class CheckedRow:
    """One line: the pictures it names as (written, file meant or None), and why it is dropped."""

    number: int
    task: str = ""
    episode: str | None = None
    pictures: list[tuple[str, Path | None]] = field(default_factory=list)
    reasons: list[DropReason] = field(default_factory=list)


@dataclass
class PlanningFile:
    """A planning file with its lines; one that is tested on keeps what the others may have to give up."""

    path: Path
    tested: bool
    rows: list[CheckedRow] = field(default_factory=list)

    @property
    def dropped(self) -> list[CheckedRow]:
        return [row for row in self.rows if row.reasons]


def read_file(
    path: Path, *, tested: bool, image_root: Path | None, workspace: Path, moved: Mapping[Path, Move]
) -> PlanningFile:
    """Read every line; one that is no planning row, or names a picture or video that is not there, has a reason.

    `moved` says what lies in the trash. UserError if no line is a planning row: it names the first one's defect.
    """
    file = PlanningFile(path, tested)
    sound = 0
    first: UserError = no_rows(path)
    with open(path, "rb") as lines, Progress(f"reading {path.name}", path.stat().st_size, "byte") as progress:
        for number, line in enumerate(lines, 1):
            progress.advance(len(line))
            if not line.strip():
                continue
            row = CheckedRow(number)
            file.rows.append(row)
            try:
                planning = row_from_record(json_object(line, f"{path}:{number}"), f"{path}:{number}", path.parent)
            except UserError as error:
                row.reasons.append(DropReason(MALFORMED, str(error)))
                if len(file.rows) == 1:
                    first = error
                continue
            sound += 1
            _look_up(row, planning, image_root, workspace, moved)
    if not sound:
        raise naming_the_check(first, path)
    return file


def judge_pictures(files: Iterable[PlanningFile], checks: Mapping[Path, PictureCheck], limits: Limits) -> None:
    """Give every row the defects of its pictures as reasons."""
    defects = {path: check.defect(limits) for path, check in checks.items()}
    for file in files:
        for row in file.rows:
            for written, path in row.pictures:
                defect = defects.get(path) if path else None
                if defect:
                    row.reasons.append(DropReason(*defect, written))


def near_pictures(
    files: Sequence[PlanningFile], checks: Mapping[Path, PictureCheck], distance: int, colour: int
) -> list[dict]:
    """Each picture of the training files that is equal or near to one of the tested files, with the nearest of them.

    {"picture", "near": paths, "bits", "colour": 0 to 255, "equal": by content, "others": tested ones that are near too}
    """
    # A content counts once, by the first path that holds it; equal contents need no fingerprint.
    trained, tested = (_by_content(files, checks, tested=side) for side in (False, True))
    matches = {digest: _near_record(tested[digest], equal=True) for digest in trained if digest in tested}
    apart = {digest: path for digest, path in trained.items() if digest not in matches}
    if apart and tested:
        digests, others = list(apart), list(tested.values())
        sides = [fingerprints_of([checks[path] for path in paths]) for paths in (list(apart.values()), others)]
        for near in near_duplicates(sides[0], sides[1], distance, colour):
            record = _near_record(others[near.tested], near.bits, near.colour, near.others)
            matches[digests[near.trained]] = record
    paths = {path: checks[path].sha256 or "" for path in _hashed_pictures(files, checks, tested=False)}
    return [{"picture": str(path)} | matches[digest] for path, digest in paths.items() if digest in matches]


def _near_record(path: Path, bits: int = 0, colour: int = 0, others: int = 0, *, equal: bool = False) -> dict:
    return {"near": str(path), "bits": bits, "colour": colour, "equal": equal, "others": others}


def _hashed_pictures(files: Iterable[PlanningFile], checks: Mapping[Path, PictureCheck], *, tested: bool) -> list[Path]:
    """The decoded pictures that the tested or the other files name."""
    named = _named(file for file in files if file.tested == tested)
    return [path for path in named if checks[path].hash]


def _by_content(files: Iterable[PlanningFile], checks: Mapping[Path, PictureCheck], *, tested: bool) -> dict[str, Path]:
    """The first picture of each content, by its SHA-256."""
    paths: dict[str, Path] = {}
    for path in _hashed_pictures(files, checks, tested=tested):
        paths.setdefault(checks[path].sha256 or "", path)
    return paths


def fingerprints_of(checks: Sequence[PictureCheck]) -> Fingerprints:
    """What pictures look like that were decoded."""
    hashes = np.array([int(check.hash or "0", 16) for check in checks], dtype=np.uint64)
    thumbnails = np.array([np.frombuffer(bytes.fromhex(check.thumbnail or ""), np.uint8) for check in checks])
    return Fingerprints(hashes, thumbnails)


def drop_near(files: Iterable[PlanningFile], near: Iterable[dict]) -> None:
    """Give the training rows that show such a picture a reason to be dropped."""
    by_path = {Path(record["picture"]): record for record in near}
    for file in files:
        for row in file.rows if not file.tested else ():
            for written, path in row.pictures:
                if path in by_path:
                    record = by_path[path]
                    what = "equals" if record["equal"] else f"is {record['bits']} bits from"
                    row.reasons.append(DropReason(LEAKED, f"{what} {record['near']}", written))


def orphans(files: Sequence[PlanningFile], folders: Sequence[Path]) -> list[Path]:
    """Pictures beside the named ones whose file names occur nowhere in `files` nor in any JSONL file in or below
    `folders`, hidden folders left out.

    Looks into the folders of named pictures that lie in `folders`, not into folders below. What a named link leads to
    is no orphan.
    """
    texts = {file.path for file in files} | {path for folder in folders for path in _jsonl_below(folder)}
    names = {name for path in texts for name in _picture_names(path)}
    unnamed, link_targets = [], set()
    for place in sorted({Path(os.path.normpath(path)).parent for path in _named(files)}):
        if not lies_in(place, folders):
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name not in names and is_picture(entry.name) and not entry.is_dir():
                    unnamed.append(Path(entry.path))
                elif entry.is_symlink():
                    link_targets.add(os.path.realpath(entry.path))
    return sorted(path for path in unnamed if path.is_symlink() or os.path.realpath(path) not in link_targets)


def lies_in(place: Path, folders: Iterable[Path]) -> bool:
    """Whether a folder really lies in one of `folders` or in a folder that a link right in one of these leads to."""
    real = Path(os.path.realpath(place))
    for folder in folders:
        if not folder.is_dir():
            continue
        linked = [child for child in folder.iterdir() if child.is_symlink() and child.is_dir()]
        if any(real.is_relative_to(os.path.realpath(root)) for root in (folder, *linked)):
            return True
    return False


def write_cleaned(files: Iterable[PlanningFile]) -> list[Path]:
    """Write the cleaned and the dropped rows of each file beside it; files that hold them already are left alone."""
    contents: dict[Path, Callable[[], Iterable[bytes]]] = {}
    for file in files:
        reasons = {row.number: row.reasons for row in file.dropped}
        contents[_beside(file.path, CLEANED)] = partial(_kept_lines, file.path, reasons)
        contents[_beside(file.path, DROPPED)] = partial(_dropped_lines, file.path, reasons)
    write_new(contents, overwrite=True)
    return list(contents)


def _look_up(
    row: CheckedRow, planning: PlanningRow, image_root: Path | None, workspace: Path, moved: Mapping[Path, Move]
) -> None:
    """Fill in the pictures and the task of a row, and what is missing as reasons."""
    for written, is_image in _named_files(planning):
        candidates = image_candidates(written, planning.folder, image_root, workspace)
        path = first_file(candidates)
        if is_image:
            row.pictures.append((written, path))
        if path is None:
            row.reasons.append(DropReason(MISSING, _why_missing(candidates, moved), written))
    task_id, row.episode = published_ids(planning)
    row.task = task_id or task_name_of(planning) or ""


def _named_files(planning: PlanningRow) -> Iterator[tuple[str, bool]]:
    """(file as written, whether it is a picture) of all that a row shows: a video may be a list of pictures."""
    yield from ((written, True) for written in image_items(planning))
    for item in video_items(planning):
        yield from ((written, not isinstance(item["video"], str)) for written in video_files(item))


def _why_missing(candidates: Sequence[Path], moved: Mapping[Path, Move]) -> str:
    move = next((moved[candidate] for candidate in candidates if candidate in moved), None)
    return f"not found, moved to {move.trashed.parent.parent} ({move.reason})" if move else "not found"


def _named(files: Iterable[PlanningFile]) -> list[Path]:
    """The files that rows name, each once, in order."""
    return list(dict.fromkeys(path for file in files for row in file.rows for _, path in row.pictures if path))


def _jsonl_below(folder: Path) -> Iterator[Path]:
    """The JSONL files in a folder and below, also through links, without hidden files and folders, as the trash is."""
    visited = set()
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        below[:] = [] if real in visited else [name for name in below if not name.startswith(".")]
        visited.add(real)
        paths = (Path(place, name) for name in names if name.endswith(".jsonl") and not name.startswith("."))
        yield from filter(Path.is_file, paths)


def _picture_names(path: Path) -> Iterator[str]:
    """The name of every picture that a JSON text in a file ends with, whatever else its lines are."""
    with open(path, "rb") as lines:
        for line in lines:
            for end in _PICTURE_END.finditer(line):
                start = line.rfind(b'"', 0, end.start())
                while start > 0 and line[start - 1 : start] == b"\\":  # a quote inside of the text
                    start = line.rfind(b'"', 0, start)
                with contextlib.suppress(ValueError):
                    yield Path(json.loads(line[start : end.end()])).name


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.stem + suffix)


def _kept_lines(path: Path, dropped: Mapping[int, object]) -> Iterator[bytes]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and number not in dropped:
                yield line if line.endswith(b"\n") else line + b"\n"


def _dropped_lines(path: Path, dropped: Mapping[int, list[DropReason]]) -> Iterator[bytes]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if number in dropped:
                reason = "; ".join(": ".join(filter(None, (r.kind, r.written, r.text))) for r in dropped[number])
                text = line.decode("utf-8", "replace").rstrip("\n")
                yield (json.dumps({"line": number, "reason": reason, "text": text}) + "\n").encode()
