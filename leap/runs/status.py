"""The status file of a long-running process: how far it is, how it ended, and whether it still lives.

    with Status(folder / "status.json", "evaluation", {"model": name}, total=100, unit="example", done=3) as status:
        status.update(4, failures=1)

Open it once the run holds the lock of its journal, so that a second process cannot overwrite the status of the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import socket
import threading
import time
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import read_json, write_json
from leap.progress import say
from leap.provenance import utc_now

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
# What only a reader can find of a file that says "running".
DIED, SILENT = "died", "silent"

_WRITE_EVERY_S = 1.0
_BEAT_EVERY_S = 60.0
_SILENT_AFTER_S = 600.0  # longer than a slow batch or the saving of a checkpoint takes
_LONGEST_REASON = 300


@dataclass(frozen=True)
class RunStatus:
    """A status.json. `rate` and `left_s` follow from it."""

    kind: str  # "training", "evaluation", "outputs", "jobs" (a list of them) or "job"
    about: dict  # what runs, as JSON: model and dimension, or run
    state: str  # "running", "finished", "failed" or "interrupted"; `judged` also says "died" and "silent"
    reason: str | None  # one line why it failed or was interrupted
    phase: str | None  # what it is doing, such as "validating"
    pid: int
    process_start: int | None  # clock ticks from boot to the start of the process, where the system tells
    pid_namespace: str | None  # in which `pid` counts; containers on one host have their own
    host: str
    device: str | None  # name of the GPU
    started: str  # UTC
    updated: str  # UTC
    seconds: float | int  # from `started` to `updated`
    total: int
    done: int
    first_done: int  # `done` at the start
    failures: int
    unit: str
    other_lines: int  # lines in the journals beside this file that count for none of `total`
    counts: dict  # further numbers, such as the loss; one that is not finite is text

    @property
    def rate(self) -> float | None:
        """Units a second, over what this process did itself; None before the first."""
        done = self.done - self.first_done
        return done / self.seconds if done > 0 and self.seconds > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this rate; None if it is not running or the rate is not known."""
        return max(self.total - self.done, 0) / self.rate if self.state == RUNNING and self.rate else None

    @property
    def silent_s(self) -> float:
        """Seconds since the file was written, by the clock of this host."""
        return max((datetime.now(UTC) - datetime.fromisoformat(self.updated)).total_seconds(), 0.0)


class Status:
    """Keeps a status file while a `with` block runs; it is written at the start, about once a second, and at the end.

    The exception that ends the block decides the state: none "finished", Ctrl-C and SystemExit "interrupted", any other
    "failed". A file that cannot be written (disk full) is warned of once and does not end the run.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        about: dict[str, Any],
        total: int,
        unit: str,
        done: int = 0,
        device: str | None = None,
        other_lines: int = 0,
    ) -> None:
        self.path = path
        self._opened, self._written, self._warned = time.monotonic(), -math.inf, False
        self._lock = threading.RLock()  # `beating` updates too
        self._record = RunStatus(
            kind=kind,
            about=about,
            state=RUNNING,
            reason=None,
            phase=None,
            pid=os.getpid(),
            process_start=_process_start(os.getpid()),
            pid_namespace=_pid_namespace(),
            host=socket.gethostname(),
            device=device,
            started=utc_now(),
            updated=utc_now(),
            seconds=0.0,
            total=total,
            done=done,
            first_done=done,
            failures=0,
            unit=unit,
            other_lines=other_lines,
            counts={},
        )

    def update(
        self, done: int | None = None, *, failures: int | None = None, phase: str | None = None, **counts: float
    ) -> None:
        """Note how far the run is; what is not given stays, and nothing at all says that it lives. The file follows
        within a second or at the next update, a new phase at once."""
        with self._lock:
            previous = self._record
            self._record = dataclasses.replace(
                previous,
                done=previous.done if done is None else done,
                failures=previous.failures if failures is None else failures,
                phase=previous.phase if phase is None else phase,
                counts=previous.counts | {name: _in_json(value) for name, value in counts.items()},
            )
            if self._record.phase != previous.phase or time.monotonic() - self._written >= _WRITE_EVERY_S:
                self._write()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Say every minute that the process lives, while it waits for something that does not tell how far it is."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(_BEAT_EVERY_S):
                self.update()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def __enter__(self) -> Status:
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        state = FINISHED
        if error is not None:
            state = INTERRUPTED if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)) else FAILED
        reason = None if error is None else _reason(error)
        self._record = dataclasses.replace(self._record, state=state, reason=reason, phase=None)
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        seconds = round(self._written - self._opened, 3)
        self._record = dataclasses.replace(self._record, updated=utc_now(), seconds=seconds)
        try:
            write_json(self.path, dataclasses.asdict(self._record))
        except OSError as error:
            if not self._warned:
                say(f"warning: cannot write {self.path} ({error.strerror}); the run goes on")
            self._warned = True


def written_status(path: Path) -> RunStatus:
    """The status in a file as its process wrote it. UserError names a file that is missing or holds no status."""
    try:
        record = read_json(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    hints = _field_types()
    if not isinstance(record, dict):
        raise UserError(f"{path} is no status file: expected a JSON object, found {type(record).__name__}")
    for name, kind in hints.items():
        if name not in record or not isinstance(record[name], kind):
            raise UserError(f"{path} is no status file: {name} is {record.get(name, 'missing')!r:.80}")
    status = RunStatus(**{name: record[name] for name in hints})
    if status.state not in (RUNNING, FINISHED, FAILED, INTERRUPTED):
        raise UserError(f"{path} is no status file: state is {status.state!r:.80}")
    try:
        _ = status.silent_s
    except (ValueError, TypeError):  # no date, or one without its time zone
        raise UserError(f"{path} is no status file: updated is {status.updated!r:.80}") from None
    return status


@functools.cache
def _field_types() -> dict[str, Any]:
    return typing.get_type_hints(RunStatus)


def judged(status: RunStatus) -> RunStatus:
    """The status with the state that it has now: a "running" process that is gone has "died".

    Whether one of another host or container lives cannot be asked: it is "silent" once its file has not been written
    for ten minutes.
    """
    if status.state != RUNNING:
        return status
    if is_here(status):
        state = RUNNING if _lives(status.pid, status.process_start) else DIED
    else:
        state = SILENT if status.silent_s > _SILENT_AFTER_S else RUNNING
    return dataclasses.replace(status, state=state)


def is_here(status: RunStatus) -> bool:
    """Whether its process is, or was, one that this process can see."""
    return (status.host, status.pid_namespace) == (socket.gethostname(), _pid_namespace())


def _lives(pid: int, process_start: int | None) -> bool:
    """Whether the process runs that had this pid and, where it is known, this start time."""
    if pid <= 0:  # os.kill takes these for groups of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is somebody else's, and there
    stat = _process_stat(pid)
    if stat is None:
        return True
    return stat[0] not in "ZX" and process_start in (None, stat[1])


def _process_stat(pid: int) -> tuple[str, int] | None:
    """(state letter, start in clock ticks since boot) of a process; None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()  # the name in front may hold spaces and brackets
    return fields[0].decode(), int(fields[19])  # fields 3 and 22 of proc(5)


def _process_start(pid: int) -> int | None:
    stat = _process_stat(pid)
    return stat[1] if stat else None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _in_json(value: Any) -> Any:
    """Strict JSON has no NaN, which is the very loss that a watcher must see."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: BaseException) -> str:
    """One line on what ended a run."""
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    if isinstance(error, GeneratorExit):
        return "closed before its end"
    if isinstance(error, SystemExit):
        return f"exit status {error.code}"
    text = " ".join(str(error).split())
    named = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".removesuffix(": ")
    return named[:_LONGEST_REASON]
