"""Lengths of rows in tokens: of one row, of a file's rows as columns, and what decides them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from leap.files import sha256_json
from leap.provenance import library_versions

_FORMAT = 3  # raised where a length, or what else is found out about a row, is found otherwise
PARTS = ("visual", "prompt", "supervised", "total")


@dataclass(frozen=True)
class RowLength:
    """Tokens of one row: visual (after merging), text of the prompt, supervised answer."""

    visual: int
    prompt: int
    supervised: int

    @property
    def total(self) -> int:
        return self.visual + self.prompt + self.supervised


class RowLengths(Sequence[RowLength]):
    """The lengths of many rows: a column a part, and a RowLength where one is taken out.

    visual, prompt, supervised, total  # (rows,) int64
    """

    def __init__(self, visual: np.ndarray, prompt: np.ndarray, supervised: np.ndarray) -> None:
        self.visual, self.prompt, self.supervised = (part.astype(np.int64) for part in (visual, prompt, supervised))
        self.total = self.visual + self.prompt + self.supervised

    @classmethod
    def from_rows(cls, lengths: Sequence[RowLength]) -> RowLengths:
        """The same lengths as columns, which they may be already."""
        if isinstance(lengths, RowLengths):
            return lengths
        return cls(*(np.array([getattr(length, part) for length in lengths], np.int64) for part in PARTS[:3]))

    @classmethod
    def joined(cls, parts: Sequence[RowLengths]) -> RowLengths:
        """The lengths of several files, one behind the other."""
        return cls(*(np.concatenate([getattr(lengths, part) for lengths in parts]) for part in PARTS[:3]))

    def __len__(self) -> int:
        return len(self.total)

    @overload
    def __getitem__(self, index: int) -> RowLength: ...

    @overload
    def __getitem__(self, index: slice) -> RowLengths: ...

    def __getitem__(self, index: int | slice) -> RowLength | RowLengths:
        parts = self.visual[index], self.prompt[index], self.supervised[index]
        return RowLengths(*parts) if isinstance(index, slice) else RowLength(*map(int, parts))

    def select(self, rows: np.ndarray) -> RowLengths:
        """The lengths of some rows, named by their indices."""
        return RowLengths(self.visual[rows], self.prompt[rows], self.supervised[rows])

    def put(self, index: int, length: RowLength) -> None:
        """Change the length of a row."""
        for part in PARTS:
            getattr(self, part)[index] = getattr(length, part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowLengths) and all(
            np.array_equal(getattr(self, part), getattr(other, part)) for part in PARTS
        )


def settings_sha256(collator: Any) -> str:
    """A hash of all that decides the length of a row besides its file and its pictures, as `collator` computes it:
    tokenizer, chat template, resize rule, where pictures are looked for."""
    processor = collator.processor
    decides = [
        _FORMAT,
        sha256_json(processor.tokenizer.backend_tokenizer.to_str()),
        sha256_json(processor.chat_template),
        processor.image_processor.to_json_string(),
        [str(collator.image_root), str(collator.workspace), collator.video_tokens],
        library_versions().get("transformers"),
    ]
    return sha256_json(decides)
