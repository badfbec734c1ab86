"""Every training, evaluation and blind review of a workspace, from status files and journals, not from logs; and how
busy the GPUs of this machine are, as nvidia-smi tells.

eva_results/<dimension>/<model>/status.json    an evaluation; beside it generations*.jsonl and failures*.jsonl
eva_results/<review>/status.json               models asked for the plans of a blind review
logs/<run>/status.json                         a training; a run may lie several folders deep
"""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.provenance import utc_now
from leap.runs.status import (
    DIED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    SILENT,
    RunStatus,
    is_here,
    judged,
    written_status,
)

_TIMEOUT_S = 5.0  # of nvidia-smi
FINISHED_SHOWN_S = 3600.0
ENDED_SHOWN_S = 7 * 24 * 3600.0
_STATES = (RUNNING, SILENT, DIED, FAILED, INTERRUPTED, FINISHED)  # in the order of the table


@dataclass(frozen=True)
class MonitoredRun:
    """A status file, its counts brought up to date from the journals beside it."""

    path: Path
    status: RunStatus
    gpus: list[Gpu]  # that its process computes on, as far as the driver tells

    @property
    def name(self) -> str:
        """The model or the run."""
        label = self.status.about.get("model") or self.status.about.get("run")
        return str(label or self.path.parent.name)

    @property
    def dimension(self) -> str | None:
        label = self.status.about.get("dimension")
        return str(label) if label else None


@dataclass(frozen=True)
class Snapshot:
    """What there is at a moment."""

    time: str  # UTC
    runs: list[MonitoredRun]
    left_out: int  # that ended too long ago
    unreadable: dict[Path, str]  # files that hold no status, and why
    gpus: list[Gpu] | None  # None if that cannot be asked

    @property
    def is_empty(self) -> bool:
        """Whether there is no status file at all."""
        return not (self.runs or self.left_out or self.unreadable)


class Monitor:
    """Looks into a folder of results and one of logs, again and again; what did not change is not read again."""

    def __init__(self, results: Path, logs: Path) -> None:
        self.results, self.logs = results, logs
        self._statuses: dict[Path, tuple[tuple | None, RunStatus]] = {}
        self._lines: dict[Path, tuple[tuple | None, int]] = {}
        self._gpus = GpuReader()

    def snapshot(self, everything: bool = False) -> Snapshot:
        """The runs that are going on, those that finished in the last hour, and those that died, failed, were
        interrupted or fell silent in the last week; or all of them."""
        gpus = self._gpus.latest()
        runs, left_out, unreadable = [], 0, {}
        for path in self._status_files():
            try:
                status = self._status(path)
            except UserError as error:
                if path.exists():  # else it was removed since it was listed
                    unreadable[path] = str(error)
                continue
            if everything or _is_of_now(status):
                own_gpus = [gpu for gpu in gpus or [] if status.pid in gpu.pids and is_here(status)]
                runs.append(
                    MonitoredRun(path, self._counted(path.parent, status), own_gpus if status.state == RUNNING else [])
                )
            else:
                left_out += 1
        runs.sort(key=lambda run: (_STATES.index(run.status.state), run.status.kind, run.status.started, run.path))
        return Snapshot(utc_now(), runs, left_out, unreadable, gpus)

    def _status_files(self) -> Iterator[Path]:
        yield from self.results.glob("*/status.json")
        yield from self.results.glob("*/*/status.json")
        for folder, _, names in os.walk(self.logs):
            if "status.json" in names:
                yield Path(folder, "status.json")

    def _status(self, path: Path) -> RunStatus:
        mark = _mark(path)
        if path not in self._statuses or self._statuses[path][0] != mark:
            self._statuses[path] = (mark, written_status(path))
        return judged(self._statuses[path][1])

    def _counted(self, folder: Path, status: RunStatus) -> RunStatus:
        """The status of an evaluation with the answers and failures in its journals, if they are more: each of several
        processes writes a journal, and only the first the status."""
        if status.kind != "evaluation":
            return status
        answered = sum(map(self._count_lines, folder.glob("generations*.jsonl"))) - status.other_lines
        failures = sum(map(self._count_lines, folder.glob("failures*.jsonl")))
        answered = min(answered, status.total)
        if answered > status.done:
            more_s = status.silent_s if status.state == RUNNING else 0.0
            status = dataclasses.replace(status, done=answered, seconds=status.seconds + more_s)
        return dataclasses.replace(status, failures=max(status.failures, failures))

    def _count_lines(self, path: Path) -> int:
        """How many lines are complete."""
        mark = _mark(path)
        if path not in self._lines or self._lines[path][0] != mark:
            self._lines[path] = (mark, _newlines(path))
        return self._lines[path][1]


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot for machines: `runs` hold their status.json, with the state as it is now and what follows from it."""
    return {
        "time": snapshot.time,
        "runs": [
            {
                "path": str(run.path),
                **dataclasses.asdict(run.status),
                "rate": run.status.rate,
                "left_s": run.status.left_s,
                "silent_s": run.status.silent_s,
                "gpus": [gpu.index for gpu in run.gpus],
            }
            for run in snapshot.runs
        ],
        "left_out": snapshot.left_out,
        "unreadable": {str(path): reason for path, reason in snapshot.unreadable.items()},
        "gpus": None if snapshot.gpus is None else [dataclasses.asdict(gpu) for gpu in snapshot.gpus],
    }


def _is_of_now(status: RunStatus) -> bool:
    if status.state == RUNNING:
        return True
    return status.silent_s < (FINISHED_SHOWN_S if status.state == FINISHED else ENDED_SHOWN_S)


def _mark(path: Path) -> tuple | None:
    """What changes whenever a file is replaced or appended to; None if it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _newlines(path: Path) -> int:
    try:
        with open(path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0  # what the status file says still counts


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine; what the driver does not tell is None."""

    index: int
    name: str
    busy_percent: int | None
    used_mib: int | None
    total_mib: int | None
    pids: tuple[int, ...]  # of the processes that compute on it; a container may see none


class GpuReader:
    """Asks nvidia-smi beside the work: with a broken driver it may neither answer nor be killed."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._latest: list[Gpu] | None = None

    def latest(self) -> list[Gpu] | None:
        """What was found last, while it asks anew; the first call waits for an answer, but not for long."""
        first = self._thread is None
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
        if first:
            self._thread.join(2 * _TIMEOUT_S)
        return self._latest

    def _ask(self) -> None:
        self._latest = read_gpus()


def read_gpus() -> list[Gpu] | None:
    """The GPUs of this machine; None if there is no nvidia-smi or it does not answer."""
    gpus = _query("--query-gpu=index,uuid,name,utilization.gpu,memory.used,memory.total", 6)
    if gpus is None:
        return None
    processes = _query("--query-compute-apps=gpu_uuid,pid", 2) or []
    return [
        Gpu(
            index=int(index),
            name=name,
            busy_percent=_number(busy),
            used_mib=_number(used),
            total_mib=_number(total),
            pids=tuple(int(pid) for gpu_uuid, pid in processes if gpu_uuid == uuid and pid.isdecimal()),
        )
        for index, uuid, name, busy, used, total in gpus
        if index.isdecimal()
    ]


def _query(question: str, columns: int) -> list[list[str]] | None:
    """The lines of an answer, those of other forms (a message) left out."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, question, "--format=csv,noheader,nounits"]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if process.returncode != 0:
        return None
    lines = csv.reader(process.stdout.splitlines(), skipinitialspace=True)
    return [line for line in lines if len(line) == columns]


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
