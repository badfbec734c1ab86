"""Lists of jobs: trainings, evaluations, archives, results to score; on this machine, one a GPU, or on a Ray cluster.

The state of a list is in <folder>/status.json and that of each of its jobs in <folder>/<job>/status.json, as the
monitor reads them. A job whose worker dies runs again, elsewhere if its machine is gone. It must go on from what its
first try has written, and write what one machine would have written.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from configs.errors import UserError
from leap.cli import knob
from leap.files import sha256_json
from leap.progress import say
from leap.runs.child import only_one
from leap.runs.monitor import read_gpus
from leap.runs.ray_cluster import run_on_ray
from leap.runs.status import Status
from leap.runs.workers import SECONDS_TO_STOP, Failure, Needs, run_tasks

LOCK_FILE = "jobs.lock"


class Job(Protocol):
    """`name` is that of the job's folder, in the folder of its list."""

    @property
    def name(self) -> str: ...


J = TypeVar("J", bound=Job)
R = TypeVar("R")


@dataclass(frozen=True)
class JobKnobs:
    """Where jobs run. None of these changes what comes out."""

    ray: str | None = knob(
        None,
        "run the jobs on a Ray cluster: its address, or auto; the workspace must be on a disk that all machines share",
        flags=("--cluster",),
        free=True,
    )
    jobs: int | None = knob(
        None, "jobs at once (default: as many as GPUs or, on a cluster, machines suffice for)", check="> 0", free=True
    )
    gpus_per_job: float | None = knob(
        None, "GPUs a job takes; at 0.5 two share one (default: 1 where there are any)", check=">= 0", free=True
    )
    cpus_per_job: int = knob(1, "CPUs that a job takes on a cluster", check="> 0", free=True)
    memory_per_job: float = knob(0.0, "GB that a job takes on a cluster", check=">= 0", free=True)

    @property
    def as_jobs(self) -> bool:
        """Whether work is spread over jobs at all."""
        return self.ray is not None or self.jobs is not None or self.gpus_per_job is not None

    @property
    def needs(self) -> Needs:
        return Needs(self.gpus_per_job, self.cpus_per_job, self.memory_per_job)


def run_jobs(
    function: Callable[[J], R],
    jobs: Sequence[J],
    knobs: JobKnobs,
    folder: Path,
    seconds_to_stop: float = SECONDS_TO_STOP,
    gpus: Sequence[str] | None = None,
) -> Generator[tuple[J, R | Failure], None, None]:
    """(job, result) of all jobs, in the order in which they are done; one list at a time in a `folder`.

    `function` must be a module's own, and jobs and results must pickle. Where the iterator is closed early, jobs get
    `seconds_to_stop` to save what they have. Without `gpus` of this machine all that are visible are used. UserError if
    another process runs a list there, or the cluster is of no use.
    """
    tracked = _Tracked(function, folder, Path.cwd())
    with (
        only_one(folder / LOCK_FILE),
        Status(folder / "status.json", "jobs", {"run": folder.name}, len(jobs), "job") as status,
        status.beating(),
        contextlib.closing(_results(tracked, jobs, knobs, seconds_to_stop, gpus)) as results,
    ):
        failed = 0
        for done, (job, result) in enumerate(results, 1):
            if isinstance(result, Failure):
                failed += 1
                if result.details:
                    say(result.details.rstrip(), file=sys.stderr)
            status.update(done, failures=failed)
            yield job, result


def _results(
    tracked: Callable[[J], R],
    jobs: Sequence[J],
    knobs: JobKnobs,
    seconds_to_stop: float,
    gpus: Sequence[str] | None,
) -> Generator[tuple[J, R | Failure], None, None]:
    if knobs.ray:
        return run_on_ray(tracked, jobs, knobs.ray, knobs.jobs, needs=knobs.needs, seconds_to_stop=seconds_to_stop)
    if gpus is None:
        gpus = [] if knobs.gpus_per_job == 0 else visible_gpus()
    return run_tasks(tracked, jobs, knobs.jobs, needs=knobs.needs, gpus=gpus, seconds_to_stop=seconds_to_stop)


def list_folder(logs: Path, kind: str, jobs: Sequence[object]) -> Path:
    """The folder of a list in `logs`, by the `repr` of its jobs: that of the same jobs again, another one of others."""
    return logs / f"{kind}-{sha256_json(list(map(repr, jobs)))[:8]}"


def visible_gpus() -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    return [str(gpu.index) for gpu in read_gpus() or []]


@dataclass(frozen=True)
class _Tracked(Generic[J, R]):
    """A function of a job that keeps the job's status while it runs, from the folder that the list was started in."""

    function: Callable[[J], R]
    folder: Path
    start: Path

    def __call__(self, job: J) -> R:
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is not there on {socket.gethostname()}; all machines must see it")
        about: dict[str, Any] = {"run": f"{self.folder.name}/{job.name}"}
        if gpus := os.environ.get("CUDA_VISIBLE_DEVICES"):
            about["gpus"] = gpus
        path = self.folder / job.name / "status.json"
        with contextlib.chdir(self.start), Status(path, "job", about, 1, "job") as status, status.beating():
            result = self.function(job)
            status.update(1)
        return result
