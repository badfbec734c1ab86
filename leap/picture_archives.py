"""The archive of pictures beside published planning rows: images.tar.gz into images/, once."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath

from configs.errors import UserError
from leap.download_record import read_record
from leap.download_run import claimed
from leap.downloads import RECORD, content_problem
from leap.progress import say

_ARCHIVE = re.compile(r"images[\w.-]*\.(tar\.gz|tgz)")
_PICTURE = re.compile(r"\w[\w.-]*\.(png|jpe?g)", re.ASCII | re.IGNORECASE)
_FOLDERS = ((), ("images",), ("data", "images"))
_MOST_PICTURES = 2_000_000


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


def forget_lost_pictures(folder: Path) -> None:
    """Take back that an archive was unpacked if pictures are gone since, so that it is fetched and unpacked again."""
    record = read_record(folder)
    if record is None or not record.unpacked:
        return
    there = _count(folder / "images")
    expected = sum(entry["files"] for entry in record.unpacked.values())
    if there < expected:
        say(f"{folder / 'images'} holds {there:,} files, {expected:,} were unpacked; the archive is unpacked again")
        record.unpacked.clear()
        record.write(folder)


def _count(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    with os.scandir(folder) as entries:
        return sum(entry.is_file() for entry in entries)


def unpack_pictures(folder: Path, keep_archive: bool) -> None:
    """Unpack the archives of pictures that were fetched into `folder` and not unpacked yet, into its images/.

    UserError if an archive is damaged though its hash is the Hub's, or claims more than the disk holds.
    """
    from leap.archives import BrokenArchive, unpack

    with claimed(folder):
        record = read_record(folder)
        for path, file in sorted(record.files.items()):
            if not is_picture_archive(path):
                continue
            archive, digest = folder / path, file.sha256 or file.git_sha1
            if record.unpacked.get(path, {}).get("sha256") != digest:
                say(f"unpacking {archive} into {folder / 'images'}")
                free = shutil.disk_usage(folder).free
                try:
                    done = unpack(archive, folder / "images", picture_place, free, _MOST_PICTURES)
                except BrokenArchive as error:
                    raise UserError(
                        f"{error}. Its hash is the Hub's, so it is so there; nothing was unpacked"
                    ) from error
                say(
                    f"{done.files:,} pictures in {folder / 'images'}, of which {done.kept:,} were there already; "
                    f"{done.ignored:,} members that are no pictures were left out"
                )
                if not done.files:
                    raise UserError(f"{archive} holds no picture named as in images/327-648642.png; look into it")
                record.unpacked[path] = {"sha256": digest, "files": done.files}
                record.write(folder)
            if archive.exists() and not keep_archive and content_problem(archive, file) is None:
                archive.unlink()
                say(f"deleted {archive}, as {RECORD} notes that it was unpacked; --keep_archive keeps it")
