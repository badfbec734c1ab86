"""Shell commands over GPUs: as many at once as there are places, each with a log of its own."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from leap.progress import say

DEVICE = "__DEVICE__"  # in a command: the device that it was given, as --device takes it


@dataclass(frozen=True)
class QueuedCommand:
    """A line for the shell, and the file that its output goes to."""

    line: str
    log: Path


def run_queue(commands: Sequence[QueuedCommand], places: Sequence[str | None]) -> list[int]:
    """Run all commands, each on the first place that is free; their exit statuses, in order.

    A place is the index of a GPU, which is then the only one that the command sees, or None for the machine as it is;
    a GPU that is named twice takes two commands at once. Ctrl-C stops the commands that run and starts no other.
    """
    free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for place in places:
        free.put(place)
    running: set[subprocess.Popen] = set()
    pool = ThreadPoolExecutor(len(places))
    try:
        return list(pool.map(lambda command: _run(command, free, running), commands))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in list(running):
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _run(command: QueuedCommand, free: queue.SimpleQueue[str | None], running: set[subprocess.Popen]) -> int:
    place = free.get()
    on_gpu = {} if place is None else {"CUDA_VISIBLE_DEVICES": place}
    line = command.line if place is None else command.line.replace(DEVICE, "cuda:0")  # the only one that it sees
    where = "" if place is None else f" on GPU {place}"
    command.log.parent.mkdir(parents=True, exist_ok=True)
    say(f"started{where}: {line}")
    try:
        with open(command.log, "wb") as log:
            # Ctrl-C comes from here, once, as SIGTERM.
            child = subprocess.Popen(
                line, shell=True, stdout=log, stderr=log, env=os.environ | on_gpu, start_new_session=True
            )
            running.add(child)
            status = child.wait()
            running.discard(child)
    finally:
        free.put(place)
    say(f"{'done' if status == 0 else f'failed with exit status {status}, log {command.log}'}{where}: {line}")
    return status
