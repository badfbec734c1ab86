"""Pre-flight: every row of a planning file checked before a model is loaded for it.

Rows that cannot train (no JSON, no plan, a missing or damaged picture, too long) are defects with file:line; rows that
can but look odd (a duplicate, steps without numbers) are counted as remarks.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import UserError
from leap.chat import task_name_in
from leap.plans import FormatError, read_tolerant
from leap.progress import Progress
from leap.records import PlanningRow, row_from_record
from leap.supervision import PlanningCollator, RowLength

_CHUNK = 200  # lines a worker takes at once
_NUMBERED = re.compile(r"\s*1[).]\s*\S")


@dataclass(frozen=True)
class Checked:
    """One line of the file: its row and length, or the reason why it cannot train. `remarks` do not stop a run."""

    number: int
    line: str
    row: PlanningRow | None = None
    length: RowLength | None = None
    defect: str = ""
    remarks: tuple[str, ...] = ()
    digest: str = ""  # of conversation and plan, to tell duplicates


@dataclass
class Report:
    """What a planning file holds. `rows` and `lengths` go together and leave the rejected out."""

    path: Path
    rows: list[PlanningRow] = field(default_factory=list)
    lengths: list[RowLength] = field(default_factory=list)
    rejected: list[Checked] = field(default_factory=list)
    remarks: Counter = field(default_factory=Counter)
    tasks: Counter = field(default_factory=Counter)

    def text(self) -> str:
        """The report as a page of plain text: counts, and the distribution of lengths in tokens."""
        lines = [
            f"{self.path}: {len(self.rows) + len(self.rejected)} rows, {len(self.tasks)} tasks, "
            f"{len(self.rejected)} rejected"
        ]
        lines += [f"  {count} rows: {remark}" for remark, count in sorted(self.remarks.items())]
        if self.rows:
            parts = {name: [getattr(length, name) for length in self.lengths] for name in _PARTS}
            total = sum(parts["total"])
            lines.append(f"  {'tokens a row':14}{'min':>8}{'median':>8}{'95 %':>8}{'max':>8}{'sum':>14}{'share':>8}")
            for name, values in parts.items():
                ordered = sorted(values)
                marks = [ordered[0], ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))], ordered[-1]]
                cells = "".join(f"{mark:>8}" for mark in marks)
                lines.append(f"  {name:14}{cells}{sum(values):>14,}{sum(values) / total:>8.1%}")
            lines += _histogram(parts["total"])
        return "\n".join(lines)


_PARTS = ("visual", "prompt", "supervised", "total")


def check_file(path: Path, collator: PlanningCollator, max_length: int, workers: int | None = None) -> Report:
    """Check every line of `path` in `workers` processes (default: one a core). UserError if the file has no rows."""
    report = Report(path)
    seen: dict[str, int] = {}
    count = count_rows(path)
    workers = workers or (1 if count <= _CHUNK else os.cpu_count() or 1)
    with Progress(f"checking {path.name}", count, "row") as progress:
        for checked in _all_checked(path, collator, max_length, workers):
            progress.advance()
            if checked.row is None or checked.length is None:
                report.rejected.append(checked)
                continue
            report.rows.append(checked.row)
            report.lengths.append(checked.length)
            report.remarks.update(checked.remarks)
            report.tasks[_task_of(checked.row)] += 1
            if seen.setdefault(checked.digest, checked.number) != checked.number:
                report.remarks["duplicate of an earlier row"] += 1
    if not report.rows and not report.rejected:
        raise UserError(f'{path} holds no planning rows. Each line is {{"messages": [...], "target": {{...}}}}')
    return report


def count_rows(path: Path) -> int:
    """Lines of a file that are not empty."""
    with open(path, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def write_rejected(report: Report, path: Path) -> None:
    """The rejected lines as JSONL: {"line": number, "reason": text, "text": the line as it was}."""
    from leap.files import write_text

    entries = ({"line": c.number, "reason": c.defect, "text": c.line} for c in report.rejected)
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in entries))


def _all_checked(path: Path, collator: PlanningCollator, max_length: int, workers: int) -> Iterator[Checked]:
    global _job  # inherited by the forked workers: a processor is slow to send
    _job = (path, collator, max_length)
    chunks = _chunks(path)
    if workers == 1:
        for chunk in chunks:
            yield from _check_chunk(chunk)
        return
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for checked in pool.imap(_check_chunk, chunks):
            yield from checked


_job: tuple[Path, PlanningCollator, int]


def _chunks(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    chunk: list[tuple[int, bytes]] = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                chunk.append((number, line))
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _check_chunk(chunk: list[tuple[int, bytes]]) -> list[Checked]:
    return [_check_line(number, line, *_job) for number, line in chunk]


def _check_line(number: int, line: bytes, path: Path, collator: PlanningCollator, max_length: int) -> Checked:
    where = f"{path}:{number}"
    text = line.decode("utf-8", "replace").rstrip("\n")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Checked(number, text, defect=f"{where}: not valid JSON ({error}). Mend or remove the line")
    if not isinstance(record, dict):
        return Checked(number, text, defect=f"{where}: expected a JSON object, found {type(record).__name__}")
    try:
        row = row_from_record(record, where, path.parent)
        length = collator.length(row)
    except UserError as error:
        return Checked(number, text, defect=str(error))
    if length.total > max_length:
        reason = (
            f"{where}: {length.total} tokens ({length.visual} visual) are over model_max_length {max_length}; "
            "raise it, lower image_tokens_max or remove the row"
        )
        return Checked(number, text, defect=reason)
    digest = hashlib.sha256(json.dumps([row.messages, row.steps], sort_keys=True).encode()).hexdigest()
    return Checked(number, text, row, length, remarks=_remarks(row), digest=digest)


def _remarks(row: PlanningRow) -> tuple[str, ...]:
    if _NUMBERED.match(row.steps):
        return ()
    try:
        read_tolerant(row.steps)
    except FormatError:
        return ("a plan that is neither numbered steps nor a skill list",)
    return ()


def _task_of(row: PlanningRow) -> str:
    if row.task_name:
        return row.task_name
    texts = (item["text"] for turn in row.messages for item in turn["content"] if item["type"] == "text")
    return next((name for name in map(task_name_in, texts) if name), "(unnamed)")


def _histogram(values: list[int], bars: int = 10, width: int = 40) -> list[str]:
    """Rows by total length, as bars of text."""
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // bars))
    counts = Counter((value - low) // step for value in values)
    most = max(counts.values())
    return [
        f"  {low + i * step:>6} to {low + (i + 1) * step - 1:<6} {counts[i]:>8} {'#' * round(width * counts[i] / most)}"
        for i in range(max(counts) + 1)
    ]
