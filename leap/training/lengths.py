"""Lengths of rows in tokens, and those that an earlier pre-flight computed, in a hidden file beside the data.

The file's name holds a hash of everything that decides a length: the data's content, tokenizer, chat template, resize
rule. A row's entry counts as long as its pictures have the sizes and times of change that they had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from configs.errors import UserError
from leap.files import read_jsonl, sha256_file, sha256_json, write_jsonl
from leap.progress import say
from leap.provenance import library_versions

_FORMAT = 3  # raised where a length, or what else is found out about a row, is found otherwise
_MOST_FILES = 4  # a data set, each of other settings


@dataclass(frozen=True)
class RowLength:
    """Tokens of one row: visual (after merging), text of the prompt, supervised answer."""

    visual: int
    prompt: int
    supervised: int

    @property
    def total(self) -> int:
        return self.visual + self.prompt + self.supervised


@dataclass(frozen=True)
class CachedLength:
    """What the pre-flight found out about line `number`, and the `stamp` of the pictures that it looked at."""

    number: int
    stamp: str
    visual: int
    prompt: int
    supervised: int
    remarks: tuple[str, ...]
    digest: str


def measured_tokens(processor: Any, sizes: Sequence[tuple[int, int]]) -> int:
    """Tokens that pictures of these sizes (width, height in pixels) take together in one prompt of any model, with
    those that its processor puts around them: blank pictures are encoded."""
    from leap.models.generation import encode

    message = {"role": "user", "content": [{"type": "image"} for _ in sizes]}
    prompt = processor.apply_chat_template([message], tokenize=False)
    ids = encode(processor, [prompt], [[Image.new("RGB", size) for size in sizes]])["input_ids"]  # (1, seq)
    return ids.shape[1] - text_tokens(processor.tokenizer, prompt, len(sizes))


def text_tokens(tokenizer: Any, prompt: str, pictures: int) -> int:
    """Tokens of a prompt without those of its pictures, each of which still stands in it as one."""
    from leap.models.generation import begins_itself

    return len(tokenizer(prompt, add_special_tokens=not begins_itself(tokenizer, [prompt])).input_ids) - pictures


def cache_path(data: Path, collator: Any) -> Path:
    """Where the lengths of `data` as `collator` computes them are kept."""
    processor = collator.processor
    decides = [
        _FORMAT,
        sha256_file(data),
        sha256_json(processor.tokenizer.backend_tokenizer.to_str()),
        sha256_json(processor.chat_template),
        processor.image_processor.to_json_string(),
        getattr(processor, "image_seq_len", None) or getattr(processor, "image_seq_length", None),  # tokens of a tile
        [str(collator.image_root), str(collator.workspace), collator.video_tokens, collator.supervise],
        library_versions().get("transformers"),
    ]
    return data.with_name(f".{data.stem}.{sha256_json(decides)[:16]}.lengths.jsonl")


def read_lengths(path: Path) -> dict[int, CachedLength]:
    """The entries by line number; none if there is no such file or it is damaged."""
    if not path.is_file():
        return {}
    try:
        lengths = [CachedLength(**record | {"remarks": tuple(record["remarks"])}) for record in read_jsonl(path)]
    except (UserError, TypeError, KeyError):
        return {}
    return {length.number: length for length in lengths}


def write_lengths(path: Path, lengths: Mapping[int, CachedLength]) -> None:
    """Replace the file; where the folder cannot be written, say so and go on without."""
    try:
        write_jsonl(path, map(asdict, lengths.values()))
        stem = path.name.split(".")[1]
        newest_first = sorted(path.parent.glob(f".{stem}.*.lengths.jsonl"), key=lambda file: -file.stat().st_mtime)
        for file in newest_first[_MOST_FILES:]:
            file.unlink()
    except OSError as error:
        say(f"lengths are not kept for the next run: {path.parent}: {error.strerror}")
