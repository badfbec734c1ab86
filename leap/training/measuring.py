"""The table of a planning file: every line parsed and measured, in several processes, and only what changed again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import TemplateError

from configs.errors import UserError
from leap.files import json_object, sha256_json
from leap.models.control_tokens import ControlTokens
from leap.models.loading import is_out_of_memory, is_panic
from leap.plans.reading import FormatError, read_tolerant
from leap.progress import Progress
from leap.rows.arrow import SCHEMA, find_table, numbers, open_table, rows_at, table_name, with_rows, write_table
from leap.rows.chat import image_file, image_items, media_stamp, task_name_of
from leap.rows.data_sets import content_sha256
from leap.rows.places import name_of
from leap.rows.records import PlanningRow, unread_keys
from leap.rows.sources import count_lines, form_of, numbered_lines, planning_record
from leap.rows.videos import video_files, video_items
from leap.training.lengths import PARTS, RowLength, settings_sha256
from leap.training.supervision import PlanningCollator

_T = TypeVar("_T")
_R = TypeVar("_R")
_Line = tuple[int, bytes, str | None]  # its number from 1, its text, and its format if the text is not in it any more

_CHUNK = 200  # lines a worker takes at once: enough that sending them costs little, few enough to keep all busy
_MOST_HELD = 100_000  # rows in memory at once
MALFORMED = "malformed"  # an error without a kind counts as this
_NUMBERED = re.compile(r"\s*1[).]\s*\S")
_NO_MEDIA = {"media": [], "stamp": 0}


@dataclass(frozen=True)
class CheckJob:
    """What every worker needs to know."""

    path: Path
    collator: PlanningCollator
    workers: int


def checked_table(job: CheckJob, most: int | None) -> Path:
    """The table of a file, or of its first `most` rows where there is none of all, in which every row is as the check
    finds it now."""
    content, settings = content_sha256(job.path), settings_sha256(job.collator)
    every_row, first_rows = (table_name(job.path, content, sha256_json([settings, rows])) for rows in (None, most))
    file = find_table(job.path, every_row) or find_table(job.path, first_rows)
    table = open_table(file) if file else None
    rows = None
    if table is not None:
        outdated = _outdated(table[:most], job)
        rows = rows_at(table, outdated) if len(outdated) <= _MOST_HELD else None
    if table is None or file is None or rows is None or _has_lost_pictures(rows, job):
        count = min(count_lines(job.path), most or sys.maxsize)
        return write_table(job.path, first_rows, lambda: _measured(job, _lines_of(job.path, most), count))
    measured = pa.Table.from_batches(_measured(job, _lines_in(rows), len(rows)), SCHEMA)
    if measured.equals(rows):
        return file
    return write_table(job.path, file.name, lambda: with_rows(table, outdated, measured))


def _outdated(table: pa.Table, job: CheckJob) -> np.ndarray:
    """The indices of the rows that are to be looked at again: those whose pictures changed, and those that could not
    train."""
    media = table.column("media").combine_chunks()
    written = pc.unique(media.values)
    folder, collator = job.path.parent, job.collator
    stamps = np.array(
        [_stamp_now(name, folder, collator.image_root, collator.workspace) for name in written.to_pylist()], np.uint64
    )
    per_file = stamps[pc.index_in(media.values, written).to_numpy()] if len(stamps) else stamps
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(per_file, dtype=np.uint64)])
    offsets = media.offsets.to_numpy()
    changed = sums[offsets[1:]] - sums[offsets[:-1]] != numbers(table, "stamp")
    return np.flatnonzero(changed | table.column("defect").is_valid().to_numpy())


def _has_lost_pictures(rows: pa.Table, job: CheckJob) -> bool:
    """Whether files are gone that were made of pictures in the rows themselves: only the source has those."""
    made = f".{job.path.name}.pictures{os.sep}"
    written = pc.unique(rows.column("media").combine_chunks().values).to_pylist()
    return any(made in name and not os.path.isfile(name) for name in written)


def _stamp_now(written: str, folder: Path, image_root: Path | None, workspace: Path) -> int:
    file = image_file(written, folder, image_root, workspace)
    return 0 if file is None else media_stamp(file)


def _lines_of(path: Path, most: int | None) -> Iterator[_Line]:
    return ((number, line, None) for number, line in numbered_lines(path, most))


def _lines_in(table: pa.Table) -> Iterator[_Line]:
    for batch in table.select(["number", "text", "form"]).to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _measured(job: CheckJob, lines: Iterable[_Line], count: int) -> Iterator[pa.RecordBatch]:
    """What a table holds of `count` lines."""
    with Progress(f"checking {job.path.name}", count, "row") if count else contextlib.nullcontext() as progress:
        for batch in in_workers(measure, job, lines, count):
            if progress:
                progress.advance(len(batch))
            yield batch


def in_workers(
    function: Callable[[CheckJob, list[_T]], _R], job: CheckJob, items: Iterable[_T], count: int
) -> Iterator[_R]:
    """`function` of chunks of about `count` items, in order."""
    global _call  # inherited by the forked workers: a processor is slow to send
    _call = functools.partial(function, job)
    items = iter(items)
    chunks = iter(lambda: list(itertools.islice(items, _CHUNK)), [])
    with contextlib.ExitStack() as stack:
        alone = job.workers == 1 or count <= _CHUNK
        apply = map if alone else stack.enter_context(multiprocessing.get_context("fork").Pool(job.workers)).imap
        yield from apply(_of_chunk, chunks)


_call: Callable[[list], Any]


def _of_chunk(chunk: list) -> Any:
    return _call(chunk)


def measure(job: CheckJob, lines: Sequence[_Line]) -> pa.RecordBatch:
    """What a table holds of some lines."""
    records: list[dict[str, Any]] = []
    parsed_lines = []
    for number, line, form in lines:
        records.append({"number": number, "text": line, "form": form})
        parsed = _attempt(functools.partial(_parsed, job, records[-1]), f"{name_of(job.path)}:{number}", records[-1])
        if parsed:
            parsed_lines.append((parsed, records[-1]))
    for (_, record), length in zip(parsed_lines, _lengths(job, parsed_lines), strict=True):
        if length:
            record |= {part: getattr(length, part) for part in PARTS[:3]}
    return pa.RecordBatch.from_pylist([_NO_MEDIA | record for record in records], SCHEMA)


@dataclass(frozen=True)
class _Parsed:
    """A row and the files that it shows, images first."""

    row: PlanningRow
    files: list[Path]


def _parsed(job: CheckJob, record: dict[str, Any]) -> _Parsed:
    """The row in a line, and in `record` what is found out about it beside its lengths. UserError for a defect."""
    where, collator = f"{name_of(job.path)}:{record['number']}", job.collator
    written = json_object(record["text"], where)
    form = record["form"] or form_of(written)
    planning, row = planning_record(written, where, job.path.parent)
    digest = _digest(row)
    _refuse_control_tokens(row, collator.control_tokens)
    files = collator.media_paths(row)
    record |= {
        "text": record["text"] if planning is written else json.dumps(planning).encode(),
        "form": form,
        "task": task_name_of(row) or "(unnamed)",
        "digest": digest,
        "id": None if row.id is None else _hash(row.id.encode("utf-8", "surrogatepass")),
        "remarks": "\n".join(_remarks(row, planning)),
        "media": image_items(row) + [file for item in video_items(row) for file in video_files(item)],
        "stamp": sum(map(media_stamp, map(str, files))) % 2**64,
    }
    return _Parsed(row, files)


def _lengths(job: CheckJob, lines: list[tuple[_Parsed, dict[str, Any]]]) -> list[RowLength | None]:
    """The lengths of rows, all measured together if that goes; None, and why in its record, for one that has none."""
    collator = job.collator
    if lines and not any(video_items(parsed.row) for parsed, _ in lines):
        try:
            return list(collator.lengths([parsed.row for parsed, _ in lines], [parsed.files for parsed, _ in lines]))
        except BaseException as error:  # one of them cannot be measured
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
    return [
        _attempt(functools.partial(collator.length, parsed.row), parsed.row.where, record) for parsed, record in lines
    ]


def _attempt(make: Callable[[], _T], where: str, record: dict[str, Any]) -> _T | None:
    """What `make` returns, or None and the reason as the defect of a record."""
    try:
        return make()
    except UserError as error:
        defect, kind = str(error), error.kind or MALFORMED
    except BaseException as error:  # a chat template or a library: of that row, and no reason to end the check
        if is_out_of_memory(error) or not (isinstance(error, Exception) or is_panic(error)):
            raise
        source = "the model's chat template" if isinstance(error, TemplateError) else type(error).__name__
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        kind = MALFORMED
        defect = f"{where}: the row cannot be prepared ({source}: {reason}). Mend or remove it"
    line = {name: record[name] for name in ("number", "text", "form")}
    record.clear()
    record |= line | {"defect": defect, "kind": kind}
    return None


def _refuse_control_tokens(row: PlanningRow, control_tokens: ControlTokens) -> None:
    """UserError for words that hold what the model's prompts are built with."""
    words = [item["text"] for turn in row.messages for item in turn["content"] if item["type"] == "text"]
    for source, text in [*(("the row's own words hold", text) for text in words), ("the plan holds", row.steps)]:
        if problem := control_tokens.problem(text):
            raise UserError(f"{row.where}: {source} {problem}. Mend or remove the row")


def _digest(row: PlanningRow) -> int:
    """64 bits of a hash of conversation and plan, to tell duplicates. UserError for text that no tokenizer takes: JSON
    can escape one half of a surrogate pair."""
    try:
        content = _as_text([row.messages, row.steps]).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise UserError(f"{row.where}: malformed text, half a character ({half!a}). Mend or remove the row") from error
    return _hash(content)


def _hash(content: bytes) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


_as_text = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


def _remarks(row: PlanningRow, record: dict) -> tuple[str, ...]:
    unread = tuple(f"{key}, which is not read" for key in unread_keys(record, row))
    if _is_plan(row.steps):
        return unread
    return ("a plan that is neither numbered steps nor a skill list", *unread)


@functools.lru_cache(maxsize=1 << 14)  # rows of one task share it
def _is_plan(steps: str) -> bool:
    if _NUMBERED.match(steps):
        return True
    try:
        read_tolerant(steps)
    except FormatError:
        return False
    return True
