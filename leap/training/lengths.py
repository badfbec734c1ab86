"""Lengths of rows in tokens: of one row, of a file's rows as columns, and what decides them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from PIL import Image

from leap.files import sha256_json
from leap.provenance import library_versions

_FORMAT = 4  # raised where a length, or what else is found out about a row, is found otherwise
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


def measured_tokens(processor: Any, sizes: Sequence[tuple[int, int]]) -> int:
    """Tokens that pictures of these sizes (width, height in pixels) take together in one prompt of any model, with
    those that its processor puts around them: blank pictures are encoded."""
    from leap.models.generation import encode

    message = {"role": "user", "content": [{"type": "image"} for _ in sizes]}
    prompt = processor.apply_chat_template([message], tokenize=False)
    ids = encode(processor, [prompt], [[Image.new("RGB", size) for size in sizes]])["input_ids"]  # (1, seq)
    return ids.shape[1] - text_tokens(processor.tokenizer, [prompt], [len(sizes)])[0]


def text_tokens(tokenizer: Any, prompts: Sequence[str], pictures: Sequence[int]) -> list[int]:
    """Tokens of prompts without those of their pictures, each of which still stands in them as one."""
    from leap.models.generation import begins_itself

    begun = begins_itself(tokenizer, prompts)  # a chat template does or does not, whatever the row
    ids = tokenizer(list(prompts), add_special_tokens=not begun, return_attention_mask=False).input_ids
    return [len(row) - count for row, count in zip(ids, pictures, strict=True)]


def settings_sha256(collator: Any) -> str:
    """A hash of all that decides the length of a row besides its file and its pictures, as `collator` computes it:
    tokenizer, chat template, resize rule, where pictures are looked for."""
    processor = collator.processor
    decides = [
        _FORMAT,
        sha256_json(processor.tokenizer.backend_tokenizer.to_str()),
        sha256_json(processor.chat_template),
        processor.image_processor.to_json_string(),
        getattr(processor, "image_seq_len", None) or getattr(processor, "image_seq_length", None),  # tokens of a tile
        [str(collator.image_root), str(collator.workspace), collator.video_tokens, collator.supervise],
        library_versions().get("transformers"),
    ]
    return sha256_json(decides)
