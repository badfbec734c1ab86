"""Many independent items over worker processes of this machine; results as they come.

A worker that dies (killed, out of memory) takes nothing along: its item is tried again by another. The function must be
a module's own, its items and results must pickle. `leap.runs.ray_cluster` does the same over machines.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from configs.errors import UserError

TaskInput = TypeVar("TaskInput")
TaskResult = TypeVar("TaskResult")

WORKERS = 4  # without a number
MOST_TRIES = 4  # of an item whose workers die
SECONDS_TO_STOP = 10.0


@dataclass(frozen=True)
class Failure:
    """An item without a result: the function raised, or every worker that had it died. `details` is a traceback."""

    reason: str
    details: str = ""


@dataclass(frozen=True)
class Needs:
    """What an item takes of a machine while a worker has it. `gpus` may be a part of one, which others share then; None
    is one where there are any."""

    gpus: float | None = 0
    cpus: float = 1
    memory_gb: float = 0.0

    def gpus_of(self, gpu_count: float) -> float:
        """The GPUs that it takes where so many are there."""
        return min(gpu_count, 1) if self.gpus is None else self.gpus


def run_tasks(
    function: Callable[[TaskInput], TaskResult],
    items: Sequence[TaskInput],
    workers: int | None = None,
    *,
    needs: Needs = Needs(),
    gpus: Sequence[str] = (),
    seconds_to_stop: float = SECONDS_TO_STOP,
) -> Generator[tuple[TaskInput, TaskResult | Failure], None, None]:
    """(item, result) of all items, in the order in which they are done; at most `workers` run at once.

    Without `workers` there are as many as the GPUs suffice for, else 4. Each sees its own of the `gpus` alone, where
    the items need any. Closing the iterator stops the workers: they get `seconds_to_stop` to finish or remove what they
    had begun. UserError if there are fewer GPUs than an item needs.
    """
    needed = needs.gpus_of(len(gpus))
    places = _shares(gpus, needed)[:workers] if needed else [None] * (workers or WORKERS)
    return _run_here(function, items, places[: len(items)], seconds_to_stop)


def _shares(gpus: Sequence[str], needed: float) -> list[str]:
    """What each of the workers sees of the GPUs, as CUDA_VISIBLE_DEVICES has it."""
    count = max(int(needed), 1)
    if len(gpus) < count:
        raise UserError(f"a job needs {needed:g} GPUs, and there are {len(gpus)} on this machine")
    if needed < 1:
        return [gpu for _ in range(int(1 / needed + 1e-9)) for gpu in gpus]
    return [",".join(gpus[first : first + count]) for first in range(0, len(gpus) - count + 1, count)]


class _Worker:
    """A process that works on one item at a time; `gpus` are all that it sees, None is no restriction."""

    def __init__(self, function: Callable, gpus: str | None) -> None:
        # A fresh interpreter: a fork of a process with threads may hang, and would hold all of its memory.
        context = multiprocessing.get_context("spawn")
        self.gpus = gpus
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(function, theirs, gpus), daemon=True)
        self.process.start()
        theirs.close()
        self.index: int | None = None

    def give(self, index: int, item: Any) -> None:
        self.index = index
        with contextlib.suppress(BrokenPipeError):  # dead already; its end is seen in the wait
            self.connection.send(item)

    def answer(self) -> Any:
        """What the function returned, a Failure, or None if the process has died."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return None


def _run_here(
    function: Callable, items: Sequence, places: Sequence[str | None], seconds_to_stop: float
) -> Generator[tuple[Any, Any], None, None]:
    waiting = deque(range(len(items)))
    tries = dict.fromkeys(waiting, 0)
    workers = [_Worker(function, place) for place in places]
    try:
        while True:
            for worker in workers:
                if worker.index is None and waiting:
                    index = waiting.popleft()
                    worker.give(index, items[index])
            busy: dict[Any, tuple[_Worker, int]] = {
                worker.connection: (worker, worker.index) for worker in workers if worker.index is not None
            }
            if not busy:
                return
            for connection in wait(list(busy)):
                worker, index = busy[connection]
                answer = worker.answer()
                worker.index = None
                if answer is None:
                    workers[workers.index(worker)] = _Worker(function, worker.gpus)
                    tries[index] += 1
                    if tries[index] < MOST_TRIES:
                        waiting.appendleft(index)
                        continue
                    answer = Failure(f"{MOST_TRIES} workers died on it (exit code {worker.process.exitcode})")
                yield items[index], answer
    finally:
        _stop(workers, seconds_to_stop)


def _stop(workers: Iterable[_Worker], seconds: float) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join(seconds)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(function: Callable, connection: Connection, gpus: str | None) -> None:
    """The life of a worker. Ctrl-C is the parent's to handle; SIGTERM ends it in order, the parent's death at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGALRM, _exit)
    sys.unraisablehook = _exit_again
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send(answer(function, connection.recv()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent has gone or closes down: nothing is left to be cut short


def _exit(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    sys.exit(128 + signal.SIGTERM)


def _exit_again(lost: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised while it finalises an object; if that was the end of the worker, raise it again."""
    if isinstance(lost.exc_value, SystemExit):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(lost)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker ends so"
    parent.join()
    os._exit(1)


def answer(function: Callable, item: Any) -> Any:
    """What the function returns, or a Failure for what it raises."""
    try:
        return function(item)
    except UserError as error:
        return Failure(str(error))
    except Exception as error:  # whatever it is, the other items go on and the caller reports it
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
