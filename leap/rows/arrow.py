"""Planning rows in a memory-mapped Arrow file: made once from a planning file, shared by all processes that read it.

The file is hidden beside the data, or in the Hub's cache (HF_HOME) where that folder cannot be written. Its name holds
the content's hash and one of what else decides what is in it. It has a row for each line that is not empty:

    number      line, from 1
    text        the JSON of the planning row, or what stands there instead
    form        what the line was written as (leap/rows/sources.py)
    task        name of its task
    digest      hash of conversation and plan, to tell duplicates
    id          hash of its id, nothing where it has none
    remarks     what looks odd, a line each
    media       pictures and videos as the row names them
    stamp       hash of those files' paths, sizes and times of change (leap.rows.chat.media_stamp)
    visual, prompt, supervised      tokens
    defect, kind                    why it cannot train; then nothing is known of what it would show or its tokens
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from configs.errors import UserError
from leap.files import json_object, replacing
from leap.rows.places import name_of, places_beside
from leap.rows.records import PlanningRow, row_from_record

Batches = Iterable[pa.RecordBatch]

SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("text", pa.large_binary()),
        ("form", pa.string()),
        ("task", pa.string()),
        ("digest", pa.uint64()),
        ("id", pa.uint64()),
        ("remarks", pa.string()),
        ("media", pa.list_(pa.string())),
        ("stamp", pa.uint64()),
        ("visual", pa.int32()),
        ("prompt", pa.int32()),
        ("supervised", pa.int32()),
        ("defect", pa.string()),
        ("kind", pa.string()),
    ]
)
_BATCH = 10_000  # rows: few enough to be held, enough that there are few batches
_MOST_FILES = 4  # of a data set, each of other settings


def table_name(data: Path, content: str, settings: str) -> str:
    """The name of the table of a planning file, by the hashes of its content and of what else decides the columns."""
    return f".{data.name}.{content[:16]}.{settings[:16]}.arrow"


def find_table(data: Path, name: str) -> Path | None:
    """The table of that name, which is whole; None if there is none."""
    file = next((place / name for place in places_beside(data) if _is_table(place / name)), None)
    if file:
        with contextlib.suppress(OSError):
            os.utime(file)  # used last, removed last
    return file


def open_table(file: Path) -> pa.Table:
    """The rows of a table, not read but mapped into memory."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def write_table(data: Path, name: str, make_batches: Callable[[], Batches]) -> Path:
    """Write a table, in one step, to the first of its places that can be written, and remove those of other contents.
    UserError if there is no such place."""
    problems = []
    for place in places_beside(data):
        try:
            with replacing(place / name) as file, pa.ipc.new_file(file, SCHEMA) as writer:
                for batch in _of_equal_size(make_batches()):
                    writer.write_batch(batch)
            _remove_others(place, data, name)
            return place / name
        except OSError as error:
            problems.append(f"{place}: {error.strerror or error}")
    raise UserError(
        f"the table of {name_of(data)} cannot be written ({'; '.join(problems)}). HF_HOME names another folder"
    )


def _is_table(file: Path) -> bool:
    try:
        with pa.memory_map(str(file)) as source:
            return pa.ipc.open_file(source).schema.equals(SCHEMA)
    except (OSError, pa.ArrowInvalid):  # not there, or not whole
        return False


def _remove_others(place: Path, data: Path, name: str) -> None:
    """Remove the tables of `data` as it was, all but the newest of those of other settings, and the older JSONL form.
    Who has one of them open keeps it."""
    tables = re.compile(rf"\.{re.escape(data.name)}\.([0-9a-f]{{16}})\.[0-9a-f]{{16}}\.arrow")
    older_form = re.compile(rf"\.{re.escape(data.stem)}\.[0-9a-f]{{16}}\.lengths\.jsonl")
    content = name.split(".")[-3]
    current: list[Path] = []
    outdated: list[Path] = []
    for file in place.iterdir():
        if match := tables.fullmatch(file.name):
            (current if match[1] == content else outdated).append(file)
        elif older_form.fullmatch(file.name):
            outdated.append(file)
    current.sort(key=lambda file: -_changed(file))
    for file in outdated + current[_MOST_FILES:]:
        file.unlink(missing_ok=True)


def _changed(file: Path) -> float:
    try:
        return os.stat(file).st_mtime
    except FileNotFoundError:  # another process was quicker
        return 0.0


def _of_equal_size(batches: Batches) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `_BATCH`, so that a table is a few large pieces."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _BATCH:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches(batches) if len(batches) > 1 else batches[0]


def rows_at(table: pa.Table, indices: np.ndarray) -> pa.Table:
    """The rows at `indices`, which ascend, batch by batch: pyarrow would copy all rows to take some."""
    start, taken = 0, []
    for batch in table.to_batches():
        first, last = np.searchsorted(indices, (start, start + len(batch)))
        if first < last:
            taken.append(batch.take(pa.array(indices[first:last] - start)))
        start += len(batch)
    return pa.Table.from_batches(taken, SCHEMA)


def with_rows(table: pa.Table, indices: np.ndarray, rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """The batches of a table with the rows at `indices`, which ascend, replaced by `rows`."""
    start = 0
    for batch in table.to_batches():
        first, last = np.searchsorted(indices, (start, start + len(batch)))
        order = np.arange(len(batch))
        order[indices[first:last] - start] = len(batch) + np.arange(last - first)
        start += len(batch)
        joined = pa.Table.from_batches([batch, *rows.slice(first, last - first).to_batches()])
        yield _joined(joined.take(pa.array(order)).to_batches())


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers, 0 where nothing is known."""
    column = table.column(name)
    return (column.fill_null(0) if column.null_count else column).to_numpy()


class PlanningRows(Sequence[PlanningRow]):
    """Rows of a table, each built when it is taken out; a slice is such a sequence too. A copy in another process maps
    the same file."""

    def __init__(self, file: Path, data: Path, indices: np.ndarray, image_tokens: dict[int, int] | None = None) -> None:
        """`indices` are those of the table in `file`, made from the planning file `data`; `image_tokens` bound the
        images of rows, by their indices in the table."""
        self._made_of = file, data, indices, image_tokens or {}
        self._table = open_table(file)
        self._text, self._number = self._table.column("text"), numbers(self._table, "number")

    def __len__(self) -> int:
        return len(self._made_of[2])

    @overload
    def __getitem__(self, index: int) -> PlanningRow: ...

    @overload
    def __getitem__(self, index: slice) -> PlanningRows: ...

    def __getitem__(self, index: int | slice) -> PlanningRow | PlanningRows:
        file, data, indices, image_tokens = self._made_of
        if isinstance(index, slice):
            return PlanningRows(file, data, indices[index], image_tokens)
        line = int(indices[index])
        return row_of_line(self._text[line].as_py(), data, int(self._number[line]), image_tokens.get(line))

    def __reduce__(self) -> tuple[Any, ...]:
        return PlanningRows, self._made_of


def row_of_line(line: bytes, data: Path, number: int, image_tokens: int | None = None) -> PlanningRow:
    """The row in a line of `data`; UserError with file:line if it is none."""
    where = f"{name_of(data)}:{number}"
    row = row_from_record(json_object(line, where), where, data.parent)
    return row if image_tokens is None else replace(row, image_tokens=image_tokens)
