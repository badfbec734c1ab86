"""One AgiBot archive as a job: fetched if it is on the hub, its first frames taken, then deleted.

A job may run in any process on any machine that sees the workspace, and again wherever it was interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from configs.errors import UserError
from leap.agibot.frames import (
    ARCHIVE_NAME,
    NoFrames,
    forget,
    manifest_path,
    own_hashes_path,
    read_manifest,
    take_first_frames,
    why_not_done,
    work_path,
)
from leap.archives import BrokenArchive, work_folder
from leap.downloads.access import DownloadFailed, NoSpace
from leap.downloads.fetch import STAGING, RemoteFile, Repository, content_problem, local_path, remove_staging
from leap.files import free_bytes, is_disk_full, locked
from leap.progress import Progress, say
from leap.runs.jobs import JobKnobs, list_folder, run_jobs
from leap.runs.workers import WORKERS, Failure


@dataclass(frozen=True)
class ArchiveJob:
    """An archive and where its frames go. `path` is a file here, or the file's path in `repo_id`; `sha256` and
    `git_sha1` are what the hub says of it."""

    task_id: str
    path: str
    bytes: int
    data: Path
    repo_id: str | None = None
    revision: str | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    keep: bool = False

    @property
    def name(self) -> str:
        return f"task_{self.task_id}"


@dataclass(frozen=True)
class TaskOutcome:
    """How a job ended: `problem` is None if its frames are in place; then `frames` and `quarantined` count episodes,
    `others` those of `frames` in whose place another picture was, which stays."""

    task_id: str
    frames: int = 0
    quarantined: int = 0
    others: int = 0
    problem: str | None = None
    disk_full: bool = False


def archives_folder(data: Path) -> Path:
    """Where archives are while they are fetched and read."""
    return data / "agibot" / "archives"


def jobs_of_folder(folder: Path, data: Path) -> list[ArchiveJob]:
    """A job for each `task_<id>.tar.gz` directly in `folder` or in its `image/`, by task id; UserError if none."""
    paths = [path for place in (folder, folder / "image") if place.is_dir() for path in place.iterdir()]
    archives = [(match[1], path) for path in paths if (match := ARCHIVE_NAME.fullmatch(path.name)) and path.is_file()]
    if not archives:
        raise UserError(f"no archive task_<id>.tar.gz in {folder} or {folder / 'image'}")
    return in_order([ArchiveJob(task, str(path), path.stat().st_size, data, keep=True) for task, path in archives])


def in_order(jobs: Sequence[ArchiveJob]) -> list[ArchiveJob]:
    """By task id; UserError if two archives are of one task."""
    jobs = sorted(jobs, key=lambda job: (int(job.task_id), job.task_id))
    for job, following in pairwise(jobs):
        if job.task_id == following.task_id:
            raise UserError(f"two archives of task {job.task_id}: {job.path} and {following.path}; remove one")
    return jobs


def chosen_jobs(jobs: Sequence[ArchiveJob], tasks: Sequence[str], most: int | None) -> list[ArchiveJob]:
    """The jobs of these task ids (all without any), the first `most` of them; UserError for a task without archive."""
    archived_tasks = {job.task_id for job in jobs}
    missing = [task for task in tasks if task not in archived_tasks]
    if missing:
        some = " ".join(job.task_id for job in jobs[:10])
        raise UserError(f"no archive of task {missing[0]}; there are {len(jobs)}, as of tasks {some}")
    return [job for job in jobs if not tasks or job.task_id in tasks][:most]


def prepare_task(job: ArchiveJob) -> TaskOutcome:
    """Do one job; a task that is done already is left alone. An archive that was fetched is gone afterwards, unless it
    is to be kept, gives no frame or the disk was full."""
    if not job.data.is_dir():
        return TaskOutcome(
            job.task_id, problem=f"{job.data} is not there on {socket.gethostname()}; all machines must see it"
        )
    try:
        with _archives_lock(job.data, alone=False) if job.repo_id else contextlib.nullcontext():
            if why_not_done(job.data, job.task_id, job.bytes, job.sha256) is None:
                manifest = read_manifest(manifest_path(job.data, job.task_id))
            else:
                if job.repo_id is not None:
                    _fetch(job)
                manifest = take_first_frames(_archive(job), job.data, job.task_id, job.sha256, job.revision)
            _discard(job)
    except NoFrames as error:
        return TaskOutcome(job.task_id, problem=f"{error}. The archive is left where it is, to be looked into")
    except BrokenArchive as error:
        _discard(job)
        return TaskOutcome(job.task_id, problem=str(error))
    except (UserError, DownloadFailed) as error:
        return TaskOutcome(job.task_id, problem=str(error), disk_full=isinstance(error, NoSpace))
    except OSError as error:
        return TaskOutcome(job.task_id, problem=str(error), disk_full=is_disk_full(error))
    others = sum(frame.number is None for frame in manifest.episodes.values())
    return TaskOutcome(job.task_id, len(manifest.episodes), len(manifest.quarantined), others)


def _archive(job: ArchiveJob) -> Path:
    return Path(job.path) if job.repo_id is None else archives_folder(job.data) / job.path


@contextlib.contextmanager
def _archives_lock(data: Path, *, alone: bool) -> Iterator[bool]:
    """Hold the lock of the fetched archives, `alone` or with others who fetch. False if `alone` it cannot be had."""
    folder = archives_folder(data)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+b") as file:
        # Without locks nobody is sure to be alone.
        yield locked(file, shared=not alone, without_locks=False)


def _fetch(job: ArchiveJob) -> None:
    """Bring the archive onto this disk; what a killed run fetched whole is not fetched again."""
    file, folder = RemoteFile(job.path, job.bytes, job.sha256, job.git_sha1), archives_folder(job.data)
    if content_problem(local_path(file.path, folder), file) is not None:
        assert job.repo_id is not None, "an archive on the Hub is wanted"
        assert job.revision is not None, "an archive on the Hub has a revision"
        Repository(job.repo_id, "dataset").fetch(file, job.revision, folder)


def _discard(job: ArchiveJob) -> bool:
    """Delete the archive of a job if it was fetched and is not to be kept; whether there was one."""
    if job.repo_id is None or job.keep or not _archive(job).is_file():
        return False
    _archive(job).unlink(missing_ok=True)
    return True


def remove_leftovers(data: Path, jobs: Sequence[ArchiveJob] = ()) -> None:
    """Remove what killed runs left of frames, manifests and, unless all `jobs` are of a folder, half-fetched files.
    What another run is using stays."""
    parts = [*(data / "images").glob(".task_*"), *(data / "agibot").glob(".task_*.json.*.part")]
    for part in parts:
        task_id = re.match(r"\.task_([0-9]+)\.", part.name)
        if task_id:
            with contextlib.suppress(UserError), work_folder(work_path(data, task_id[1])):
                is_leftover = part == own_hashes_path(data, task_id[1]) and manifest_path(data, task_id[1]).is_file()
                if is_leftover or part.parent.name == "agibot":
                    part.unlink(missing_ok=True)
    if not jobs or any(job.repo_id for job in jobs):
        _remove_parts(data)


def _remove_parts(data: Path) -> None:
    """Remove what came of archives and annotations whose fetching was cut off, unless a run is fetching."""
    folders = [folder for folder in (data / "agibot", archives_folder(data)) if (folder / STAGING).exists()]
    if folders:
        with _archives_lock(data, alone=True) as alone:
            for folder in folders if alone else ():
                remove_staging(folder)


def still_to_do(jobs: Sequence[ArchiveJob], verify: bool = False) -> list[ArchiveJob]:
    """The jobs whose frames are not all in place; with `verify` every frame is read and compared with its hash.

    Deletes what was fetched for the others, as a run does that was killed before it could, but for jobs that keep it.
    """
    left, deleted = [], 0
    with Progress("checking what is there", len(jobs), "task") as progress:
        for job in jobs:
            if why_not_done(job.data, job.task_id, job.bytes, job.sha256, verify):
                forget(job.data, job.task_id)
                left.append(job)
            else:
                deleted += _discard(job)
            progress.advance()
    if deleted:
        say(f"deleted {deleted} fetched archives of tasks that are done; --keep_archives keeps them")
    return left


def prepare_all(
    jobs: Sequence[ArchiveJob], data: Path, logs: Path, workers: int | None = None, cluster: str | None = None
) -> list[TaskOutcome]:
    """Do the jobs, whose states go to `logs`, and say how each ended. OSError if the disk is full: then all workers
    have stopped, and what they had begun or fetched is removed."""
    data.mkdir(parents=True, exist_ok=True)
    knobs = JobKnobs(ray=cluster, jobs=workers, gpus_per_job=0)
    outcomes = []
    full = None
    try:
        with (
            contextlib.closing(run_jobs(prepare_task, jobs, knobs, list_folder(logs, "archives", jobs))) as results,
            Progress("archives", len(jobs), "archive") as progress,
        ):
            for job, result in results:
                if isinstance(result, Failure):
                    result = TaskOutcome(job.task_id, problem=result.reason)
                if result.disk_full:
                    full = job
                    break
                outcomes.append(result)
                say(f"task {job.task_id}: {result.problem or _counts(result)}")
                progress.advance()
    finally:
        remove_leftovers(data, () if full else jobs)
    if full:
        _discard_all(data, jobs)
        raise OSError(errno.ENOSPC, _space_advice(full, jobs, workers), str(data))
    return outcomes


def _counts(outcome: TaskOutcome) -> str:
    others = f", {outcome.others} of them other pictures that were there" if outcome.others else ""
    return f"{outcome.frames} first frames{others}, {outcome.quarantined} quarantined"


def _discard_all(data: Path, jobs: Sequence[ArchiveJob]) -> None:
    """Delete what was fetched for these jobs, unless a run is fetching."""
    if archives_folder(data).is_dir():
        with _archives_lock(data, alone=True) as alone:
            for job in jobs if alone else ():
                _discard(job)


def _space_advice(job: ArchiveJob, jobs: Sequence[ArchiveJob], workers: int | None) -> str:
    workers = workers or WORKERS
    return (
        f"task {job.task_id} takes up to {disk_need([job], 1):,} bytes while it is done, {workers} at once up to "
        f"{disk_need(jobs, workers):,}, and {free_bytes(job.data):,} are free now"
    )


def disk_need(jobs: Sequence[ArchiveJob], workers: int) -> int:
    """Bytes that `workers` jobs at once take at most: an archive that is fetched, and as much again for its frames."""
    return sum(sorted((job.bytes * (1 if job.repo_id is None else 2) for job in jobs), reverse=True)[:workers])
