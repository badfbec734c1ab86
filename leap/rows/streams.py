"""Rows read as they come, of sources too large to be read whole first, from any place on.

A pass goes through all sources at once, a row of each in turn, until the last one ends; then the next pass begins. What
was read last is a position that JSON holds: of a file the lines read, of a data set the state of its IterableDataset.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.rows.data_sets import MediaFolder, is_data_set, iterable_data_set, json_line, unreadable
from leap.rows.places import name_of
from leap.rows.sources import numbered_lines
from leap.text import first_line

Position = dict[str, Any]


@dataclass(frozen=True)
class StreamedLine:
    """A row as JSON: of which source, and its number there from 1."""

    source: Path
    number: int
    text: bytes


class LineStream:
    """The lines of sources, pass after pass, without end. Pictures in the rows become files of `media`."""

    def __init__(self, sources: Sequence[Path], media: MediaFolder) -> None:
        self._sources, self._pass_number, self._turn = sources, 0, 0
        self._readers = [(_DataSetReader if is_data_set(source) else _Reader)(source, media) for source in sources]

    def position(self) -> Position:
        """Where the next line comes from."""
        readers = [reader.position() for reader in self._readers]
        return {"pass": self._pass_number, "turn": self._turn, "readers": readers}

    def go_to(self, position: Position) -> None:
        self._pass_number, self._turn = position["pass"], position["turn"]
        for reader, place in zip(self._readers, position["readers"], strict=True):
            reader.go_to(place)

    def read(self, count: int) -> list[StreamedLine]:
        """The next `count` lines. UserError where a source cannot be read, or none has a row."""
        lines: list[StreamedLine] = []
        while len(lines) < count:
            if all(reader.ended for reader in self._readers):
                self._begin_pass()
            reader = self._readers[self._turn]
            self._turn = (self._turn + 1) % len(self._readers)
            if not reader.ended and (line := reader.read()):
                lines.append(line)
        return lines

    def _begin_pass(self) -> None:
        if not any(reader.number for reader in self._readers):
            raise UserError(f"{', '.join(map(name_of, self._sources))}: no row is there to train on")
        self._pass_number, self._turn = self._pass_number + 1, 0
        for reader in self._readers:
            reader.rewind()


class _Reader:
    """The lines of a file in one pass."""

    def __init__(self, source: Path, media: MediaFolder) -> None:
        self.source, self.media = source, media
        self.number = 0  # of the line that was read last
        self.ended = False
        self._lines: Iterator[tuple[int, bytes]] | None = None

    def position(self) -> Position:
        return {"number": self.number, "ended": self.ended}

    def go_to(self, position: Position) -> None:
        self.number, self.ended, self._lines = position["number"], position["ended"], None

    def rewind(self) -> None:
        self.go_to({"number": 0, "ended": False})

    def read(self) -> StreamedLine | None:
        """The next line; None where the source ends."""
        if self._lines is None:
            self._lines = self._lines_behind(self.number)
        entry = next(self._lines, None)
        if entry is None:
            self.ended = True
            return None
        self.number, text = entry
        return StreamedLine(self.source, self.number, text)

    def _lines_behind(self, last: int) -> Iterator[tuple[int, bytes]]:
        """The lines behind the one of this number."""
        return (entry for entry in numbered_lines(self.source, media=self.media) if entry[0] > last)


class _DataSetReader(_Reader):
    """The rows of a data set, which is not read from its beginning to go on in its middle."""

    def __init__(self, source: Path, media: MediaFolder) -> None:
        super().__init__(source, media)
        self._data_set = iterable_data_set(source)
        self._beginning = self._state = _copied(self._data_set.state_dict())

    def position(self) -> Position:
        return super().position() | {"state": self._state}

    def go_to(self, position: Position) -> None:
        super().go_to(position)
        self._state = position["state"]

    def rewind(self) -> None:
        self.go_to({"number": 0, "ended": False, "state": self._beginning})

    def _lines_behind(self, last: int) -> Iterator[tuple[int, bytes]]:
        self._data_set.load_state_dict(_copied(self._state))
        records = iter(self._data_set)
        for number in itertools.count(last + 1):
            where = f"{name_of(self.source)}:{number}"
            try:
                record = next(records)
            except StopIteration:
                return
            except unreadable() as error:
                raise UserError(f"{where}: cannot be read ({first_line(error)}). {_ADVICE}") from error
            self._state = _copied(self._data_set.state_dict())
            yield number, json_line(record, self.media, where)


_ADVICE = "The same command goes on from the last checkpoint once it can"


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it is now: the data set goes on changing its own."""
    return json.loads(json.dumps(state))
