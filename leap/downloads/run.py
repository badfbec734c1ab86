"""A whole download: list, say what it takes, check the disk, fetch with a few workers, verify, record.

The same call goes on after a kill: what is there and right is not fetched again, at the commit that was recorded first.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from configs.errors import UserError
from leap.cli import knob
from leap.downloads.access import DownloadFailed, Patience, host
from leap.downloads.fetch import (
    PART,
    RECORD,
    STAGING,
    Listing,
    NoSpace,
    RemoteFile,
    download_file,
    list_files,
    staging_of,
)
from leap.downloads.record import Record, Selection, read_record, state_of
from leap.files import locked
from leap.progress import Progress, say

_BLOCK = 4096  # bytes that a disk gives to a file at once
_SECONDS_BETWEEN_RECORDS = 30.0
_SECONDS_BETWEEN_LINES = 10.0
_MOST_FAILURES_IN_A_ROW = 10


@dataclass(frozen=True)
class FetchOptions:
    """The knobs of whatever asks the Hub for files."""

    mirror: bool = knob(False, "ask hf-mirror.com, which others run; without Xet and without your token")
    workers: int = knob(4, "files fetched at once; more meet the Hub's rate limit sooner", check="> 0")
    tries: int = knob(6, "tries of a file before it counts as failed", check="> 0")
    first_pause_s: float = knob(1.0, "seconds before the second try; doubles with each", check="> 0")
    longest_wait_s: float = knob(900.0, "longest wait, in seconds, that a rate limit may ask for", check="> 0")

    def patience(self) -> Patience:
        return Patience(self.tries, self.first_pause_s, self.longest_wait_s)


@dataclass(frozen=True)
class DownloadOptions(FetchOptions):
    """The knobs that every download has."""

    revision: str | None = knob(
        None, "branch, tag or commit (default: the commit recorded in the folder, else the newest)"
    )
    verify: bool = knob(False, "hash again what was found right before")


@dataclass
class Outcome:
    """What a download came to. `failed` are the files that are not there, with reasons."""

    folder: Path
    commit: str
    files: int
    fetched: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def download(
    repo_id: str,
    repo_type: str,
    folder: Path,
    selection: Selection,
    options: DownloadOptions,
    listing: Listing | None = None,
    besides: Callable[[list[RemoteFile]], int] = lambda missing: 0,
) -> Outcome:
    """Bring the selected files of a repository into `folder`, and say on the way what happens.

    `listing` is the repository's if it was asked for already. `besides` says how many bytes more will be needed if
    these files are fetched, as for unpacking. UserError before anything is fetched if the disk cannot hold it, the Hub
    refuses, or the folder holds another repository's download or is used by another process.
    """
    with claimed(folder):
        record, listing = _listed(repo_id, repo_type, folder, selection, options, listing)
        if not listing.files:
            raise UserError(f"{repo_id} holds no file that matches {' '.join(selection.patterns) or 'anything wanted'}")
        wanted = [file for file in listing.files if not _served(file, record)]
        missing = _missing(wanted, folder, record, options)
        _tidy_staging(folder, missing)
        absent = {file.path for file in missing}
        present = [file for file in wanted if file.path not in absent]
        for file in present:
            record.note_right(file, folder)
        outcome = Outcome(folder, listing.commit, len(wanted))
        say(
            f"{repo_type} {repo_id} at {listing.commit[:12]}: {counted_files(wanted)}; there already: "
            f"{counted_files(present)}; to fetch: {counted_files(missing)}"
        )
        if missing:
            _check_space(missing, folder, besides(missing))
            record.write(folder)
            fetch_files(missing, folder, record, options, outcome)
        record.write(folder)
        if outcome.failed:
            for path, reason in outcome.failed.items():
                say(f"failed: {path}: {reason}")
            say(f"{len(outcome.failed)} of {len(wanted)} files are not there; the same command goes on where it was")
        else:
            say(f"{len(wanted):,} files in {folder}, each of the size and hash that the Hub lists")
        return outcome


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """`folder`, made if need be, for this process alone; UserError if another one has it. What stays empty goes."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{folder} is a file; name another folder with --local_dir") from error
    try:
        if not locked(handle):
            raise UserError(f"another download into {folder} is running; wait for it or stop it")
        yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(handle)


def _listed(
    repo_id: str,
    repo_type: str,
    folder: Path,
    selection: Selection,
    options: DownloadOptions,
    listing: Listing | None,
) -> tuple[Record, Listing]:
    """The record to go on with and the files of the selection; from the record alone where it has them all."""
    record = read_record(folder)
    if record is not None and (record.repo_id, record.repo_type) != (repo_id, repo_type):
        raise UserError(
            f"{folder} holds a download of {record.repo_type} {record.repo_id}, says its {RECORD}. Name another folder "
            "with --local_dir"
        )
    pinned = record is not None and options.revision in (None, record.commit)
    if pinned and selection in record.selections:
        if options.revision is None:
            say(f"commit {record.commit[:12]} as recorded in {folder / RECORD}; --revision main takes the newest")
        return record, record.listing(selection)
    before = [] if record is None or pinned else record.selections
    if listing is None:
        say(f"asking {host()} for the list of {repo_type} {repo_id}")
        revision = record.commit if pinned else options.revision
        listing = list_files(repo_id, repo_type, revision, _patterns([selection, *before]), options.patience())
    old = record
    if record is None or record.commit != listing.commit:
        record = Record(repo_id, repo_type, options.revision or "main", listing.commit, host())
    for one in (selection, *before):
        record.include(one, [file for file in listing.files if one.takes(file.path)])
    if old is not None and old is not record:
        record.remember(old)
        _say_what_stays(old, record, selection, folder)
    return record, record.listing(selection)


def _patterns(selections: Sequence[Selection]) -> tuple[str, ...]:
    """What to list for all of them; nothing is everything."""
    if not all(selection.patterns for selection in selections):
        return ()
    return tuple(pattern for selection in selections for pattern in selection.patterns)


def _say_what_stays(old: Record, record: Record, selection: Selection, folder: Path) -> None:
    left = [path for path in old.files if path not in record.files and (folder / path).exists()]
    if left:
        say(
            f"{len(left):,} files of the earlier commit {old.commit[:12]} stay, though this one does not list them: "
            f"{first_few(left)}"
        )
    later = [path for path in record.files if not selection.takes(path) and path not in record.verified]
    if later:
        say(
            f"{len(later):,} files that were fetched before, and are not asked for now, are new or others at commit "
            f"{record.commit[:12]}; they come when they are asked for again: {first_few(later)}"
        )


def _served(file: RemoteFile, record: Record) -> bool:
    """Whether an archive was unpacked and need not be there."""
    return record.unpacked.get(file.path, {}).get("sha256") == (file.sha256 or file.git_sha1)


def _missing(files: Sequence[RemoteFile], folder: Path, record: Record, options: DownloadOptions) -> list[RemoteFile]:
    """The files that have to be fetched, looked at by a few threads."""
    missing = []
    shown = Progress("files looked at", len(files), "file") if _takes_long(files, folder) else None
    with ThreadPoolExecutor(options.workers) as pool, shown or contextlib.nullcontext():
        states = pool.map(lambda file: state_of(file, folder, record, options.verify), files)
        for file, state in zip(files, states, strict=True):
            if state is not None:
                missing.append(file)
                record.verified.pop(file.path, None)
                if state != "is missing":
                    say(f"{file.path} {state}; it is fetched again")
            if shown is not None:
                shown.advance()
    return missing


def _takes_long(files: Sequence[RemoteFile], folder: Path) -> bool:
    return len(files) > 2000 or sum(file.size for file in files if (folder / file.path).exists()) > 1e9


def _tidy_staging(folder: Path, missing: Sequence[RemoteFile]) -> None:
    """Remove what earlier runs left of files that are not wanted now; of the others, it is gone on with."""
    staging = folder / STAGING
    if staging.is_symlink():
        raise UserError(f"{staging} is a symbolic link, and nothing is written through one; remove it")
    if not missing:
        shutil.rmtree(staging, ignore_errors=True)
    elif staging.is_dir():
        wanted = {staging_of(file, folder) for file in missing}
        for path in set(staging.iterdir()) - wanted:
            shutil.rmtree(path)


def _check_space(missing: Sequence[RemoteFile], folder: Path, besides: int) -> None:
    needed = sum(-(-file.size // _BLOCK) * _BLOCK - _there_of(file, folder) for file in missing) + besides
    free = shutil.disk_usage(folder).free
    say(f"the disk of {folder} has {size_text(free)} free; this takes {size_text(needed)}")
    if needed > free:
        raise NoSpace(
            f"not enough space for {folder}: {needed:,} bytes are needed, {free:,} are free. Nothing was fetched; free "
            "some, or set LEAP_WORKSPACE to a bigger disk"
        )


def _there_of(file: RemoteFile, folder: Path) -> int:
    """Bytes that a killed run left of a file, and that are not fetched again."""
    part = staging_of(file, folder) / PART
    return min(part.stat().st_size, file.size) if part.exists() else 0


def fetch_files(
    files: Sequence[RemoteFile], folder: Path, record: Record, options: FetchOptions, outcome: Outcome
) -> None:
    """Fetch files with a few workers; the record is written now and then. UserError stops all."""
    patience = options.patience()
    todo: queue.SimpleQueue[RemoteFile] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[RemoteFile, Exception | None]] = queue.SimpleQueue()
    for file in files:
        todo.put(file)
    progress = TransferProgress(len(files), sum(file.size for file in files))

    def work() -> None:
        while not patience.stopped.is_set():
            try:
                file = todo.get_nowait()
            except queue.Empty:
                return
            source = (record.repo_id, record.repo_type, file, record.commit)
            try:
                download_file(*source, folder, patience, progress.add_bytes, record.earlier.get(file.path, ()))
            except Exception as error:  # whatever it is, the main thread judges it
                done.put((file, error))
            else:
                done.put((file, None))

    # Daemons: after Ctrl-C nothing waits for a transfer that hangs.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(options.workers, len(files)))]
    for thread in threads:
        thread.start()
    failures_in_a_row, written = 0, time.monotonic()
    try:
        with progress:
            for number in range(1, len(files) + 1):
                file, error = _next(done, progress)
                if error is None:
                    record.note_right(file, folder)
                    outcome.fetched += 1
                    failures_in_a_row = 0
                    progress.add_file()
                elif isinstance(error, NoSpace):
                    raise NoSpace(_space_needed(files, folder, record)) from error
                elif isinstance(error, DownloadFailed):
                    outcome.failed[file.path] = str(error).removeprefix(f"{file.path}: ")
                    failures_in_a_row += 1
                    if failures_in_a_row >= _MOST_FAILURES_IN_A_ROW and number < len(files):
                        say(f"{failures_in_a_row} files failed in a row, so the rest is not tried")
                        break
                else:
                    raise error
                if time.monotonic() - written > _SECONDS_BETWEEN_RECORDS:
                    record.write(folder)
                    written = time.monotonic()
    finally:
        patience.stopped.set()
        _join(threads, 1.0)
        with contextlib.suppress(OSError):
            record.write(folder)
    for file in files:
        if file.path not in record.verified:
            outcome.failed.setdefault(file.path, "not tried")
    if not outcome.failed:
        shutil.rmtree(folder / STAGING, ignore_errors=True)


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    """Wait a moment for the workers, which stop at their next bytes and remove what is half done."""
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _next(done: queue.SimpleQueue, progress: TransferProgress) -> tuple[RemoteFile, Exception | None]:
    while True:
        try:
            return done.get(timeout=1.0)
        except queue.Empty:
            progress.show_now_and_then()


def _space_needed(files: Sequence[RemoteFile], folder: Path, record: Record) -> str:
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    left = sum(file.size for file in files if file.path not in record.verified)
    return (
        f"no space left on the disk of {folder}: {left:,} bytes are still to come, "
        f"{shutil.disk_usage(folder).free:,} are free. Free some and run the same command again; finished files stay"
    )


class TransferProgress:
    """Files and bytes so far, and the time left: a bar on a terminal, a line now and then in a log."""

    def __init__(self, files: int, size: int) -> None:
        self.files, self.size, self.done_files, self.done_bytes = files, size, 0, 0
        self._started = self._shown = time.monotonic()
        self._lock = threading.Lock()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=size, unit="B", unit_scale=True, desc=self._files_text())

    def add_bytes(self, number: int) -> None:
        with self._lock:
            self.done_bytes += number
            if self._bar is not None:
                self._bar.update(number)

    def add_file(self) -> None:
        self.done_files += 1
        if self._bar is not None:
            self._bar.set_description(self._files_text(), refresh=False)
        self.show_now_and_then()

    def show_now_and_then(self) -> None:
        now = time.monotonic()
        if self._bar is None and (now - self._shown >= _SECONDS_BETWEEN_LINES or self.done_files == self.files):
            rate = self.done_bytes / max(now - self._started, 1e-9)
            left = f"{duration_text((self.size - self.done_bytes) / rate)} left" if rate > 0 else "nothing came yet"
            say(
                f"{self._files_text()}, {size_text(self.done_bytes)} of {size_text(self.size)}, "
                f"{size_text(rate)}/s, {left}"
            )
            self._shown = now

    def _files_text(self) -> str:
        return f"{self.done_files:,}/{self.files:,} files"

    def __enter__(self) -> TransferProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


def first_few(names: Sequence[str]) -> str:
    """The first three names, and whether there are more."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def counted_files(files: Sequence[RemoteFile]) -> str:
    """How many files and how large, as in "12 files (4.3 GB)"."""
    return f"{len(files):,} files ({size_text(sum(file.size for file in files))})"


def size_text(size: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
