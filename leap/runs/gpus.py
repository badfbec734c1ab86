"""How busy the GPUs of this machine are, as nvidia-smi tells."""

from __future__ import annotations

import csv
import shutil
import subprocess
import threading
from dataclasses import dataclass

_TIMEOUT_S = 5.0


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
        self._found: list[Gpu] | None = None

    def latest(self) -> list[Gpu] | None:
        """What was found last, while it asks anew; the first call waits for an answer, but not for long."""
        first = self._thread is None
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
        if first:
            self._thread.join(2 * _TIMEOUT_S)
        return self._found

    def _ask(self) -> None:
        self._found = read_gpus()


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
            pids=tuple(int(pid) for of, pid in processes if of == uuid and pid.isdecimal()),
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
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    lines = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return [line for line in lines if len(line) == columns]


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
