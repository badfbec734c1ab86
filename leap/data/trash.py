"""A trash folder: files moved out of the way by a journal, and put back where they were.

`<folder>/.trash/<time>/manifest.jsonl` lists every move before the first one is made, as {"from": path, "to": path,
"reason": text}: `from` relative to <folder> where it lies in it, `to` relative to the trash. A last line
{"state": "moved"} or {"state": "undone"} says that all of it was done. Without that line the same command goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from configs.errors import UserError
from leap.files import Journal, locked, read_jsonl
from leap.progress import Progress

TRASH = ".trash"
_MANIFEST, _FILES = "manifest.jsonl", "files"
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Move:
    """A file's place, its place in the trash, and why it was moved."""

    source: Path
    trashed: Path
    reason: str


def trashed_files(folder: Path) -> dict[Path, Move]:
    """What lies in the trash of `folder`, by the place it had."""
    moves = (move for trash in _trashes(folder) for move in _moves(folder, trash))
    return {move.source: move for move in moves if os.path.lexists(move.trashed)}


def move_to_trash(folder: Path, reasons: Mapping[Path, str]) -> Path | None:
    """Move these files into the trash of `folder`, the one that a killed call left unfinished or a new one.

    A link is moved, not what it leads to. Returns the trash folder, None if there is nothing to do.
    """
    if not reasons and not (folder / TRASH).is_dir():
        return None
    with _only_one(folder):
        unfinished = [trash for trash in _trashes(folder) if _state(trash) is None]
        if not reasons and not unfinished:
            return None
        trash = unfinished[-1] if unfinished else _new_trash(folder)
        with Journal(trash / _MANIFEST) as manifest:
            # All moves are on disk before the first one is made, so that a kill loses no file's place.
            targets = _plan_moves(folder, trash, manifest, reasons)
            with Progress("moving to the trash", len(reasons), "file") as progress:
                for path in reasons:
                    if os.path.lexists(path):
                        _move(path, targets[path])
                    progress.advance()
            manifest.append([{"state": "moved"}])
    return trash


def _plan_moves(folder: Path, trash: Path, manifest: Journal, reasons: Mapping[Path, str]) -> dict[Path, Path]:
    """Note the moves that the manifest does not list yet; the place in the trash of every file in it."""
    planned = {move.source for move in _moves(folder, trash)}
    fresh = [path for path in reasons if path not in planned]
    manifest.append(
        {"from": _written(folder, path), "to": f"{_FILES}/{number:06d}-{path.name}", "reason": reasons[path]}
        for number, path in enumerate(fresh, len(planned))
    )
    return {move.source: move.trashed for move in _moves(folder, trash)}


def trash_named(folder: Path, name: str) -> Path:
    """The trash folder that a user names: by its path, or by its name in the trash of `folder`."""
    path = Path(name).expanduser().absolute()
    return path if path.is_dir() else folder / TRASH / name


def undo(folder: Path, trash: Path | None) -> tuple[Path, int]:
    """Put back what `trash` (or the newest one of `folder`) holds. Returns it and how many files it put back.

    UserError, and nothing moved, if a file is there now where one belongs, or there is nothing to undo.
    """
    if not (folder / TRASH).is_dir():
        raise UserError(f"nothing to undo: there is no {folder / TRASH}")
    with _only_one(folder):
        trash = _trash_to_undo(folder, trash)
        with Journal(trash / _MANIFEST) as manifest:
            moves = [move for move in _moves(folder, trash) if os.path.lexists(move.trashed)]
            taken = [move.source for move in moves if os.path.lexists(move.source) and not _same(move)]
            if taken:
                raise UserError(
                    f"{len(taken)} files of {trash} cannot be put back, something is in their place (first: "
                    f"{taken[0]}). Move that away and undo again"
                )
            with Progress("putting back", len(moves), "file") as progress:
                for move in moves:
                    _put_back(move)
                    progress.advance()
            manifest.append([{"state": "undone"}])
        with contextlib.suppress(OSError):  # something that is not ours lies in it
            (trash / _FILES).rmdir()
    return trash, len(moves)


def _trash_to_undo(folder: Path, named: Path | None) -> Path:
    """The trash folder that is named, or the newest that was not put back; UserError if there is none."""
    if named is None:
        left = [trash for trash in _trashes(folder) if _state(trash) != "undone"]
        if not left:
            raise UserError(f"nothing to undo: all in {folder / TRASH} was put back already")
        return left[-1]
    if not (named / _MANIFEST).is_file():
        names = ", ".join(trash.name for trash in _trashes(folder)) or "none"
        raise UserError(f"no trash folder with a {_MANIFEST}: {named}. In {folder / TRASH}: {names}")
    return named


def _trashes(folder: Path) -> list[Path]:
    """The trash folders, oldest first."""
    return sorted(manifest.parent for manifest in (folder / TRASH).glob(f"*/{_MANIFEST}"))


def _new_trash(folder: Path) -> Path:
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    trash = folder / TRASH / name
    (trash / _FILES).mkdir(parents=True)
    return trash


def _state(trash: Path) -> str | None:
    records = _records(trash)
    return records[-1].get("state") if records else None


def _moves(folder: Path, trash: Path) -> list[Move]:
    records = (record for record in _records(trash) if "from" in record)
    return [Move(folder / record["from"], trash / record["to"], record["reason"]) for record in records]


def _records(trash: Path) -> list[dict]:
    """The manifest's lines but a torn last one, which nothing was done by."""
    path = trash / _MANIFEST
    if path.read_bytes()[-1:] not in (b"", b"\n"):
        Journal(path).close()  # cuts it off
    return read_jsonl(path)


def _written(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _move(source: Path, target: Path) -> None:
    """Rename; onto another disk, copy whole and then remove. Killed between, a second call finishes it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = target.with_name(f".{target.name}.part")
        try:
            shutil.copy2(source, part, follow_symlinks=False)
            part.replace(target)
        except BaseException:  # a full disk, say
            part.unlink(missing_ok=True)
            raise
        source.unlink()


def _put_back(move: Move) -> None:
    """Link and remove, which overwrites nothing; where there are no links, rename."""
    move.source.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(move.source):  # a killed call had linked it
        move.trashed.unlink()
        return
    try:
        os.link(move.trashed, move.source, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _move(move.trashed, move.source)
    else:
        move.trashed.unlink()


def _same(move: Move) -> bool:
    """Whether both places hold one file, as after a call killed between linking and removing, or on two disks between
    copying and removing."""
    source, trashed_file = move.source.lstat(), move.trashed.lstat()
    if (source.st_dev, source.st_ino) == (trashed_file.st_dev, trashed_file.st_ino):
        return True
    return (
        source.st_dev != trashed_file.st_dev
        and (source.st_size, source.st_mtime_ns) == (trashed_file.st_size, trashed_file.st_mtime_ns)
        and move.source.is_file()
        and move.source.read_bytes() == move.trashed.read_bytes()
    )


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of the trash; UserError if another process does."""
    (folder / TRASH).mkdir(exist_ok=True)
    with open(folder / TRASH / ".lock", "ab") as file:
        if not locked(file):
            raise UserError(f"{folder / TRASH} is in use by another process; wait for it or stop it")
        yield
