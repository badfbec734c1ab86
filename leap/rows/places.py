"""How a source of rows is named, and where what is made of it is kept.

    data/rows.jsonl             a file
    data/set#train              a split of a folder of Hugging Face datasets; without #, its only one
    hf://owner/name#train       the same of the Hub; hf://owner/name/config#train

A name travels as a path; `name_of` is how people read it, as a path has no two slashes in a row.
"""

from __future__ import annotations

from pathlib import Path

from leap.files import sha256_json

_HUB = "hf:"


def is_of_hub(data: Path) -> bool:
    return data.parts[:1] == (_HUB,)


def name_of(data: Path) -> str:
    """The name of a source, for people and recipes."""
    return f"{_HUB}//{data.relative_to(_HUB)}" if is_of_hub(data) else str(data)


def split_of(data: Path) -> tuple[Path, str | None]:
    """A source without its split, and the split if it names one. A file or folder of the whole name has none."""
    folder, mark, split = str(data).rpartition("#")
    is_split = mark and folder and "/" not in split and not data.exists()
    return (Path(folder), split) if is_split else (data, None)


def places_beside(data: Path) -> list[Path]:
    """The folders that may hold what is made of a source: its own, and one in the Hub's cache (HF_HOME)."""
    from huggingface_hub.constants import HF_HOME

    if is_of_hub(data):
        return [Path(HF_HOME) / "leap" / sha256_json(name_of(data))[:16]]
    folder = data.resolve().parent
    return [folder, Path(HF_HOME) / "leap" / sha256_json(str(folder))[:16]]
