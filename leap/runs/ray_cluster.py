"""Items over the machines of a Ray cluster. Ray is an extra, `pip install -e ".[cluster]"`, on every machine of it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from configs.errors import UserError
from leap.runs.workers import MOST_TRIES, SECONDS_TO_STOP, Failure, Needs, TaskInput, TaskResult, answer

# What decides which files are meant, which host is asked and what it is told, on all machines. No token, no key: Ray
# shows these to everybody.
_SHARED = (
    *("LEAP_WORKSPACE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "OMP_NUM_THREADS"),
    *("HF_ENDPOINT", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"),
)
_LOOK_EVERY_S = 5.0


def run_on_ray(
    function: Callable[[TaskInput], TaskResult],
    items: Sequence[TaskInput],
    cluster: str,
    workers: int | None = None,
    *,
    needs: Needs = Needs(),  # noqa: B008
    seconds_to_stop: float = SECONDS_TO_STOP,
) -> Generator[tuple[TaskInput, TaskResult | Failure], None, None]:
    """`leap.runs.workers.run_tasks` on the cluster at an address, "auto" for the one that this machine belongs to.

    Without `workers` as many run at once as the machines have room for. UserError if the cluster is not there, or has
    no machine with what an item needs.
    """
    waiting = deque(range(len(items)))
    running: dict[Any, int] = {}
    if not items:
        return
    with _joined(cluster) as ray:
        needs = replace(needs, gpus=needs.gpus_of(ray.cluster_resources().get("GPU", 0)))
        _refuse_impossible(ray, needs)
        # `retry_exceptions` stays off: what the function raises is an answer; what Ray retries is a worker's death.
        task = ray.remote(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus or None,
            memory=int(needs.memory_gb * 1e9) or None,
            max_retries=MOST_TRIES - 1,
        )(answer)
        try:
            while waiting or running:
                at_once = workers or max(1, int(ray.cluster_resources().get("CPU", 1) / needs.cpus))  # machines join
                while waiting and len(running) < at_once:
                    index = waiting.popleft()
                    running[task.remote(function, items[index])] = index
                # With a limit, so that a signal is heard: Ray waits outside of Python.
                ready, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY_S)
                for reference in ready:
                    index = running.pop(reference)
                    yield items[index], _result(ray, reference)
        finally:
            for reference in running:
                ray.cancel(reference)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=seconds_to_stop)


@contextlib.contextmanager
def _joined(cluster: str) -> Iterator[Any]:
    """The module `ray`, connected to a cluster; UserError if that cannot be."""
    if importlib.util.find_spec("ray") is None:
        raise UserError('--ray needs Ray: pip install -e ".[cluster]", on every machine of the cluster')
    import ray

    _refuse_deaf(cluster)
    environment = {name: os.environ[name] for name in _SHARED if name in os.environ}
    try:
        ray.init(address=cluster, runtime_env={"env_vars": environment}, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join the Ray cluster {cluster!r}: {str(error).splitlines()[0]}. Start one with: ray start --head"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_deaf(address: str) -> None:
    """UserError if nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"no Ray cluster at {address} ({error}). Start one with: ray start --head") from error


def _refuse_impossible(ray: Any, needs: Needs) -> None:
    """UserError if no machine has what an item needs; Ray itself would wait for one for ever."""
    needed = {"GPU": needs.gpus or 0, "CPU": needs.cpus, "memory": needs.memory_gb * 1e9}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(machine.get(name, 0) >= amount for name, amount in needed.items()) for machine in machines):
        most = {name: max((machine.get(name, 0) for machine in machines), default=0) for name in needed}
        raise UserError(
            f"no machine of the cluster has what a job needs: {needed['GPU']:g} GPUs, {needs.cpus:g} CPUs, "
            f"{needs.memory_gb:g} GB; the most there are: {most['GPU']:g}, {most['CPU']:g}, {most['memory'] / 1e9:.0f} "
            "GB. Lower --gpus_per_job, --cpus_per_job or --memory_per_job"
        )


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return Failure(f"{MOST_TRIES} workers died on it ({type(error).__name__})", str(error))
