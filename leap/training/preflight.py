"""Pre-flight: every row of a planning file checked before a model is loaded for it.

Rows that cannot train (no JSON, no plan, a missing or damaged picture, too long) are defects with file:line; rows that
can but look odd (a duplicate, steps without numbers) are counted as remarks.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import UserError
from leap.data.image_checks import checks_journal
from leap.files import write_jsonl
from leap.progress import say
from leap.rows.arrow import PlanningRows, numbers, open_table
from leap.rows.places import name_of
from leap.rows.records import PlanningRow, no_rows
from leap.rows.sources import PLANNING_ROWS, SKILL_SEQUENCES, JoinedRows
from leap.text import plural
from leap.training.lengths import PARTS, RowLength, RowLengths
from leap.training.measuring import MALFORMED, CheckJob, checked_table, in_workers
from leap.training.supervision import PlanningCollator
from leap.vlabench.held_out import DisplayedRow, refuse_leaks

_OVERLONG = "longer than model_max_length"
# The kinds of defects in the order of the report.
_KINDS = (
    "not JSON",
    "no plan",
    "missing image or video",
    "unreadable image",
    "unreadable video",
    _OVERLONG,
    MALFORMED,
)


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
    rows: Sequence[PlanningRow]
    lengths: RowLengths
    rejected: list[RejectedLine] = field(default_factory=list)
    remarks: Counter = field(default_factory=Counter)
    tasks: Counter = field(default_factory=Counter)
    shrunk: int = 0  # rows whose images are made smaller to fit
    form: str = PLANNING_ROWS  # what the rows are written as
    digests: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # (rows,) of conversation and plan
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # (rows,) hashes, 0 where there is none

    def text(self) -> str:
        """The report as a page of plain text: counts, and the distribution of lengths in tokens."""
        lines = [
            f"{name_of(self.path)}: {len(self.rows) + len(self.rejected)} rows, {len(self.tasks)} tasks, "
            f"{len(self.rejected)} rejected"
        ]
        if self.form != PLANNING_ROWS:
            lines.append(f"  read as {self.form}")
        kinds = Counter(rejected.kind for rejected in self.rejected)
        lines += [f"  {kinds[kind]} rejected: {kind}" for kind in _KINDS if kinds[kind]]
        lines += [f"  {count} rows: {remark}" for remark, count in sorted(self.remarks.items())]
        if self.shrunk:
            lines.append(f"  {self.shrunk} rows: images shrunk to fit model_max_length")
        if self.rows:
            total = self.lengths.total.sum()
            lines.append(f"  {'tokens a row':14}{'min':>8}{'median':>8}{'95 %':>8}{'max':>8}{'sum':>14}{'share':>8}")
            for name in PARTS:
                ordered = np.sort(getattr(self.lengths, name))
                marks = ordered[[0, len(ordered) // 2, int(0.95 * (len(ordered) - 1)), -1]]
                cells = "".join(f"{mark:>8}" for mark in marks)
                lines.append(f"  {name:14}{cells}{ordered.sum():>14,}{ordered.sum() / total:>8.1%}")
            lines += _histogram(self.lengths)
        return "\n".join(lines)


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
    raises a UserError. What was found out is kept in a table (leap/rows/arrow.py); with it nothing is read again but
    the sizes and times of change of pictures, and the lines that could not train.
    """
    job = CheckJob(path, collator, workers or os.cpu_count() or 1)
    file = checked_table(job, most)
    table = open_table(file)[:most]
    if not len(table):
        raise no_rows(path)
    form = _only_form(table, path)
    lengths = RowLengths(*(numbers(table, part) for part in PARTS[:3]))
    trainable = table.column("defect").is_null().to_numpy()
    defects = {index: _verdict(table, index) for index in np.flatnonzero(~trainable).tolist()}

    image_tokens: dict[int, int] = {}
    overlong = np.flatnonzero(trainable & (lengths.total > max_length))
    for index, fit in _fits(job, file, overlong, lengths.select(overlong), max_length, shrink=shrink):
        if fit.length:
            image_tokens[index] = fit.image_tokens
            lengths.put(index, fit.length)
        else:
            defects[index] = fit.defect, _OVERLONG
            trainable[index] = False
    if require:
        good = np.flatnonzero(trainable)
        for index, row in zip(good.tolist(), PlanningRows(file, path, good, image_tokens), strict=True):
            if error := _error_of(require, row):
                defects[index] = f"{row.where}: {error}", error.kind or MALFORMED
                trainable[index] = False

    good = np.flatnonzero(trainable)
    digests = numbers(table, "digest")
    return FileCheck(
        path,
        PlanningRows(file, path, good, image_tokens),
        lengths.select(good),
        [_rejected(table, index, *defects[index]) for index in sorted(defects)],
        _remark_counts(table, trainable, digests[good]),
        _counts(table, "task", trainable),
        len(image_tokens.keys() - defects.keys()),
        form,
        digests[good],
        numbers(table, "id")[good],
    )


def joined(checks: Sequence[FileCheck]) -> FileCheck:
    """What several files hold that can train, one behind the other, and what they hold that cannot."""
    if len(checks) == 1:
        return checks[0]
    return replace(
        checks[0],
        rows=JoinedRows([check.rows for check in checks]),
        lengths=RowLengths.joined([check.lengths for check in checks]),
        digests=np.concatenate([check.digests for check in checks]),
        ids=np.concatenate([check.ids for check in checks]),
        rejected=[rejected for check in checks for rejected in check.rejected],
    )


def refuse_same_ids(checks: Sequence[FileCheck]) -> None:
    """UserError if two files hold rows of the same id; rows without one are not concerned. Says how many rows stand in
    more than one file all the same."""
    # At a million rows: arrays of hashes, no object a row.
    unique = np.concatenate([_distinct(check.ids[check.ids > 0]) for check in checks])
    values, counts = np.unique(unique, return_counts=True)
    repeated = values[counts > 1]
    if len(repeated):
        matches = ((check, np.flatnonzero(np.isin(check.ids, repeated))) for check in checks)
        holder, indices = next((check, indices) for check, indices in matches if len(indices))
        row_id = holder.ids[indices[0]]
        first, second, *_ = (check.rows[int((check.ids == row_id).argmax())] for check in checks if row_id in check.ids)
        raise UserError(
            f"{first.where} and {second.where} have the same id {first.id!r:.60}; {plural(len(repeated), 'id')} in all "
            "stand in more than one of the files. Give the rows of one file other ids, or leave them out of it; a file "
            "that is to count more takes a weight"
        )
    digests = [_distinct(check.digests) for check in checks]
    if count := sum(map(len, digests)) - len(_distinct(np.concatenate(digests))):
        say(f"warning: {count} rows stand in more than one of the files, and train once for each")


def _distinct(hashes: np.ndarray) -> np.ndarray:
    """Each of these once."""
    # Asked for counts, numpy sorts; else it fills a hash table, which took 20 times as long for 500,000 (numpy 2.4).
    return np.unique(hashes, return_counts=True)[0]


def refuse_tested(checks: Sequence[FileCheck], collator: PlanningCollator, benchmark: Path, logs: Path) -> None:
    """UserError if a row of a benchmark's form shows a picture of the `benchmark` that is tested on. Looks at pictures
    are kept beside the rows, or in `logs`."""
    for check in checks:
        if check.form == SKILL_SEQUENCES:
            rows = [
                DisplayedRow(row.where, row.task_name or "", (), None, collator.image_paths(row)) for row in check.rows
            ]
            looks = checks_journal(check.path.parent if check.path.parent.is_dir() else logs)
            advice = "Train on examples that are not tested on: take these rows out"
            say(refuse_leaks("row", rows, benchmark, looks, advice, shared_instructions=True))


def _only_form(table: pa.Table, path: Path) -> str:
    """What the rows of a file that can be read are written as. UserError where they are not written alike."""
    forms = table.column("form")
    counts = pc.value_counts(forms.drop_null()).field("values").to_pylist()
    if len(counts) > 1:
        row = pc.index(forms, counts[1]).as_py()
        raise UserError(
            f"{name_of(path)}:{table.column('number')[row]}: one of {counts[1]}, where {counts[0]} come first; a file "
            "holds one format. Part it in two, and name both with --train_file"
        )
    return counts[0] if counts else PLANNING_ROWS


def _verdict(table: pa.Table, index: int) -> tuple[str, str]:
    return table.column("defect")[index].as_py(), table.column("kind")[index].as_py()


def _rejected(table: pa.Table, index: int, defect: str, kind: str) -> RejectedLine:
    text = table.column("text")[index].as_py().decode("utf-8", "replace").rstrip("\n")
    return RejectedLine(table.column("number")[index].as_py(), text, defect, kind)


def _counts(table: pa.Table, name: str, chosen: np.ndarray) -> Counter:
    """How often each text of a column stands in the chosen rows."""
    counts = pc.value_counts(table.column(name).filter(pa.array(chosen)))
    return Counter(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))


def _remark_counts(table: pa.Table, trainable: np.ndarray, digests: np.ndarray) -> Counter:
    """How many of the rows that can train have each remark."""
    remarks: Counter = Counter()
    for text, count in _counts(table, "remarks", trainable).items():
        remarks.update(dict.fromkeys(text.splitlines(), count))
    if duplicates := len(digests) - len(_distinct(digests)):
        remarks["duplicate of an earlier row"] = duplicates
    return remarks


def _error_of(require: Callable[[PlanningRow], object], row: PlanningRow) -> UserError | None:
    try:
        require(row)
    except UserError as error:
        return error
    return None


def write_rejected(report: FileCheck, path: Path) -> None:
    """The rejected lines as JSONL: {"line": number, "reason": text, "text": the line as it was}."""
    entries = ({"line": c.number, "reason": c.defect, "text": c.line} for c in report.rejected)
    write_jsonl(path, entries)


@dataclass(frozen=True)
class _Fit:
    """How a row that is too long fits, with smaller images, or why it does not."""

    length: RowLength | None = None
    image_tokens: int = 0  # the most of each image
    defect: str = ""


def _fits(
    job: CheckJob, file: Path, overlong: np.ndarray, lengths: RowLengths, max_length: int, *, shrink: bool
) -> Iterator[tuple[int, _Fit]]:
    """How each of the overlong rows of a table fits, by its index."""
    rows = zip(PlanningRows(file, job.path, overlong), lengths, strict=True)
    fit = functools.partial(fits, max_length, shrink)
    chunks = in_workers(fit, job, rows, len(overlong) if shrink else 0)
    return zip(map(int, overlong), itertools.chain.from_iterable(chunks), strict=True)


def fits(max_length: int, shrink: bool, job: CheckJob, rows: list[tuple[PlanningRow, RowLength]]) -> list[_Fit]:
    """How each of some rows that are too long fits; with `shrink` its images may get smaller."""
    verdicts = []
    for row, length in rows:
        fitting = job.collator.shrink_to_fit(row, length, max_length) if shrink else None
        if fitting and fitting.image_tokens:
            verdicts.append(_Fit(job.collator.length(fitting), fitting.image_tokens))
            continue
        advice = "even with the smallest images; raise it" if shrink else "raise it, lower image_tokens_max"
        defect = f"{length.total} tokens ({length.visual} visual) are over model_max_length {max_length}; {advice}"
        verdicts.append(_Fit(defect=f"{row.where}: {defect} or remove the row"))
    return verdicts


def _histogram(lengths: RowLengths, bars: int = 10, width: int = 40) -> list[str]:
    """Rows by total length, as bars of text whose letters show the shares of visual, prompt and supervised tokens."""
    low, high = int(lengths.total.min()), int(lengths.total.max())
    step = max(1, -(-(high - low + 1) // bars))
    bins = (lengths.total - low) // step
    rows = np.bincount(bins)
    visual, prompt, total = (np.bincount(bins, part) for part in (lengths.visual, lengths.prompt, lengths.total))
    lines = ["  rows by length; letters: shares of visual, prompt and supervised tokens"]
    for i, count in enumerate(rows.tolist()):
        bar = round(width * count / int(rows.max()))
        tokens = int(total[i]) or 1
        ends = [round(bar * int(visual[i]) / tokens), round(bar * int(visual[i] + prompt[i]) / tokens)]
        letters = "v" * ends[0] + "p" * (ends[1] - ends[0]) + "s" * (bar - ends[1])
        lines.append(f"  {low + i * step:>6} to {low + (i + 1) * step - 1:<6} {count:>8} {letters}")
    return lines
