"""Archives as LOVE-Agibot publishes them, made up, and such as no honest person publishes."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

Member = tuple[tarfile.TarInfo, bytes]


def picture(seed: int, size: tuple[int, int] = (24, 16), kind: str = "PNG") -> bytes:
    """A picture of noise: as incompressible as a photograph."""
    noise = random.Random(seed).randbytes(size[0] * size[1] * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", size, noise).save(buffer, kind, compress_level=1)
    return buffer.getvalue()


def file(name: str, content: bytes = b"") -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def special(name: str, kind: bytes, target: str = "") -> Member:
    """A link, device, FIFO or folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def write_archive(path: Path, members: Iterable[Member], kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w|", format=kind, encoding="utf-8", errors="surrogateescape") as tar,
    ):
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def frames(task: str, episodes: dict[str, Iterable[int]], top: str = "") -> list[Member]:
    """Frames `<top><task>/<episode>/<number>.png`, each another picture, in the order given."""
    return [
        file(f"{top}{task}/{episode}/{number:05d}.png", frame(task, episode, number))
        for episode, numbers in episodes.items()
        for number in numbers
    ]


def frame(task: str, episode: str, number: int) -> bytes:
    return picture(hash((int(task), int(episode), number)))


def task_archive(folder: Path, task: str, episodes: dict[str, Iterable[int]], top: str = "") -> Path:
    return write_archive(folder / "image" / f"task_{task}.tar.gz", frames(task, episodes, top))


def claiming(path: Path, name: str, claimed: int) -> Path:
    """An archive whose one member claims so many bytes and has none."""
    info = tarfile.TarInfo(name)
    info.size = claimed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    return path


def with_flipped_byte(path: Path, at: int) -> Path:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x20
    path.write_bytes(content)
    return path


def cut_off(path: Path, bytes_left: int) -> Path:
    path.write_bytes(path.read_bytes()[:bytes_left])
    return path
