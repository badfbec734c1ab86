"""Planning files and their pictures checked against each other: sound rows, dropped rows, near-duplicates, orphans.

A row is kept if it is a planning row and every picture that it names is there and sound. `<name>.cleaned.jsonl` holds
the kept lines, byte for byte; `<name>.dropped.jsonl` the others, as {"line": number, "reason": text, "text": line}.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.errors import UserError
from leap.data.image_checks import KINDS, MISSING, PICTURES, Limits, Look
from leap.data.near_duplicates import Looks, near_duplicates
from leap.data.splits import published_ids, write_new
from leap.data.trash import Move
from leap.files import json_object
from leap.progress import Progress
from leap.rows.chat import first_file, image_candidates, image_items, task_name_of
from leap.rows.records import PlanningRow, no_rows, row_from_record
from leap.rows.videos import video_files, video_items

CLEANED, DROPPED = ".cleaned.jsonl", ".dropped.jsonl"
MALFORMED, LEAKED = "malformed row", "near a tested picture"

_TESTED = re.compile(r"(?<![a-z])(test|val|valid|validation|eval|dev|blind)(?![a-z])", re.IGNORECASE)
_TRAINED = re.compile(r"(?<![a-z])train(?![a-z])", re.IGNORECASE)
_WHOLE = re.compile(r"all_.*|.*_all", re.IGNORECASE)
_PICTURE_END = re.compile(rb'\.(?:png|jpe?g|webp|bmp|gif|tiff?)"', re.IGNORECASE)
_MOST_NAMED = 3  # rows that the report names for a picture


class Reason(NamedTuple):
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
    reasons: list[Reason] = field(default_factory=list)


@dataclass
class PlanningFile:
    """A planning file with its lines; one that is tested on keeps what the others may have to give up."""

    path: Path
    tested: bool
    rows: list[CheckedRow] = field(default_factory=list)

    @property
    def dropped(self) -> list[CheckedRow]:
        return [row for row in self.rows if row.reasons]


def planning_files(folder: Path) -> list[Path]:
    """The planning files of a folder: *.jsonl whose first line is a planning row, but for those written here."""
    found = [path for path in sorted(folder.glob("*.jsonl")) if not path.name.startswith(".")]
    return [path for path in found if not path.name.endswith((CLEANED, DROPPED)) and _opens_with_a_row(path)]


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
    return f"left out: {names}, by name the rows of {others} as a whole; --files names the files to take instead"


def naming_the_check(error: UserError, path: Path) -> UserError:
    """The error; if it is the defect of one line of a planning file, with how to list those of all lines."""
    if not str(error).startswith(f"{path}:"):
        return error
    command = f"python scripts/training/validate_data.py --train_file {shlex.quote(str(path))}"
    return UserError(f"{str(error).rstrip('.')}. {command} lists all defects")


def is_tested(path: Path) -> bool:
    """Whether a file's name says that it is tested on: test, val, dev, eval or blind as a word."""
    return bool(_TESTED.search(path.stem))


def read_file(
    path: Path, tested: bool, image_root: Path | None, workspace: Path, moved: Mapping[Path, Move]
) -> PlanningFile:
    """Read every line; one that is no planning row, or names a picture or video that is not there, has a reason.

    `moved` says what lies in the trash. UserError if no line is a planning row: it names the first one's defect.
    """
    found = PlanningFile(path, tested)
    sound, first = 0, no_rows(path)
    with open(path, "rb") as lines, Progress(f"reading {path.name}", path.stat().st_size, "byte") as progress:
        for number, line in enumerate(lines, 1):
            progress.advance(len(line))
            if not line.strip():
                continue
            row = CheckedRow(number)
            found.rows.append(row)
            try:
                planning = row_from_record(json_object(line, f"{path}:{number}"), f"{path}:{number}", path.parent)
            except UserError as error:
                row.reasons.append(Reason(MALFORMED, str(error)))
                if len(found.rows) == 1:
                    first = error
                continue
            sound += 1
            _look_up(row, planning, image_root, workspace, moved)
    if not sound:
        raise naming_the_check(first, path)
    return found


def judge_pictures(files: Iterable[PlanningFile], looks: Mapping[Path, Look], limits: Limits) -> None:
    """Give every row the defects of its pictures as reasons."""
    defects = {path: look.defect(limits) for path, look in looks.items()}
    for file in files:
        for row in file.rows:
            for written, path in row.pictures:
                defect = defects.get(path) if path else None
                if defect:
                    row.reasons.append(Reason(*defect, written))


def near_pictures(files: Sequence[PlanningFile], looks: Mapping[Path, Look], distance: int, colour: int) -> list[dict]:
    """Each picture of the training files that is equal or near to one of the tested files, with the nearest of them.

    {"picture", "near": paths, "bits", "colour": 0 to 255, "equal": by content, "others": tested ones that are near too}
    """
    sides = [[p for p in _named(f for f in files if f.tested == side) if looks[p].hash] for side in (False, True)]
    by_content: list[dict[str, Path]] = [{}, {}]
    for side, paths in enumerate(sides):
        for path in paths:
            by_content[side].setdefault(looks[path].sha256 or "", path)
    trained, tested = by_content
    equal = {digest: tested[digest] for digest in trained if digest in tested}
    apart = [path for digest, path in trained.items() if digest not in equal]
    others = list(tested.values())
    found: dict[str, dict] = {
        digest: {"near": str(path), "bits": 0, "colour": 0, "equal": True, "others": 0}
        for digest, path in equal.items()
    }
    if apart and others:
        for near in near_duplicates(_looks(apart, looks), _looks(others, looks), distance, colour):
            digest = looks[apart[near.seen]].sha256 or ""
            found[digest] = {
                "near": str(others[near.tested]),
                "bits": near.bits,
                "colour": near.colour,
                "equal": False,
                "others": near.others,
            }
    digests = {path: looks[path].sha256 or "" for path in sides[0]}
    return [{"picture": str(path)} | found[digest] for path, digest in digests.items() if digest in found]


def drop_near(files: Iterable[PlanningFile], near: Iterable[dict]) -> None:
    """Give the training rows that show such a picture a reason to be dropped."""
    by_path = {Path(found["picture"]): found for found in near}
    for file in files:
        for row in file.rows if not file.tested else ():
            for written, path in row.pictures:
                if path in by_path:
                    found = by_path[path]
                    what = "equals" if found["equal"] else f"is {found['bits']} bits from"
                    row.reasons.append(Reason(LEAKED, f"{what} {found['near']}", written))


def orphans(files: Sequence[PlanningFile], folders: Sequence[Path]) -> list[Path]:
    """Pictures beside the named ones whose file names occur nowhere in `files` nor in any JSONL file in or below
    `folders`, hidden folders left out.

    Looks into the folders of named pictures that lie in `folders`, not into folders below. What a named link leads to
    is no orphan.
    """
    texts = {file.path for file in files} | {path for folder in folders for path in _jsonl_below(folder)}
    names = {name for path in texts for name in _picture_names(path)}
    places = sorted({Path(os.path.normpath(path)).parent for path in _named(files)})
    lone, meant = [], set()
    for place in places:
        if not lies_in(place, folders):
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name not in names and Path(entry.name).suffix.lower() in PICTURES and not entry.is_dir():
                    lone.append(Path(entry.path))
                elif entry.is_symlink():
                    meant.add(os.path.realpath(entry.path))
    return sorted(path for path in lone if path.is_symlink() or os.path.realpath(path) not in meant)


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


def incomplete_tasks(files: Iterable[PlanningFile]) -> list[dict]:
    """Tasks that lost pictures: {"task", "episodes", "pictures", "sound", "lost": [file, or text as written if there is
    none]}, the worst first."""
    tasks: dict[str, dict[str, set[str]]] = {}
    for file in files:
        for row in file.rows:
            if not row.pictures:
                continue
            task = tasks.setdefault(row.task or "(unnamed)", {"episodes": set(), "pictures": set(), "lost": set()})
            names = {written: str(path or written) for written, path in row.pictures}
            task["episodes"] |= {row.episode} if row.episode else set()
            task["pictures"] |= set(names.values())
            task["lost"] |= {names[r.written] for r in row.reasons if r.kind in KINDS and r.written in names}
    found = [
        {
            "task": name,
            "episodes": len(task["episodes"]),
            "pictures": len(task["pictures"]),
            "sound": len(task["pictures"] - task["lost"]),
            "lost": sorted(task["lost"]),
        }
        for name, task in tasks.items()
        if task["lost"]
    ]
    return sorted(found, key=lambda task: (-len(task["lost"]), task["task"]))


def write_cleaned(files: Iterable[PlanningFile]) -> list[Path]:
    """Write the cleaned and the dropped rows of each file beside it; files that hold them already are left alone."""
    contents = {}
    for file in files:
        reasons = {row.number: row.reasons for row in file.dropped}
        contents[_beside(file.path, CLEANED)] = lambda file=file, bad=reasons: _kept_lines(file.path, bad)
        contents[_beside(file.path, DROPPED)] = lambda file=file, bad=reasons: _dropped_lines(file.path, bad)
    write_new(contents, overwrite=True)
    return list(contents)


def report(
    files: Sequence[PlanningFile], looks: Mapping[Path, Look], limits: Limits, near: list[dict], lone: list[Path]
) -> dict:
    """JSON value: counts of each file, of pictures by kind of defect, each defect, tasks, near-duplicates, orphans."""
    rows_of: dict[Path, list[str]] = {}
    missing: dict[str, list[str]] = {}
    for file in files:
        for row in file.rows:
            for written, path in row.pictures:
                rows = rows_of.setdefault(path, []) if path else missing.setdefault(written, [])
                rows.append(f"{file.path}:{row.number}")
    defects = [
        {"picture": str(path), "kind": defect[0], "reason": defect[1], "count": len(rows), "rows": rows[:_MOST_NAMED]}
        for path, rows in rows_of.items()
        if path in looks and (defect := looks[path].defect(limits))
    ]
    defects += [
        {"picture": written, "kind": MISSING, "reason": "not found", "count": len(rows), "rows": rows[:_MOST_NAMED]}
        for written, rows in missing.items()
    ]
    kinds = Counter(defect["kind"] for defect in defects)
    return {
        "files": {
            str(file.path): {
                "tested": file.tested,
                "rows": len(file.rows),
                "kept": len(file.rows) - len(file.dropped),
                "dropped": len(file.dropped),
                "reasons": dict(Counter(kind for row in file.rows for kind in {reason.kind for reason in row.reasons})),
            }
            for file in files
        },
        "pictures": {"named": len(rows_of) + len(missing), "sound": len(rows_of) + len(missing) - len(defects)}
        | {kind: kinds[kind] for kind in KINDS}
        | {"orphans": len(lone)},
        "defects": defects,
        "incomplete_tasks": incomplete_tasks(files),
        "near_duplicates": near,
        "orphans": list(map(str, lone)),
    }


def report_text(found: dict) -> str:
    """The counts of a report as plain text."""
    names = [Path(path).name for path in found["files"]]
    width = max(map(len, names)) + 2
    lines = [f"{'file':{width}}{'side':>10}{'rows':>12}{'kept':>12}{'dropped':>12}"]
    for name, of in zip(names, found["files"].values(), strict=True):
        side = "tested" if of["tested"] else "training"
        lines.append(f"{name:{width}}{side:>10}{of['rows']:>12,}{of['kept']:>12,}{of['dropped']:>12,}")
        lines += [f"  {count:,} rows: {kind}" for kind, count in sorted(of["reasons"].items())]
    lines.append("pictures: " + ", ".join(f"{count:,} {kind}" for kind, count in found["pictures"].items()))
    near = found["near_duplicates"]
    equal = sum(entry["equal"] for entry in near)
    if {of["tested"] for of in found["files"].values()} == {True, False}:
        lines.append(f"training pictures also tested on: {equal:,} equal, {len(near) - equal:,} near-duplicates")
    else:
        lines.append("near-duplicates: not looked for, as there is no file of the other side; see --test_files")
    tasks = found["incomplete_tasks"]
    if tasks:
        lines.append(f"{len(tasks):,} tasks lost pictures:")
        lines.append(f"  {'lost':>8}{'sound':>8}{'episodes':>10}  task")
        for task in tasks[:20]:
            lines.append(f"  {len(task['lost']):>8,}{task['sound']:>8,}{task['episodes']:>10,}  {task['task']:.80}")
        if len(tasks) > 20:
            lines.append(f"  ... and {len(tasks) - 20:,} more")
    return "\n".join(lines)


def _opens_with_a_row(path: Path) -> bool:
    try:
        with open(path, "rb") as lines:
            line = next((line for line in lines if line.strip()), b"")
        row_from_record(json_object(line, str(path)), str(path), path.parent)
    except (OSError, UserError):
        return False
    return True


def _look_up(
    row: CheckedRow, planning: PlanningRow, image_root: Path | None, workspace: Path, moved: Mapping[Path, Move]
) -> None:
    """Fill in the pictures and the task of a row, and what is missing as reasons."""
    images = image_items(planning)
    named = [(written, True) for written in images]
    for item in video_items(planning):
        named += [(written, not isinstance(item["video"], str)) for written in video_files(item)]
    for written, is_picture in named:
        candidates = image_candidates(written, planning.folder, image_root, workspace)
        path = first_file(candidates)
        if is_picture:
            row.pictures.append((written, path))
        if path is None:
            gone = next((moved[candidate] for candidate in candidates if candidate in moved), None)
            reason = f"not found, moved to {gone.kept.parent.parent} ({gone.reason})" if gone else "not found"
            row.reasons.append(Reason(MISSING, reason, written))
    task_id, row.episode = published_ids(planning)
    row.task = task_id or task_name_of(planning) or ""


def _named(files: Iterable[PlanningFile]) -> list[Path]:
    """The files that rows name, each once, in order."""
    return list(dict.fromkeys(path for file in files for row in file.rows for _, path in row.pictures if path))


def _looks(paths: Sequence[Path], looks: Mapping[Path, Look]) -> Looks:
    hashes = np.array([int(looks[path].hash or "0", 16) for path in paths], dtype=np.uint64)
    thumbnails = np.array([np.frombuffer(bytes.fromhex(looks[path].thumbnail or ""), np.uint8) for path in paths])
    return Looks(hashes, thumbnails)


def _jsonl_below(folder: Path) -> Iterator[Path]:
    """The JSONL files in a folder and below, also through links, without hidden files and folders, as the trash is."""
    seen = set()
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        seen.add(real)
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


def _kept_lines(path: Path, bad: Mapping[int, object]) -> Iterator[bytes]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and number not in bad:
                yield line if line.endswith(b"\n") else line + b"\n"


def _dropped_lines(path: Path, bad: Mapping[int, list[Reason]]) -> Iterator[bytes]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if number in bad:
                reason = "; ".join(": ".join(filter(None, (r.kind, r.written, r.text))) for r in bad[number])
                text = line.decode("utf-8", "replace").rstrip("\n")
                yield (json.dumps({"line": number, "reason": reason, "text": text}) + "\n").encode()
