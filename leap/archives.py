"""Archives (.tar.gz) read as a stream, without trusting anything in them.

Python's tarfile is made for archives of friends. Its traps, and where they are closed:
- its gzip modes stop at the end of the tar and never check the sum behind it (`tar_stream`);
- it skips a member by its claimed size, be that 2^60 bytes that are not there, and reads beyond the end of the tar into
  a buffer of its own, where a second tar may hide (`_Forward`);
- it takes a damaged header in the middle for the end of the archive (`_Member.fromtarfile`);
- it reads long names, extended headers and maps of sparse files whole, however long they claim to be (`_Member`);
- it keeps every member it has passed, so that memory grows with the archive (`_Members.next`);
- names may lead anywhere, and links, devices and two members of one name may lie in wait (`unpack`).

A flipped byte passes tarfile's own gzip modes, as they stop before the checksum at the end: here the gzip is read to
its end before anything counts. Only regular files are taken, under names that the caller makes; sizes are checked
before a byte is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from configs.errors import UserError
from leap.files import locked

_BLOCK = 256 * 1024  # bytes read from the gzip at once; a multiple of tar's 512
_DISK_BLOCK = 4096  # bytes that a disk gives to a file at once; ext4, xfs and btrfs by default
_LONGEST_HEADER = 256 * 1024  # bytes of a long name or of extended attributes
_MOST_GLOBAL_HEADERS = 1000
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, *_LONG)
_GZIP = 31  # zlib's number for a gzip with a window of any size
_GZIP_START = b"\x1f\x8b"  # RFC 1952


class _NoGzip(Exception):
    """What should be a part of a gzip does not begin as one. No zlib.error: tarfile makes a text of these."""


# What is raised for bytes that are no intact archive.
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, _NoGzip)


_BROKEN_HEADER = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]  # not in typeshed


class BrokenArchive(Exception):
    """An archive that cannot be used; the text names the file and the reason."""


_MOST_NAMES = 20


@dataclass
class Extraction:
    """What `unpack` did: `files` (and their `bytes`) in place, of which `preexisting` were not written; `ignored`
    members that are no folders were left out, the first 20 of them by name. `contents` are the size and CRC-32 of each
    file in the archive by its path below the folder."""

    files: int = 0
    bytes: int = 0
    preexisting: int = 0
    ignored: int = 0
    ignored_names: list[str] = field(default_factory=list)
    contents: dict[str, tuple[int, int]] = field(default_factory=dict)


@contextlib.contextmanager
def tar_stream(path: Path) -> Iterator[tarfile.TarFile]:
    """The members of a .tar.gz, in their order, each to be read before the next; nothing of it stays in memory.

    What was read is trustworthy only after the block was left without an error: on leaving, the rest of the gzip is
    read, and with it the checksum. BrokenArchive if anything is damaged, cut off or follows the end of the archive;
    OSError if the disk fails. An archive without members is none of these.
    """
    with open(path, "rb") as raw:
        unzipped = _Forward(_Gunzip(raw))
        stream: Any = unzipped  # not written to, nor closed
        try:
            with _Members(fileobj=stream, tarinfo=_Member) as tar:
                yield tar
                ended = tar.ended
            # Also what is not read here must be inflated: the sum of the last part comes behind it.
            while rest := unzipped.read(_BLOCK):
                if ended and rest.strip(b"\0"):
                    raise tarfile.ReadError("data after the end of the archive")
        except _DAMAGE as error:
            raise BrokenArchive(f"{path}: {_reason(error)}") from error


def unpack(
    archive: Path,
    folder: Path,
    accept: Callable[[str], Path | None],
    most_bytes: int,
    most_files: int,
    replace: bool = False,
) -> Extraction:
    """Put the regular files of a .tar.gz below `folder`, each at the relative path that `accept` makes of its name.

    `accept` says None for what is to be left out, as links, devices, folders and sparse files are. Files that are in
    `folder` already stay as they are, unless `replace` puts the archive's in their place. All is written to a folder
    beside `folder` (which may be a link) first and moved when the whole archive has proved intact: `folder` never shows
    a part of a file. What a killed run left is removed by the next one.

    BrokenArchive if the archive is damaged, holds more than `most_bytes` or `most_files` of accepted files, or two
    for one path; UserError if another process unpacks it at the moment.
    """
    result = Extraction()
    folder = folder.resolve()
    with work_folder(place_on_disk_of(folder) / f".{folder.name}.{archive.name}.part") as work:
        new = work / "new"
        new.mkdir()
        with tar_stream(archive) as tar:
            for member in tar:
                place = accept(member.name) if member.isreg() and "\0" not in member.name else None
                if place is None:
                    if not member.isdir():
                        result.ignored += 1
                        result.ignored_names += [member.name] if result.ignored <= _MOST_NAMES else []
                    continue
                result.files += 1
                result.bytes += member.size
                # Before a byte is written: a header may claim a terabyte of zeros that the gzip holds in a few bytes.
                if result.files > most_files:
                    raise BrokenArchive(f"{archive}: more than {most_files:,} files")
                if result.bytes > most_bytes:
                    raise BrokenArchive(f"{archive}: its files claim more than {most_bytes:,} bytes")
                crc = _write_new(tar, member, _inside(new, place), archive)
                result.contents[place.as_posix()] = (member.size, crc)
        os.sync()  # all files at once: one fsync a file takes minutes for a hundred thousand pictures
        result.preexisting = _publish(new, folder, replace)
    return result


def room_needed(
    archive: Path, accept: Callable[[str], Path | None], most_bytes: int, most_files: int
) -> tuple[int, int]:
    """How many files `unpack` would write, and the bytes that a disk gives to them, in whole blocks.

    Reads the archive to its end, or until there are more than `most_bytes` or `most_files`: then it is at least so
    many. BrokenArchive if it is damaged.
    """
    files = needed = 0
    with tar_stream(archive) as tar:
        for member in tar:
            if member.isreg() and "\0" not in member.name and accept(member.name) is not None:
                files += 1
                needed += on_disk(member.size)
                if needed > most_bytes or files > most_files:
                    return files, needed
    return files, needed


def on_disk(size: int) -> int:
    """The bytes that a disk gives to a file of so many."""
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK


def _inside(folder: Path, place: Path) -> Path:
    if place.is_absolute() or not place.parts or ".." in place.parts:
        raise ValueError(f"a path below the folder is wanted, not {place}")
    return folder / place


def _write_new(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path) -> int:
    """Write a member to a new file; the CRC-32 of its content."""
    source = tar.extractfile(member)
    assert source is not None, "a regular file is wanted"
    content = _ChecksummedFile(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            shutil.copyfileobj(content, file, _BLOCK)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise BrokenArchive(f"{archive}: {member.name!a} is in it twice, or is a file and a folder") from None
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
            raise BrokenArchive(f"{archive}: {member.name!a:.100} is no name for this disk") from None
        raise
    return content.crc


class _ChecksummedFile:
    """A file whose CRC-32 grows as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.crc = file, 0

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.crc = zlib.crc32(content, self.crc)
        return content


def _publish(new: Path, folder: Path, replace: bool) -> int:
    """Move the files of `new` to their places in `folder`; how many were there already, and stay unless `replace`."""
    preexisting = 0
    if not folder.exists():
        new.rename(folder)
        return preexisting
    for path in sorted(new.rglob("*")):
        target = folder / path.relative_to(new)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif target.exists() and not replace:
            preexisting += 1
        else:
            path.replace(target)
    return preexisting


def place_on_disk_of(folder: Path) -> Path:
    """Where to make files that are then moved into `folder`: beside what it leads to; in it if it is a disk of its own,
    or nothing may be written beside it."""
    folder = folder.resolve()
    if folder.exists() and (
        folder.stat().st_dev != folder.parent.stat().st_dev or not os.access(folder.parent, os.W_OK)
    ):
        return folder
    return folder.parent


@contextlib.contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """`path` as an empty folder that no other process has; gone on leaving. What a killed run left in it is removed.

    UserError if another process has it.
    """
    handle = _claim(path)
    try:
        _empty(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def _claim(path: Path) -> int:
    """An open handle of the folder, which holds its lock."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDONLY)
            if not locked(handle):
                os.close(handle)
                raise UserError(f"{path} is in use by another process; wait for it or stop it")
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
            os.close(handle)  # who had it removed it between our two steps
        except FileNotFoundError:
            continue


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


class _Member(tarfile.TarInfo):
    """A header that cannot make the reader hold much in memory; tarfile reads extended headers whole.

    Sparse files have maps of any length, and their size says nothing about what they fill: no such member is read.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except _BROKEN_HEADER as error:
            # In the middle of an archive tarfile takes such a header for the end.
            raise tarfile.ReadError(f"not a tar archive from byte {tar.offset:,} on ({error})") from error

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"a sparse file, {self.name!a}")
        member = super()._proc_member(tar)  # type: ignore[misc]  # not in typeshed
        if len(tar.pax_headers) > _MOST_GLOBAL_HEADERS:
            raise tarfile.ReadError(f"more than {_MOST_GLOBAL_HEADERS} global headers")
        return member

    def _no_sparse(self, *_: object) -> None:
        raise tarfile.ReadError(f"a sparse file, {self.name!a}")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _no_sparse


class _Members(tarfile.TarFile):
    """A tar file that forgets the members it has passed. `ended` says whether its end was reached."""

    ended = False
    members: list[tarfile.TarInfo]

    def next(self) -> tarfile.TarInfo | None:
        try:
            member = super().next()
        except (ValueError, OverflowError, RecursionError) as error:  # numbers and names that are none
            raise tarfile.ReadError(f"a header that cannot be read ({error or type(error).__name__})") from error
        if member is not None and member.size < 0:
            raise tarfile.ReadError(f"a member of {member.size} bytes")
        self.members.clear()
        self.ended = member is None
        return member


class _Forward:
    """A stream that tarfile may read and skip in, forwards; where it ends, reading and skipping end too."""

    def __init__(self, stream: _Gunzip) -> None:
        self._stream = stream
        self._chunk, self._used, self._position = b"", 0, 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Skip to a position, or to the end if that comes first."""
        if position < self._position:
            raise tarfile.StreamError("seeking backwards is not allowed")
        while self._position < position and self._take(min(position - self._position, _BLOCK)):
            pass

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        pieces = []
        while size > 0 and (piece := self._take(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _take(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end."""
        if self._used == len(self._chunk):
            self._chunk, self._used = self._stream.read(_BLOCK), 0
        piece = self._chunk[self._used : self._used + size]
        self._used += len(piece)
        self._position += len(piece)
        return piece


class _Gunzip:
    """A gzip of one or more parts, read as a stream; zlib checks header, sum and length of each.

    Python's own reader passes on 8 KB at a time in 3.11 and takes three times as long.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(_GZIP)
        self._input = self._start = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end. zlib.error or EOFError for what is no whole gzip."""
        while True:
            if self._inflate.eof and not self._next_part():
                return b""
            self._input = self._input or self._file.read(_BLOCK)
            if not self._input:
                raise EOFError
            self._start += self._input[: len(_GZIP_START) - len(self._start)]
            try:
                content = self._inflate.decompress(self._input, size)
            except zlib.error as error:
                if self._start != _GZIP_START:
                    raise _NoGzip(str(error)) from error
                raise
            self._input = self._inflate.unconsumed_tail
            if content:
                return content

    def _next_part(self) -> bool:
        """Go behind the part that has ended, and the zeros that may fill up a file; False at the end of the file."""
        rest = self._inflate.unused_data or self._file.read(_BLOCK)
        while rest and not rest.strip(b"\0"):
            rest = self._file.read(_BLOCK)
        self._input = rest.lstrip(b"\0")
        if self._input:
            self._inflate, self._start = zlib.decompressobj(_GZIP), b""
        return bool(self._input)


def _reason(error: Exception) -> str:
    if isinstance(error, _NoGzip):
        return "not a gzip file, or followed by something that is none"
    # tarfile has no type of its own for what is cut off.
    if isinstance(error, EOFError) or "unexpected end of data" in str(error):
        return "cut off"
    return f"damaged ({error})"
