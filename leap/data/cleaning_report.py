"""What a check of planning files and their pictures found, as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leap.data.image_checks import KINDS, MISSING, Limits, PictureCheck
from leap.data.row_checks import CheckedRow, PlanningFile

_MOST_ROWS = 3  # that the report names for a picture
_MOST_SHOWN = 20  # defects, and tasks that lost pictures, in the text
_MOST_NEAR_SHOWN = 5


def incomplete_tasks(files: Iterable[PlanningFile]) -> list[dict]:
    """Tasks that lost pictures: {"task", "episodes", "pictures", "sound", "lost": [file, or text as written if there is
    none]}, the worst first."""
    tasks: dict[str, _Task] = {}
    for file in files:
        for row in file.rows:
            if row.pictures:
                tasks.setdefault(row.task or "(unnamed)", _Task()).add(row)
    records = [
        {
            "task": name,
            "episodes": len(task.episodes),
            "pictures": len(task.pictures),
            "sound": len(task.pictures - task.lost),
            "lost": sorted(task.lost),
        }
        for name, task in tasks.items()
        if task.lost
    ]
    return sorted(records, key=lambda task: (-len(task["lost"]), task["task"]))


@dataclass
class _Task:
    """What the rows of a task name, and which of the pictures are lost."""

    episodes: set[str] = field(default_factory=set)
    pictures: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def add(self, row: CheckedRow) -> None:
        names = {written: str(path or written) for written, path in row.pictures}
        self.episodes |= {row.episode} if row.episode else set()
        self.pictures |= set(names.values())
        self.lost |= {names[r.written] for r in row.reasons if r.kind in KINDS and r.written in names}


def report(
    files: Sequence[PlanningFile],
    checks: Mapping[Path, PictureCheck],
    limits: Limits,
    near: list[dict],
    unnamed: list[Path],
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
        _defect_record(str(path), *defect, rows)
        for path, rows in rows_of.items()
        if path in checks and (defect := checks[path].defect(limits))
    ]
    defects += [_defect_record(written, MISSING, "not found", rows) for written, rows in missing.items()]
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
        | {"orphans": len(unnamed)},
        "defects": defects,
        "incomplete_tasks": incomplete_tasks(files),
        "near_duplicates": near,
        "orphans": list(map(str, unnamed)),
    }


def _defect_record(picture: str, kind: str, reason: str, rows: list[str]) -> dict:
    return {"picture": picture, "kind": kind, "reason": reason, "count": len(rows), "rows": rows[:_MOST_ROWS]}


def report_text(findings: dict) -> str:
    """The counts of a report as plain text."""
    names = [Path(path).name for path in findings["files"]]
    width = max(map(len, names)) + 2
    lines = [f"{'file':{width}}{'side':>10}{'rows':>12}{'kept':>12}{'dropped':>12}"]
    for name, file in zip(names, findings["files"].values(), strict=True):
        side = "tested" if file["tested"] else "training"
        lines.append(f"{name:{width}}{side:>10}{file['rows']:>12,}{file['kept']:>12,}{file['dropped']:>12,}")
        lines += [f"  {count:,} rows: {kind}" for kind, count in sorted(file["reasons"].items())]
    lines.append("pictures: " + ", ".join(f"{count:,} {kind}" for kind, count in findings["pictures"].items()))
    near = findings["near_duplicates"]
    equal = sum(entry["equal"] for entry in near)
    if {file["tested"] for file in findings["files"].values()} == {True, False}:
        lines.append(f"training pictures also tested on: {equal:,} equal, {len(near) - equal:,} near-duplicates")
    else:
        lines.append("near-duplicates: not looked for, as there is no file of the other side; see --test_files")
    tasks = findings["incomplete_tasks"]
    if tasks:
        lines.append(f"{len(tasks):,} tasks lost pictures:")
        lines.append(f"  {'lost':>8}{'sound':>8}{'episodes':>10}  task")
        for task in tasks[:_MOST_SHOWN]:
            lines.append(f"  {len(task['lost']):>8,}{task['sound']:>8,}{task['episodes']:>10,}  {task['task']:.80}")
        if len(tasks) > _MOST_SHOWN:
            lines.append(f"  ... and {len(tasks) - _MOST_SHOWN:,} more")
    return "\n".join(lines)


def defects_text(findings: dict) -> str:
    """The first defects and near-duplicates of a report, one a line; empty if there are none."""
    defects, near = findings["defects"], findings["near_duplicates"]
    lines = [f"{d['rows'][0]}: {d['picture']}: {d['kind']}: {d['reason']}" for d in defects[:_MOST_SHOWN]]
    if len(defects) > _MOST_SHOWN:
        lines.append(f"... and {len(defects) - _MOST_SHOWN:,} more defects; --report FILE has all")
    for record in near[:_MOST_NEAR_SHOWN]:
        what = "equal" if record["equal"] else f"{record['bits']} bits, {record['colour']} levels"
        lines.append(f"{record['picture']} is near {record['near']} ({what})")
    if len(near) > _MOST_NEAR_SHOWN:
        lines.append(f"... and {len(near) - _MOST_NEAR_SHOWN:,} more; --report FILE has all")
    return "\n".join(lines)
