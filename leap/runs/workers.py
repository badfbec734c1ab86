"""Many independent items over worker processes, or over machines with Ray; results as they come.

A worker that dies (killed, out of memory) takes nothing along: its item is tried again by another. The function must be
a module's own, its items and results must pickle. Ray is an extra, `pip install -e ".[cluster]"`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from configs.errors import UserError

TaskInput = TypeVar("TaskInput")
TaskResult = TypeVar("TaskResult")

WORKERS = 4  # without a number
MOST_TRIES = 4  # of an item whose workers die
_SECONDS_TO_STOP = 10.0
# What decides which host is asked, and what it is told, on all machines. No token: Ray shows these to everybody.
_SHARED = ("HF_ENDPOINT", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN")


@dataclass(frozen=True)
class Failure:
    """An item without a result: the function raised, or every worker that had it died. `details` is a traceback."""

    reason: str
    details: str = ""


def run_tasks(
    function: Callable[[TaskInput], TaskResult],
    items: Sequence[TaskInput],
    workers: int | None = None,
    cluster: str | None = None,
) -> Generator[tuple[TaskInput, TaskResult | Failure], None, None]:
    """(item, result) of all items, in the order in which they are done; at most `workers` run at once.

    `cluster` is the address of a Ray cluster, "auto" for the one this machine belongs to, "local" to start one here;
    without it `workers` processes of this machine work. Without `workers` there are 4, on a cluster one a processor.
    Closing the iterator stops the workers: they get a moment to remove what they had begun.
    """
    if not items or cluster is None:
        return _run_here(function, items, min(workers or WORKERS, len(items)))
    return _run_on_ray(function, items, workers, cluster)


class _Worker:
    """A process that works on one item at a time."""

    def __init__(self, function: Callable) -> None:
        # A fresh interpreter: a fork of a process with threads may hang, and would hold all of its memory.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(function, theirs), daemon=True)
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


def _run_here(function: Callable, items: Sequence, count: int) -> Generator[tuple[Any, Any], None, None]:
    waiting = deque(range(len(items)))
    tries = dict.fromkeys(waiting, 0)
    workers = [_Worker(function) for _ in range(count)]
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
                    workers[workers.index(worker)] = _Worker(function)
                    tries[index] += 1
                    if tries[index] < MOST_TRIES:
                        waiting.appendleft(index)
                        continue
                    answer = Failure(f"{MOST_TRIES} workers died on it (exit code {worker.process.exitcode})")
                yield items[index], answer
    finally:
        _stop(workers)


def _stop(workers: Iterable[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join(_SECONDS_TO_STOP)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(function: Callable, connection: Connection) -> None:
    """The life of a worker. Ctrl-C is the parent's to handle; SIGTERM ends it in order, the parent's death at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGALRM, _exit)
    sys.unraisablehook = _exit_again
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send(_answer(function, connection.recv()))
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


def _answer(function: Callable, item: Any) -> Any:
    try:
        return function(item)
    except Exception as error:  # whatever it is, the other items go on and the caller reports it
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def _refuse_deaf(address: str) -> None:
    """UserError if nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"no Ray cluster at {address} ({error}). Start one with: ray start --head") from error


@contextlib.contextmanager
def _joined(cluster: str, workers: int | None) -> Iterator[Any]:
    """The module `ray`, connected to a cluster; UserError if that cannot be."""
    if importlib.util.find_spec("ray") is None:
        raise UserError('--cluster needs Ray: pip install -e ".[cluster]", on every machine of the cluster')
    import ray

    _refuse_deaf(cluster)
    environment = {name: os.environ[name] for name in _SHARED if name in os.environ}
    local = {"num_cpus": workers, "include_dashboard": False} if cluster == "local" else {}
    try:
        ray.init(address=cluster, runtime_env={"env_vars": environment}, log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join the Ray cluster {cluster!r}: {str(error).splitlines()[0]}. Start one with: ray start --head"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _run_on_ray(
    function: Callable, items: Sequence, workers: int | None, cluster: str
) -> Generator[tuple[Any, Any], None, None]:
    waiting = deque(range(len(items)))
    running: dict[Any, int] = {}
    with _joined(cluster, workers) as ray:
        # `retry_exceptions` stays off: what the function raises is an answer; what Ray retries is a worker's death.
        task = ray.remote(num_cpus=1, max_retries=MOST_TRIES - 1)(_answer)
        at_once = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    index = waiting.popleft()
                    running[task.remote(function, items[index])] = index
                ready, _ = ray.wait(list(running), num_returns=1)
                for reference in ready:
                    index = running.pop(reference)
                    yield items[index], _ray_answer(ray, reference)
        finally:
            for reference in running:
                ray.cancel(reference)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=_SECONDS_TO_STOP)


def _ray_answer(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return Failure(f"{MOST_TRIES} workers died on it ({type(error).__name__})", str(error))
