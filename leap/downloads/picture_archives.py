"""The archive of pictures beside published planning rows: images.tar.gz into images/, once.

What it held is listed beside it, in images.tar.gz.contents.json.gz, as the archive itself goes:

    {"sha256": "<of the archive>", "pictures": {"327-648642.png": [size, CRC-32]}, "lost": ["327-648642.png"]}

A picture that was in images/ before, and is another one than the archive's, is the user's: it stays, and its size and
CRC-32 are null. But one that is as an earlier archive held it is replaced by that of a new one. `lost` are pictures to
be brought back from the archive, which needs no other part of it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from configs.errors import UserError
from leap.archives import BrokenArchive, Extraction, on_disk, room_needed, unpack
from leap.downloads.access import NoSpace
from leap.downloads.fetch import RECORD, RemoteFile, content_problem
from leap.downloads.record import read_record
from leap.downloads.run import claimed, first_few
from leap.files import free_bytes, replacing
from leap.progress import Progress, say
from leap.text import size_text

_ARCHIVE = re.compile(r"images[\w.-]*\.(tar\.gz|tgz)")
_PICTURE = re.compile(r"\w[\w.-]*\.(png|jpe?g)", re.ASCII | re.IGNORECASE)
_FOLDERS = ((), ("images",), ("data", "images"))
_MOST_PICTURES = 2_000_000
_BYTES_A_PICTURE = 64 * 1024  # where nobody knows yet; a photograph of a robot's camera has more
_BLOCK = 1 << 20
_READERS = 4


@dataclass
class Contents:
    """What the archive with the hash `sha256` held: size and CRC-32 by name, None for a picture that is the user's."""

    sha256: str
    pictures: dict[str, tuple[int | None, int | None]]
    lost: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        text = json.dumps({"sha256": self.sha256, "pictures": self.pictures, "lost": self.lost})
        with replacing(path) as file:
            file.write(gzip.compress(text.encode(), 6, mtime=0))


def contents_file(folder: Path, archive: str) -> Path:
    """Where it is listed what an archive held."""
    return folder / f"{archive}.contents.json.gz"


def _read_contents(folder: Path, archive: str) -> Contents | None:
    """What the archive of this name held that was unpacked last, or None if that is not (or no longer) known."""
    try:
        content = json.loads(gzip.decompress(contents_file(folder, archive).read_bytes()))
        pictures = {str(name): (size, crc) for name, (size, crc) in content["pictures"].items()}
        return Contents(content["sha256"], pictures, [name for name in content["lost"] if name in pictures])
    except (FileNotFoundError, EOFError, zlib.error, gzip.BadGzipFile, KeyError, TypeError, ValueError, AttributeError):
        return None


def is_picture_archive(path: str) -> bool:
    return _ARCHIVE.fullmatch(path) is not None


def picture_place(name: str) -> Path | None:
    """Where a member of the archive goes in images/, or None for what is no picture of a planning row.

    `327-648642.png`, `images/327-648642.png` and `data/images/327-648642.png` all mean the same.
    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or parts[:-1] not in _FOLDERS or not _PICTURE.fullmatch(parts[-1]):
        return None
    return Path(parts[-1])


def forget_lost_pictures(folder: Path, *, hash_again: bool = False) -> None:
    """Take back that an archive was unpacked if pictures of it are gone or have another size since, with `hash_again`
    also if they have another CRC-32: then it is fetched again, and `unpack_pictures` brings them back."""
    if read_record(folder) is None:
        return
    with claimed(folder):
        record = read_record(folder)
        assert record is not None, f"{folder} has lost its record"
        for path, entry in sorted(record.unpacked.items()):
            unpacked_here = path in record.files and record.was_unpacked(record.files[path])  # else at another commit
            if unpacked_here and not _is_whole(path, entry["sha256"], folder, hash_again=hash_again):
                del record.unpacked[path]
                record.write(folder)


def _is_whole(archive: str, digest: str, folder: Path, *, hash_again: bool) -> bool:
    """Whether all pictures of an archive are there. If not, it is said, and noted which are lost."""
    images, listed = folder / "images", contents_file(folder, archive)
    contents = _read_contents(folder, archive)
    if contents is None or contents.sha256 != digest:
        say(f"{listed} is gone or damaged, so {archive} is unpacked again to know what it held")
        return False
    contents.lost = _lost(images, contents, hash_again=hash_again)
    if contents.lost:
        contents.write(listed)
        say(
            f"{len(contents.lost):,} of the {len(contents.pictures):,} pictures of {archive} are missing or damaged in "
            f"{images} ({first_few(contents.lost)}); they come from the archive again"
        )
    return not contents.lost


def _lost(images: Path, contents: Contents, *, hash_again: bool) -> list[str]:
    """The pictures that are not in `images` as the archive held them."""
    sizes: dict[str, int] = {}
    if images.is_dir():
        with os.scandir(images) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    lost = set()
    for name, (size, _) in contents.pictures.items():
        if name not in sizes or size not in (None, sizes[name]):
            lost.add(name)
    if hash_again:
        sums = {name: crc for name, (_, crc) in contents.pictures.items() if crc is not None and name not in lost}
        with ThreadPoolExecutor(_READERS) as pool, Progress("pictures hashed", len(sums), "picture") as progress:
            actual = pool.map(lambda name: _crc(images / name), sums)
            for (name, crc), actual_crc in zip(sums.items(), actual, strict=True):
                lost |= {name} if actual_crc != crc else set()
                progress.advance()
    return sorted(lost)


def _crc(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def room_for_pictures(missing: Sequence[RemoteFile], folder: Path) -> int:
    """The bytes of the disk of `folder` that unpacking will take if these files are fetched: in blocks of the disk
    where it is known which pictures are wanted; else an estimate, as pictures do not shrink in an archive.

    None of them if images/ is on another disk; NoSpace if that cannot hold them.
    """
    needed = 0
    for file in missing:
        if is_picture_archive(file.path):
            contents = _read_contents(folder, file.path)
            if contents is not None and contents.sha256 == file.digest and contents.lost:
                needed += sum(on_disk(contents.pictures[name][0] or 0) for name in contents.lost)
            else:
                needed += file.size + on_disk(1) * (file.size // _BYTES_A_PICTURE + 1)
    disk = _disk_of(folder / "images")
    if disk.stat().st_dev == folder.stat().st_dev:
        return needed
    if needed > (free := free_bytes(disk)):
        raise NoSpace(
            f"not enough space for {folder / 'images'}, which is on the disk of {disk}: about {size_text(needed)} are "
            f"needed, {size_text(free)} are free. Nothing was fetched"
        )
    return 0


def _disk_of(images: Path) -> Path:
    """A folder on the disk on which the pictures are or will be."""
    disk = images.resolve()
    while not disk.exists():
        disk = disk.parent
    return disk


def unpack_pictures(folder: Path, *, keep_archive: bool) -> None:
    """Unpack the archives of pictures that were fetched into `folder` and not unpacked yet, into its images/.

    UserError if an archive is damaged though its hash is the Hub's, or if the disk cannot hold its pictures: then
    nothing is unpacked.
    """
    with claimed(folder):
        record = read_record(folder)
        assert record is not None, f"{folder} has no record"
        for path, file in sorted(record.files.items()):
            if not is_picture_archive(path):
                continue
            archive = folder / path
            if not record.was_unpacked(file):
                contents = _unpack_archive(archive, folder, file.digest)
                contents.write(contents_file(folder, path))
                record.unpacked[path] = {"sha256": file.digest, "files": len(contents.pictures)}
                record.write(folder)
            if archive.exists() and not keep_archive and content_problem(archive, file) is None:
                archive.unlink()
                say(f"deleted {archive}, as {RECORD} notes that it was unpacked; --keep_archive keeps it")


def _unpack_archive(archive: Path, folder: Path, digest: str) -> Contents:
    """Unpack all pictures of an archive that are not there, or just those that were lost, over what is left of them."""
    images = folder / "images"
    last = _read_contents(folder, archive.name)
    if last is not None and last.sha256 == digest and (lost := set(last.lost)):
        say(f"unpacking {len(lost):,} pictures of {archive} into {images}")
        unpacked = _bring_back(archive, images, lost)
        say(f"{unpacked.files:,} pictures brought back to {images}")
        return Contents(digest, last.pictures | unpacked.contents)
    say(f"unpacking {archive} into {images}")
    present = set(os.listdir(images)) if images.is_dir() else set()
    unpacked = _unpack(archive, images, picture_place, replace=False)
    say(
        f"{unpacked.files:,} pictures in {images}, of which {unpacked.preexisting:,} were there already; "
        f"{unpacked.ignored:,} members that are no pictures were left out"
    )
    if not unpacked.files:
        raise UserError(f"{archive} holds no picture named as in images/327-648642.png; look into it")
    # A picture that was there and is not as this archive holds it is an earlier archive's, or else the user's.
    doubles: dict[str, tuple[int | None, int | None]] = {
        name: content for name, content in unpacked.contents.items() if name in present
    }
    users = set(_lost(images, Contents(digest, doubles), hash_again=True)) if doubles else set()
    if old := _as_held(images, last, users):
        say(f"{len(old):,} of those are as an earlier archive held them; this one's take their place")
        _bring_back(archive, images, old)
        users -= old
    if users:
        some = first_few(sorted(users))
        say(f"{len(users):,} that were there differ from the archive's and stay ({some}); delete one to get its")
    return Contents(digest, unpacked.contents | dict.fromkeys(users, (None, None)))


def _as_held(images: Path, last: Contents | None, names: set[str]) -> set[str]:
    """Those of the pictures in `images` that are as an archive held them."""
    if last is None:
        return set()
    held = {name: last.pictures[name] for name in names & last.pictures.keys()}
    held = {name: content for name, content in held.items() if content != (None, None)}
    return held.keys() - set(_lost(images, Contents(last.sha256, held), hash_again=True)) if held else set()


def _bring_back(archive: Path, images: Path, names: set[str]) -> Extraction:
    """Unpack just these pictures, over what is there of them."""
    unpacked = _unpack(archive, images, lambda name: _among(names, picture_place(name)), replace=True)
    if absent := names - set(unpacked.contents):
        raise UserError(
            f"{archive} does not hold {min(absent)}, though it did; delete {contents_file(images.parent, archive.name)}"
        )
    return unpacked


def _among(names: set[str], place: Path | None) -> Path | None:
    return place if place is not None and place.name in names else None


def _unpack(archive: Path, images: Path, accept: Callable[[str], Path | None], *, replace: bool) -> Extraction:
    free = free_bytes(_disk_of(images))
    try:
        files, needed = room_needed(archive, accept, free, _MOST_PICTURES)
        if needed > free:
            raise NoSpace(
                f"not enough space for {images}: {files:,} pictures or more take at least {size_text(needed)}, "
                f"{size_text(free)} are free. Nothing was unpacked; free some and run the same command again"
            )
        return unpack(archive, images, accept, free, _MOST_PICTURES, replace)
    except BrokenArchive as error:
        raise UserError(f"{error}. Its hash is the Hub's, so it is so there; nothing was unpacked") from error
