"""A workspace with runs of every state."""

from datetime import timedelta

import pytest

from leap.files import read_json, write_json
from tests.runs.status_files import ended, start_run


@pytest.fixture
def workspace(space):
    """An empty one; what is shown here needs no model."""
    return space


@pytest.fixture
def runs(workspace):
    """One of each: running, died, silent, failed, interrupted, finished now and long ago, and a torn status file."""
    results, logs = workspace / "eva_results", workspace / "logs"
    running = start_run(results / "Spatial" / "checkpoint-200" / "status.json")
    died = start_run(results / "M&T" / "baseline" / "status.json")
    died.kill()
    died.wait(timeout=30)
    silent = ended(logs / "elsewhere" / "status.json", age=timedelta(hours=2))
    write_json(silent, read_json(silent) | {"state": "running", "host": "node7", "done": 7})
    ended(logs / "failed" / "status.json", RuntimeError("CUDA error: device-side assert"), timedelta(days=2))
    ended(logs / "sweep" / "interrupted" / "status.json", KeyboardInterrupt())
    ended(logs / "finished" / "status.json")
    ended(logs / "old" / "status.json", age=timedelta(hours=3))
    ended(logs / "old_failure" / "status.json", RuntimeError("x"), timedelta(days=30))
    (results / "Complex" / "torn").mkdir(parents=True)
    (results / "Complex" / "torn" / "status.json").write_text('{"kind": "eval')
    yield workspace
    running.kill()
    running.wait(timeout=30)
