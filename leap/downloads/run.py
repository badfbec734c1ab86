"""A whole download: list, say what it takes, check the disk, fetch with a few workers, verify, record.

The same call goes on after a kill: what is there and right is not fetched again, at the commit that was recorded first.
"""

from __future__ import annotations

import contextlib
import os
import queue
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
from leap.downloads.access import DownloadFailed, NoSpace, RetryPolicy, host, mirror_advice
from leap.downloads.fetch import RECORD, RemoteFile, Repository, remove_staging
from leap.downloads.record import Record, Selection, read_record, why_fetch
from leap.files import free_bytes, locked
from leap.progress import Progress, say
from leap.text import duration_text, size_text

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

    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.tries, self.first_pause_s, self.longest_wait_s)


@dataclass(frozen=True)
class DownloadOptions(FetchOptions):
    """The knobs that every download has."""

    revision: str | None = knob(
        None, "branch, tag or commit (default: the commit recorded in the folder, else the newest)"
    )
    verify: bool = knob(False, "hash again what was found right before")


@dataclass
class DownloadResult:
    """What a download came to. `failed` are the files that are not there, with reasons."""

    folder: Path
    selection: Selection
    failed: dict[str, str] = field(default_factory=dict)


def download(
    repo_id: str,
    repo_type: str,
    folder: Path,
    select: Callable[[list[str]], Selection],
    options: DownloadOptions,
    extra_bytes: Callable[[list[RemoteFile]], int] = lambda missing: 0,
) -> DownloadResult:
    """Bring the files that `select` takes of a repository's paths into `folder`, and say on the way what happens.

    `extra_bytes` says how many bytes more will be needed if these files are fetched, as for unpacking. UserError before
    anything is fetched if the disk cannot hold it, the Hub refuses, or the folder holds another repository's download
    or is used by another process.
    """
    with claimed(folder):
        record, selection = _recorded(repo_id, repo_type, folder, select, options)
        if not record.selected(selection):
            raise UserError(f"{repo_id} holds no file that matches {' '.join(selection.patterns) or 'anything wanted'}")
        files = [file for file in record.selected(selection) if not record.was_unpacked(file)]
        missing = _missing(files, folder, record, options)
        paths = {file.path for file in missing}
        present = [file for file in files if file.path not in paths]
        for file in present:
            record.note_right(file, folder)
        say(
            f"{repo_type} {repo_id} at {record.commit[:12]}: {counted_files(files)}; there already: "
            f"{counted_files(present)}; to fetch: {counted_files(missing)}"
        )
        failed = {}
        if missing:
            _check_space(missing, folder, extra_bytes(missing))
            record.write(folder)
            failed = fetch_files(missing, folder, record, options)
        record.write(folder)
        if failed:
            say(f"{len(failed)} of {len(files)} files are not there; the same command goes on where it was")
            if advice := mirror_advice():
                say(advice)
        else:
            say(f"{len(files):,} files in {folder}, each of the size and hash that the Hub lists")
        return DownloadResult(folder, selection, failed)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """`folder`, made if need be, for this process alone; UserError if another one has it. What a killed run left half
    fetched goes, and a new folder that stays empty."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{folder} is a file; name another folder with --local_dir") from error
    try:
        if not locked(handle):
            raise UserError(f"another download into {folder} is running; wait for it or stop it")
        remove_staging(folder)
        yield
        remove_staging(folder)
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(handle)


def _recorded(
    repo_id: str, repo_type: str, folder: Path, select: Callable[[list[str]], Selection], options: DownloadOptions
) -> tuple[Record, Selection]:
    """The record to go on with, which has all files of the selection; the Hub is asked only if it had not."""
    old = read_record(folder)
    if old is not None and (old.repo_id, old.repo_type) != (repo_id, repo_type):
        raise UserError(
            f"{folder} holds a download of {old.repo_type} {old.repo_id}, says its {RECORD}. Name another folder with "
            "--local_dir"
        )
    pinned = old if old is not None and options.revision in (None, old.commit) else None
    if pinned is not None and (selection := pinned.recorded_selection(select)) is not None:
        if options.revision is None:
            say(f"commit {pinned.commit[:12]} as recorded in {folder / RECORD}; --revision main takes the newest")
        return pinned, selection
    say(f"asking {host()} for the list of {repo_type} {repo_id}")
    revision = options.revision if pinned is None else pinned.commit
    listing = Repository(repo_id, repo_type, options.retry_policy()).listing(revision)
    selection = select([file.path for file in listing.files])
    selections = list(dict.fromkeys([*(old.selections if old else ()), selection]))
    is_same = old is not None and old.commit == listing.commit
    named = old.revision if old is not None and is_same else options.revision or "main"
    record = Record.from_listing(listing, (repo_id, repo_type), named, selections)
    if old is not None:
        record.remember(old)
        if not is_same:
            _say_what_stays(old, record, selection, folder)
    return record, selection


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


def _missing(files: Sequence[RemoteFile], folder: Path, record: Record, options: DownloadOptions) -> list[RemoteFile]:
    """The files that have to be fetched, looked at by a few threads."""
    missing = []
    takes_long = len(files) > 2000 or sum(file.size for file in files if (folder / file.path).exists()) > 1e9
    progress = Progress("files looked at", len(files), "file") if takes_long else None
    with ThreadPoolExecutor(options.workers) as pool, progress or contextlib.nullcontext():
        reasons = pool.map(lambda file: why_fetch(file, folder, record, hash_again=options.verify), files)
        for file, reason in zip(files, reasons, strict=True):
            if reason is not None:
                missing.append(file)
                record.verified.pop(file.path, None)
                if reason != "is missing":
                    say(f"{file.path} {reason}; it is fetched again")
            if progress is not None:
                progress.advance()
    return missing


def _check_space(missing: Sequence[RemoteFile], folder: Path, extra: int) -> None:
    needed = sum(-(-file.size // _BLOCK) * _BLOCK for file in missing) + extra
    free = free_bytes(folder)
    say(f"the disk of {folder} has {size_text(free)} free; this takes {size_text(needed)}")
    if needed > free:
        raise NoSpace(
            f"not enough space for {folder}: {needed:,} bytes are needed, {free:,} are free. Nothing was fetched; free "
            "some, or set LEAP_WORKSPACE to a bigger disk"
        )


def fetch_files(files: Sequence[RemoteFile], folder: Path, record: Record, options: FetchOptions) -> dict[str, str]:
    """Fetch files with a few workers; those that failed, with reasons, which are said too. The record is written every
    now and then. UserError stops all."""
    policy = options.retry_policy()
    source = Repository(record.repo_id, record.repo_type, policy)
    pending = iter(files)
    results: queue.SimpleQueue[tuple[RemoteFile, Exception | None]] = queue.SimpleQueue()
    progress = TransferProgress(files)

    def work() -> None:
        while not policy.stopped.is_set() and (file := next(pending, None)) is not None:
            problem = None
            try:
                source.fetch(file, record.commit, folder, progress.add, record.earlier.get(file.path, ()))
            except Exception as error:  # whatever it is, the main thread judges it
                problem = error
            results.put((file, problem))

    # Daemons: after Ctrl-C nothing waits for a transfer that hangs.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(options.workers, len(files)))]
    for thread in threads:
        thread.start()
    failed: dict[str, str] = {}
    failures_in_a_row, written = 0, time.monotonic()
    try:
        with progress:
            for left in range(len(files) - 1, -1, -1):
                file, error = results.get()
                if error is None:
                    record.note_right(file, folder)
                    progress.add(0, files=1)
                    failures_in_a_row = 0
                elif isinstance(error, DownloadFailed):
                    failed[file.path] = str(error).removeprefix(f"{file.path}: ")
                    failures_in_a_row += 1
                    if failures_in_a_row >= _MOST_FAILURES_IN_A_ROW and left:
                        say(f"{failures_in_a_row} files failed in a row, so the rest is not tried")
                        break
                else:
                    raise NoSpace(_space_needed(files, folder, record)) if isinstance(error, NoSpace) else error
                if time.monotonic() - written > _SECONDS_BETWEEN_RECORDS:
                    record.write(folder)
                    written = time.monotonic()
    finally:
        policy.stopped.set()
        for thread in threads:
            thread.join(0.2)  # they stop at their next bytes
        with contextlib.suppress(OSError):
            record.write(folder)
    failed |= {file.path: "not tried" for file in files if file.path not in {**record.verified, **failed}}
    for path, reason in failed.items():
        say(f"failed: {path}: {reason}")
    return failed


def _space_needed(files: Sequence[RemoteFile], folder: Path, record: Record) -> str:
    remove_staging(folder)
    left = sum(file.size for file in files if file.path not in record.verified)
    return (
        f"no space left on the disk of {folder}: {left:,} bytes are still to come, {free_bytes(folder):,} are free. "
        "Free some and run the same command again; finished files stay"
    )


class TransferProgress:
    """Files and bytes so far, and the time left: a bar on a terminal, a line now and then in a log."""

    def __init__(self, files: Sequence[RemoteFile]) -> None:
        self.files, self.bytes = len(files), sum(file.size for file in files)
        self.done_files = self.done_bytes = 0
        self._lock = threading.Lock()
        self._started = self._last_line_s = time.monotonic()
        self._bar = tqdm(total=self.bytes, unit="B", unit_scale=True) if sys.stderr.isatty() else None

    def add(self, count: int, files: int = 0) -> None:
        """So many bytes came, and files proved right; below 0 for the bytes of a try that failed."""
        with self._lock:
            self.done_bytes += count
            self.done_files += files
            clock = time.monotonic()
            if self._bar is not None:
                self._bar.set_description(f"{self.done_files:,}/{self.files:,} files", refresh=False)
                self._bar.update(count)
            elif (files and self.done_files == self.files) or clock - self._last_line_s >= _SECONDS_BETWEEN_LINES:
                self._last_line_s = clock
                rate = self.done_bytes / max(clock - self._started, 1e-9)
                left = (
                    f"{duration_text((self.bytes - self.done_bytes) / rate)} left" if rate > 0 else "nothing came yet"
                )
                say(
                    f"{self.done_files:,}/{self.files:,} files, {size_text(self.done_bytes)} of "
                    f"{size_text(self.bytes)}, {size_text(rate)}/s, {left}"
                )

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
