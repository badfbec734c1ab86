"""A command as a child process: output logged and shown, signals passed on, no orphans.

A child writes straight into its log, which is shown as it grows, so that it can still write when nobody reads. It
stands outside the terminal's process group: Ctrl-C reaches it once, from here, and as SIGTERM, on which a training
saves a checkpoint. It is told to stop when this process is killed (Linux), and as long as it lives it holds the lock
that keeps a second caller from starting the same work.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from configs.errors import UserError
from leap.files import locked
from leap.progress import say
from leap.provenance import utc_now

_LOOK_EVERY_S = 0.1
_WAIT_FOR_ORPHAN_S = 60.0
_TAIL_BYTES = 16384
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class CommandResult:
    """How a command ended: its exit status (128 + signal if one killed it) and the last lines it wrote; and when it
    began, in UTC."""

    status: int
    last_lines: list[str]
    begun: str

    def text(self, log: Path) -> str:
        """How the command ended, with what it said last."""
        return "\n    ".join([f"exit status {self.status}; log: {log}; last lines:", *self.last_lines])


@contextlib.contextmanager
def only_one(path: Path, wait_s: float | None = None) -> Iterator[int]:
    """Hold the lock file `path`; yields its descriptor, which a child keeps locked as long as it lives.

    UserError if another process holds it, and goes on holding it for `wait_s` seconds (a
    minute): an orphan may be saving.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        limit, announced = time.monotonic() + (_WAIT_FOR_ORPHAN_S if wait_s is None else wait_s), False
        while not locked(file):
            if time.monotonic() > limit:
                raise UserError(f"{path} is held by another process that does the same work; wait for it or stop it")
            if not announced:
                say("waiting for a process of an earlier call to end")
            announced = True
            time.sleep(_LOOK_EVERY_S)
        yield file.fileno()


def run_logged(command: Sequence[str], log: Path, lock: int, tail: int = 12, *, show: bool = True) -> CommandResult:
    """Run `command` to its end and append its output to `log`, which is shown as it grows unless `show` is off.

    Ctrl-C and SIGTERM go to the child as SIGTERM, and this waits for it before it raises KeyboardInterrupt, or
    SystemExit with 143; the second one kills it. `tail` lines are kept. PYTHON names this interpreter to the child.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as written, open(log, "rb") as read, _noted_signals() as signals:
        begun = utc_now()
        written.write(f"[{begun}] {shlex.join(command)}\n".encode())
        written.flush()
        start = read.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": _python_path()},
            pass_fds=[lock],
            start_new_session=True,
            preexec_fn=_end_with_parent if _LIBC else None,
        )
        try:
            _watch(child, read if show else None, signals)
        except BaseException:  # nobody is left to show it to
            child.terminate()
            child.wait()
            raise
        if signal.SIGINT in signals:
            raise KeyboardInterrupt
        if signals:
            say("stopped by SIGTERM; the same command continues where it was")
            raise SystemExit(128 + signal.SIGTERM)
        read.seek(max(start, read.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = read.read().decode(errors="replace").splitlines()
    status = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return CommandResult(status, lines[-tail:], begun)


def _python_path() -> str:
    """PYTHONPATH with the folder of this `leap` first, so that a child runs the code that started it."""
    home = Path(__file__).resolve().parents[2]
    return os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))


def _watch(child: subprocess.Popen, log: BinaryIO | None, signals: list[int]) -> None:
    """Show what the child writes until it ends, and pass on what this process is told."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    passed_on = 0
    ended = False
    while not ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_LOOK_EVERY_S)
        ended = child.returncode is not None
        if log:
            print(decoder.decode(log.read(), final=ended), end="", flush=True)
        told_by_now = len(signals)  # read once: the next signal may come at any line
        if told_by_now > passed_on and not ended:
            if passed_on:
                os.killpg(child.pid, signal.SIGKILL)
            else:
                # To the leader only: a data-loading process that dies of it would take the training down unsaved.
                child.terminate()
                say("\nstopping; a training saves a checkpoint first. Once more kills it")
            passed_on = told_by_now


def _end_with_parent() -> None:
    _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are put into the list, in order, and do nothing else; one that is ignored stays so."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, note) for number in heard}
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
