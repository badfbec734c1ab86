"""Where rows come from: JSONL, JSONL in gzip, Parquet or data sets of Hugging Face, in one of several formats; and
several of these in shares.

    data/a.jsonl                every row once an epoch
    data/b.jsonl.gz:0.3         three tenths of the rows an epoch, other ones in each until all were seen
    data/c.parquet:2            every row twice an epoch
    data/set#train              a folder that save_to_disk wrote, and its split
    hf://owner/name#train:0.5   a split of a repository of the Hub

A file holds planning rows, conversations as leap/rows/exchange.py reads them, or rows whose plan is a benchmark's truth
(leap/rows/truths.py), of one format throughout.
"""

from __future__ import annotations

import gzip
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.rows.data_sets import (
    BATCH,
    MEDIA_KEYS,
    MediaFolder,
    count_rows,
    data_set_lines,
    is_data_set,
    json_line,
    require_data_set,
)
from leap.rows.exchange import imported
from leap.rows.places import is_of_hub, name_of
from leap.rows.records import PlanningRow, row_from_record
from leap.rows.truths import is_truth, with_plan

PLANNING_ROWS = "LEAP rows"
SKILL_SEQUENCES = "VLABench skill sequences"


@dataclass(frozen=True)
class Source:
    """A planning file, and how often an epoch sees each of its rows."""

    path: Path
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{name_of(self.path)}:{self.weight:g}"


@dataclass(frozen=True)
class Mixture:
    """Several sources, each in its share."""

    sources: tuple[Source, ...]


def source_of(text: str) -> Source:
    """A path, or a path and its weight with a colon between them. UserError for a weight that is no number above 0."""
    path, colon, weight = text.rpartition(":")
    if not colon or "/" in weight or Path(text).exists():
        return Source(Path(text))
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not (0 < number < math.inf):
        raise UserError(f"{text}: the weight of a file must be a number above 0, found {weight!r}. Write {path}:0.5")
    return Source(Path(path), number)


def data_named(words: Sequence[str]) -> Path | Mixture:
    """What a command line or a recipe names: a file alone as its path, else what is mixed. UserError for a file that is
    named twice."""
    sources = list(map(source_of, words))
    paths = [source.path if is_of_hub(source.path) else source.path.resolve() for source in sources]
    if repeated := next((path for i, path in enumerate(paths) if path in paths[:i]), None):
        raise UserError(f"{name_of(repeated)} is named twice; name it once, with a weight: {name_of(repeated)}:2")
    return sources[0].path if len(sources) == 1 and sources[0].weight == 1 else Mixture(tuple(sources))


def words_of(data: Path | Mixture) -> str | list[str]:
    """`data_named` in the other direction."""
    return list(map(str, data.sources)) if isinstance(data, Mixture) else name_of(data)


def sources_in(data: Path | Mixture) -> tuple[Source, ...]:
    """The sources of a mixture, or a file as the only one."""
    return data.sources if isinstance(data, Mixture) else (Source(data),)


def require_source(workspace: WorkspaceConfig, path: Path, what: str) -> None:
    """UserError if there is no such file, or a folder that is no data set. The Hub is not asked."""
    if is_data_set(path):
        require_data_set(path, what)
    else:
        workspace.require_file(path, what)


def count_lines(path: Path) -> int:
    """Rows of a source: of a file, the lines that are not empty."""
    if is_data_set(path):
        return count_rows(path)
    if path.suffix == ".parquet":
        return _parquet(path).metadata.num_rows
    return sum(1 for _ in numbered_lines(path))


def numbered_lines(
    path: Path, most: int | None = None, media: MediaFolder | None = None
) -> Iterator[tuple[int, bytes]]:
    """(number from 1, JSON) of the lines of a file that are not empty or the rows of a table or data set; or of the
    first `most`. Pictures in the rows become files of `media`. UserError where the source cannot be read any further.
    """
    media = media or MediaFolder(path)
    if is_data_set(path):
        lines = data_set_lines(path, media)
    else:
        lines = _parquet_lines(path, media) if path.suffix == ".parquet" else _lines(path)
    return itertools.islice(((number, line) for number, line in enumerate(lines, 1) if line.strip()), most)


def _lines(path: Path) -> Iterator[bytes]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            for line in file:
                number += 1
                yield line
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}:{number + 1}: cannot be read ({reason}). Fetch or write the file anew") from error


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: no Parquet file that can be read ({error}). Fetch or write it anew") from error


def _parquet_lines(path: Path, media: MediaFolder) -> Iterator[bytes]:
    for number, record in enumerate(_parquet_records(path), 1):
        yield json_line(record, media, f"{path}:{number}")


def _parquet_records(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    table, number = _parquet(path), 0
    for group in range(table.num_row_groups):
        try:
            for batch in table.iter_batches(BATCH, [group]):
                for record in batch.to_pylist():
                    number += 1
                    yield record
        except (OSError, pa.ArrowException) as error:
            place = f"row group {group + 1} of {table.num_row_groups}, row {number + 1}"
            raise UserError(f"{path}: {place}: cannot be read ({error}). Fetch or write the file anew") from error


def form_of(record: dict[str, Any]) -> str:
    """What a JSON object is written as."""
    if is_truth(record):
        return SKILL_SEQUENCES
    if "conversations" in record:
        return "ShareGPT conversations"
    if "target" not in record and "completion" in record:
        return "prompts with completions"
    turns = record.get("messages")
    last = turns[-1] if "target" not in record and isinstance(turns, list) and turns else None
    return "chats" if isinstance(last, dict) and last.get("role") == "assistant" else PLANNING_ROWS


def planning_record(record: dict[str, Any], where: str, folder: Path) -> tuple[dict[str, Any], PlanningRow]:
    """A JSON object of any of the formats as one of a planning row, and the row. UserError that begins with `where`."""
    form = form_of(record)
    if form == SKILL_SEQUENCES:
        record = with_plan(record, where)
    if form != PLANNING_ROWS:
        record = imported(record, where, folder)
    try:
        return record, row_from_record(record, where, folder)
    except UserError as error:  # a planning row whose words mark the pictures of a column
        if "target" not in record or not any(record.get(column) for column in MEDIA_KEYS):
            raise
        try:
            record = imported(record, where, folder)
        except UserError:
            raise error from None
        return record, row_from_record(record, where, folder)


class JoinedRows(Sequence[PlanningRow]):
    """The rows of several sources one behind the other; a slice is a list."""

    def __init__(self, parts: Sequence[Sequence[PlanningRow]]) -> None:
        self._parts = parts
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        part = next(i for i, end in enumerate(self._ends) if index < end)
        return self._parts[part][index - self._ends[part]]  # counted from the part's end
