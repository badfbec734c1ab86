"""The pictures of the page: thumbnails that fit into a size, or the full pictures in a folder beside the page.

Pictures of equal content are one picture.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image, features

from leap.files import sha256_file
from leap.progress import Progress
from leap.rows.images import decode_image

T = TypeVar("T")

# Longest side in pixels and quality (0 to 100) of what has more than _LOSSLESS_SIDE, from the finest to the coarsest
# that is still worth looking at.
RUNGS = (
    (960, 75),
    (768, 70),
    (640, 65),
    (560, 60),
    (480, 55),
    (432, 50),
    (384, 50),
    (352, 45),
    (320, 45),
    (288, 40),
    (256, 40),
    (224, 35),
    (192, 35),
    (160, 30),
    (128, 30),
)
FORMAT = "webp" if features.check("webp") else "jpeg"

# A picture this small is shown as it is: a coarse one would lose what the model saw.
_LOSSLESS_SIDE = 256
_SAMPLE = 48
_MARGIN = 1.04  # a sample's mean is not the mean of all


@dataclass(frozen=True)
class Pictures:
    """Different pictures, and which of them a path holds. A file that cannot be read is in neither."""

    files: list[Path]
    hashes: list[str]
    number: dict[Path, int]


@dataclass(frozen=True)
class Thumbnails:
    """Encoded pictures (b"" for one that does not decode), their longest side in pixels and their quality."""

    encoded: list[bytes]
    side: int
    quality: int

    @property
    def unreadable(self) -> int:
        return sum(not content for content in self.encoded)


def find_pictures(paths: Iterable[Path]) -> Pictures:
    """Number pictures by their content, in the order of `paths`."""
    paths = list(dict.fromkeys(paths))
    files: dict[str, Path] = {}
    numbers: dict[str, int] = {}
    number: dict[Path, int] = {}
    for path, digest in zip(paths, _in_threads(_hash_of, paths, "reading pictures"), strict=True):
        if digest is not None:
            files.setdefault(digest, path)
            number[path] = numbers.setdefault(digest, len(numbers))
    return Pictures(list(files.values()), list(files), number)


def make_thumbnails(files: Sequence[Path], most_bytes: float) -> Thumbnails | None:
    """The finest thumbnails that take `most_bytes` at most, counted as base64; None if the coarsest take more."""
    sample = [_small(path, RUNGS[0][0]) for path in files[:: max(1, len(files) // _SAMPLE)]]
    decoded = [picture for picture in sample if picture is not None]
    for side, quality in RUNGS:
        sizes = [len(_encoded(picture, side, quality)) for picture in decoded]
        if sizes and _MARGIN * _as_base64(sum(sizes) / len(sizes)) * len(files) > most_bytes:
            continue
        made = list(_in_threads(functools.partial(_thumbnail, side=side, quality=quality), files, "thumbnails"))
        if sum(_as_base64(len(content)) for content in made) <= most_bytes:
            return Thumbnails(made, side, quality)
    return None


def place_pictures(pictures: Pictures, folder: Path) -> list[str]:
    """Put the pictures into `folder`, linked where the disk allows, else copied; their names, by content, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [digest[:32] + path.suffix.lower() for digest, path in zip(pictures.hashes, pictures.files, strict=True)]
    with Progress("pictures", len(names), "picture") as progress:
        for name, path in zip(names, pictures.files, strict=True):
            if not (folder / name).exists():
                _link_or_copy(path, folder / name)
            progress.advance()
    return names


def _link_or_copy(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # another disk, or one without links
        os.link(source.resolve(), target)
        return
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)


def _hash_of(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _thumbnail(path: Path, side: int, quality: int) -> bytes:
    picture = _small(path, side)
    return b"" if picture is None else _encoded(picture, side, quality)


def _small(path: Path, side: int) -> Image.Image | None:
    """The picture, no side longer than `side`; None if it does not decode."""
    try:
        picture = decode_image(path.read_bytes())
    except (OSError, ValueError):
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return picture


def _encoded(picture: Image.Image, side: int, quality: int) -> bytes:
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    if FORMAT == "webp" and max(picture.size) <= _LOSSLESS_SIDE < side:
        picture.save(out, FORMAT, lossless=True)
    else:
        picture.save(out, FORMAT, quality=quality)
    return out.getvalue()


def _as_base64(size: float) -> float:
    return size * 4 / 3 + 5  # with padding, a line end and a share of the island


def _in_threads(work: Callable[[Path], T], paths: Sequence[Path], what: str) -> Iterator[T]:
    """The work on each path, in order; Pillow and hashing run beside each other in threads."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, Progress(what, len(paths), "picture") as progress:
        try:
            for result in pool.map(work, paths):
                progress.advance()
                yield result
        except BaseException:  # Ctrl-C should not wait for thousands of pictures
            pool.shutdown(cancel_futures=True)
            raise
