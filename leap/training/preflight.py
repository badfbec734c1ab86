"""Pre-flight: every row of a planning file checked before a model is loaded for it.

Rows that cannot train (no JSON, no plan, a missing or damaged picture, too long) are defects with file:line; rows that
can but look odd (a duplicate, steps without numbers) are counted as remarks.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from jinja2 import TemplateError

from configs.errors import UserError
from leap.files import json_object, sha256_json, stamp_of, write_jsonl
from leap.models.control_tokens import ControlTokens
from leap.models.loading import is_out_of_memory, is_panic
from leap.plans.reading import FormatError, read_tolerant
from leap.progress import Progress
from leap.rows.chat import task_name_of
from leap.rows.records import PlanningRow, no_rows, row_from_record, unread_keys
from leap.training.lengths import CachedLength, RowLength, cache_path, read_lengths, write_lengths
from leap.training.supervision import PlanningCollator

_CHUNK = 200  # lines a worker takes at once: enough that sending them costs little, few enough to keep all busy
_OVERLONG, _MALFORMED = "longer than model_max_length", "malformed"
# The kinds of defects in the order of the report; an error without a kind counts as malformed.
_KINDS = (
    "not JSON",
    "no plan",
    "missing image or video",
    "unreadable image",
    "unreadable video",
    _OVERLONG,
    _MALFORMED,
)
_NUMBERED = re.compile(r"\s*1[).]\s*\S")


@dataclass(frozen=True)
class LineCheck:
    """What a worker finds out about a line: its length, or the defect for which it cannot train."""

    length: RowLength | None = None
    defect: str = ""
    kind: str = _MALFORMED  # of the defect, one of _KINDS
    cached: CachedLength | None = None  # for the next run; `length` differs from it where images are shrunk
    image_tokens: int | None = None  # to which each image is shrunk


@dataclass(frozen=True)
class RejectedLine:
    """A line that cannot train: its number from 1, its text, and why."""

    number: int
    line: str
    defect: str
    kind: str


@dataclass
class FileCheck:
    """What a planning file holds. `rows` and `lengths` go together and leave the rejected out."""

    path: Path
    rows: list[PlanningRow] = field(default_factory=list)
    lengths: list[RowLength] = field(default_factory=list)
    rejected: list[RejectedLine] = field(default_factory=list)
    remarks: Counter = field(default_factory=Counter)
    tasks: Counter = field(default_factory=Counter)
    shrunk: int = 0  # rows whose images are made smaller to fit

    def text(self) -> str:
        """The report as a page of plain text: counts, and the distribution of lengths in tokens."""
        lines = [
            f"{self.path}: {len(self.rows) + len(self.rejected)} rows, {len(self.tasks)} tasks, "
            f"{len(self.rejected)} rejected"
        ]
        kinds = Counter(rejected.kind for rejected in self.rejected)
        lines += [f"  {kinds[kind]} rejected: {kind}" for kind in _KINDS if kinds[kind]]
        lines += [f"  {count} rows: {remark}" for remark, count in sorted(self.remarks.items())]
        if self.shrunk:
            lines.append(f"  {self.shrunk} rows: images shrunk to fit model_max_length")
        if self.rows:
            parts = {name: [getattr(length, name) for length in self.lengths] for name in _PARTS}
            total = sum(parts["total"])
            lines.append(f"  {'tokens a row':14}{'min':>8}{'median':>8}{'95 %':>8}{'max':>8}{'sum':>14}{'share':>8}")
            for name, values in parts.items():
                ordered = sorted(values)
                marks = [ordered[0], ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))], ordered[-1]]
                cells = "".join(f"{mark:>8}" for mark in marks)
                lines.append(f"  {name:14}{cells}{sum(values):>14,}{sum(values) / total:>8.1%}")
            lines += _histogram(self.lengths)
        return "\n".join(lines)


_PARTS = ("visual", "prompt", "supervised", "total")


def check_file(
    path: Path,
    collator: PlanningCollator,
    max_length: int,
    workers: int | None = None,
    shrink: bool = False,
    most: int | None = None,
    require: Callable[[PlanningRow], object] | None = None,
) -> FileCheck:
    """Check every line of `path`, or the first `most` rows, in `workers` processes (default: one a core). UserError if
    the file has no rows.

    A row over `max_length` tokens is rejected, or with `shrink` gets smaller images, and so is one for which `require`
    raises a UserError. Lengths are kept beside the data
    for the next run.
    """
    report = FileCheck(path)
    first_with: dict[str, int] = {}
    count = min(count_rows(path), most or sys.maxsize)
    workers = workers or (1 if count <= _CHUNK else os.cpu_count() or 1)
    cache = cache_path(path, collator)
    earlier_lengths = read_lengths(cache)
    lengths: dict[int, CachedLength] = {}
    job = _CheckJob(path, collator, max_length, shrink, earlier_lengths, most)
    with Progress(f"checking {path.name}", count, "row") as progress:
        for number, line, check in _checks(job, workers):
            progress.advance()
            if check.length is None or check.cached is None:
                text = line.decode("utf-8", "replace").rstrip("\n")
                report.rejected.append(RejectedLine(number, text, check.defect, check.kind))
                continue
            row = row_from_record(json_object(line, f"{path}:{number}"), f"{path}:{number}", path.parent)
            lengths[number] = check.cached
            if require and (error := _error_of(require, row)):
                text, defect = line.decode("utf-8", "replace").rstrip("\n"), f"{row.where}: {error}"
                report.rejected.append(RejectedLine(number, text, defect, error.kind or _MALFORMED))
                continue
            report.rows.append(replace(row, image_tokens=check.image_tokens))
            report.lengths.append(check.length)
            report.shrunk += check.image_tokens is not None
            report.remarks.update(check.cached.remarks)
            report.tasks[task_name_of(row) or "(unnamed)"] += 1
            if first_with.setdefault(check.cached.digest, number) != number:
                report.remarks["duplicate of an earlier row"] += 1
    if not report.rows and not report.rejected:
        raise no_rows(path)
    if most:  # those of the other rows stay
        lengths = {**earlier_lengths, **lengths}
    if lengths and lengths != earlier_lengths:
        write_lengths(cache, lengths)
    return report


def _error_of(require: Callable[[PlanningRow], object], row: PlanningRow) -> UserError | None:
    try:
        require(row)
    except UserError as error:
        return error
    return None


def count_rows(path: Path) -> int:
    """Lines of a file that are not empty."""
    with open(path, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def write_rejected(report: FileCheck, path: Path) -> None:
    """The rejected lines as JSONL: {"line": number, "reason": text, "text": the line as it was}."""
    entries = ({"line": c.number, "reason": c.defect, "text": c.line} for c in report.rejected)
    write_jsonl(path, entries)


@dataclass(frozen=True)
class _CheckJob:
    """What every worker needs to know."""

    path: Path
    collator: PlanningCollator
    max_length: int
    shrink: bool
    earlier_lengths: Mapping[int, CachedLength]  # by line number
    most: int | None = None  # rows


def _checks(job: _CheckJob, workers: int) -> Iterator[tuple[int, bytes, LineCheck]]:
    """(number, line, check) of every line, in order. Workers send checks, not rows, back: those are large to pickle."""
    global _job  # inherited by the forked workers: a processor is slow to send
    _job = job
    with contextlib.ExitStack() as stack:
        apply = map if workers == 1 else stack.enter_context(multiprocessing.get_context("fork").Pool(workers)).imap
        for chunk, checks in zip(_chunks(job), apply(_check_chunk, _chunks(job)), strict=True):
            for (number, line), check in zip(chunk, checks, strict=True):
                yield number, line, check


_job: _CheckJob


def _chunks(job: _CheckJob) -> Iterator[list[tuple[int, bytes]]]:
    """The numbered rows that are checked, some at a time."""
    with open(job.path, "rb") as lines:
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        rows = itertools.islice(numbered, job.most)
        while chunk := list(itertools.islice(rows, _CHUNK)):
            yield chunk


def _check_chunk(chunk: list[tuple[int, bytes]]) -> list[LineCheck]:
    return [_check_line(number, line, _job) for number, line in chunk]


def _check_line(number: int, line: bytes, job: _CheckJob) -> LineCheck:
    where = f"{job.path}:{number}"
    try:
        record = json_object(line, where)
        row = row_from_record(record, where, job.path.parent)
        _refuse_half_characters(row)
        _refuse_control_tokens(row, job.collator.control_tokens)
        stamp = stamp_of(job.collator.media_paths(row))
        cached = job.earlier_lengths.get(number)
        if cached is None or cached.stamp != stamp:
            cached = CachedLength(
                number, stamp, **asdict(job.collator.length(row)), remarks=_remarks(row, record), digest=_digest(row)
            )
        return _fitted(row, cached, job)
    except UserError as error:
        return LineCheck(defect=str(error), kind=error.kind or _MALFORMED)
    except BaseException as error:  # a chat template or a library: of that row, and no reason to end the check
        if is_out_of_memory(error) or not (isinstance(error, Exception) or is_panic(error)):
            raise
        source = "the model's chat template" if isinstance(error, TemplateError) else type(error).__name__
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        return LineCheck(defect=f"{where}: the row cannot be prepared ({source}: {reason}). Mend or remove it")


def _refuse_control_tokens(row: PlanningRow, control_tokens: ControlTokens) -> None:
    """UserError for words that hold what the model's prompts are built with."""
    words = [item["text"] for turn in row.messages for item in turn["content"] if item["type"] == "text"]
    for source, text in [*(("the row's own words hold", text) for text in words), ("the plan holds", row.steps)]:
        if problem := control_tokens.problem(text):
            raise UserError(f"{row.where}: {source} {problem}. Mend or remove the row")


def _refuse_half_characters(row: PlanningRow) -> None:
    """UserError for a text that no tokenizer takes: JSON can escape one half of a surrogate pair."""
    try:
        _as_text([row.messages, row.steps]).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise UserError(f"{row.where}: malformed text, half a character ({half!a}). Mend or remove the row") from error


_as_text = json.JSONEncoder(ensure_ascii=False).encode


def _fitted(row: PlanningRow, cached: CachedLength, job: _CheckJob) -> LineCheck:
    """The check of a row by its length: it fits, it is shrunk, or it is too long."""
    length = RowLength(cached.visual, cached.prompt, cached.supervised)
    if length.total <= job.max_length:
        return LineCheck(length, cached=cached)
    fitting = job.collator.shrink_to_fit(row, length, job.max_length) if job.shrink else None
    if fitting:
        return LineCheck(job.collator.length(fitting), cached=cached, image_tokens=fitting.image_tokens)
    advice = "even with the smallest images; raise it" if job.shrink else "raise it, lower image_tokens_max"
    return LineCheck(
        defect=f"{row.where}: {length.total} tokens ({length.visual} visual) are over model_max_length "
        f"{job.max_length}; {advice} or remove the row",
        kind=_OVERLONG,
    )


def _digest(row: PlanningRow) -> str:
    """A hash of conversation and plan, to tell duplicates."""
    return sha256_json([row.messages, row.steps])[:16]


def _remarks(row: PlanningRow, record: dict) -> tuple[str, ...]:
    unread = tuple(f"{key}, which is not read" for key in unread_keys(record, row))
    if _NUMBERED.match(row.steps):
        return unread
    try:
        read_tolerant(row.steps)
    except FormatError:
        return ("a plan that is neither numbered steps nor a skill list", *unread)
    return unread


def _histogram(lengths: list[RowLength], bars: int = 10, width: int = 40) -> list[str]:
    """Rows by total length, as bars of text whose letters show the shares of visual, prompt and supervised tokens."""
    totals = [length.total for length in lengths]
    low, high = min(totals), max(totals)
    step = max(1, -(-(high - low + 1) // bars))
    binned: dict[int, list[RowLength]] = {}
    for length in lengths:
        binned.setdefault((length.total - low) // step, []).append(length)
    most = max(map(len, binned.values()))
    lines = ["  rows by length; letters: shares of visual, prompt and supervised tokens"]
    for i in range(max(binned) + 1):
        rows = binned.get(i, [])
        bar = round(width * len(rows) / most)
        total = sum(row.total for row in rows) or 1
        ends = [round(bar * sum(row.visual for row in rows) / total)]
        ends.append(round(bar * sum(row.visual + row.prompt for row in rows) / total))
        letters = "v" * ends[0] + "p" * (ends[1] - ends[0]) + "s" * (bar - ends[1])
        lines.append(f"  {low + i * step:>6} to {low + (i + 1) * step - 1:<6} {len(rows):>8} {letters}")
    return lines
