"""A small demo workspace for the whole session: the tiny planner, a few rows, a small benchmark; and script running."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from leap.demo.build import build_benchmark, build_blind_rows, build_rows, training_texts
from leap.demo.tiny_planner import build_tiny_planner
from leap.runs.status import RunStatus, judged, written_status
from tests import endpoint_server, hub_server

REPOSITORY = Path(__file__).resolve().parent.parent
# The tests run side by side, and models as small as theirs gain nothing from threads. Processes that a test starts
# compute as this one does: another number of threads would sum in another order, and some tests compare every bit.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
torch.set_num_threads(1)


frozen_modules = 0


def freeze_modules() -> None:
    """Modules stay: no collection needs to look at them again, and every training ends with one. Those that a script
    imported since are frozen too."""
    global frozen_modules
    if len(sys.modules) > frozen_modules:
        frozen_modules = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_collection_finish() -> None:
    freeze_modules()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _no_test_writes_into_the_repository(tmp_path_factory: pytest.TempPathFactory):
    """Whoever names no workspace gets a throw-away one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAP_WORKSPACE", str(tmp_path_factory.mktemp("nobody's")))
        yield


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills (it makes it, too), once for all processes of the session. Tests only read it."""
    processes_share = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    folder, complete = processes_share / name, processes_share / f"{name} is complete"
    with open(processes_share / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process in which it failed
            make(folder)
            complete.touch()
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace (its path has a space) with the tiny planner, rows and benchmark. Tests only read it."""
    return made_once(tmp_path_factory, "demo space", build_demo)


def build_demo(root: Path) -> None:
    build_rows(root / "data" / "train.jsonl", "train", 200, seed=0)
    lines = (root / "data" / "train.jsonl").read_text().splitlines(keepends=True)
    (root / "data" / "train_50.jsonl").write_text("".join(lines[:50]))
    build_rows(root / "data" / "val.jsonl", "validation", 20, seed=0)
    build_blind_rows(root / "data" / "blind_10.jsonl", seed=0)
    build_benchmark(root / "dataset" / "vlm_evaluation_v1.0", 2, seed=0)
    build_tiny_planner(root / "models" / "tiny-planner", training_texts(root / "data" / "train.jsonl"))


@pytest.fixture
def workspace(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of the test's own, with the demo's inputs linked in; LEAP_WORKSPACE points to it."""
    root = linked_workspace(demo, tmp_path / "work space")
    monkeypatch.setenv("LEAP_WORKSPACE", str(root))
    return root


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace of the test's own, whose path has a space."""
    root = tmp_path / "work space"
    monkeypatch.setenv("LEAP_WORKSPACE", str(root))
    return root


@pytest.fixture
def hub() -> Iterator[hub_server.Hub]:
    """A Hub on the loopback."""
    with hub_server.serving() as running:
        yield running


@pytest.fixture
def server() -> Iterator[endpoint_server.Endpoint]:
    """An OpenAI-compatible endpoint on the loopback."""
    with endpoint_server.serving() as running:
        yield running


def linked_workspace(demo: Path, root: Path) -> Path:
    """Make `root` a workspace with the demo's inputs linked in."""
    root.mkdir(parents=True)
    for name in ("models", "data", "dataset"):
        (root / name).symlink_to(demo / name)
    return root


@dataclass
class Done:
    """How a script ended: its exit status and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run_script(script: str, *arguments: str | Path) -> Done:
    """Run a script of the repository to its end, as __main__ in this process (which has torch loaded already)."""
    path = REPOSITORY / "scripts" / script
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = [str(path), *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(path), run_name="__main__")
        status = 0
    except SystemExit as stop:
        status = stop.code
    finally:
        sys.argv = before
    freeze_modules()
    return Done(status, out.getvalue(), err.getvalue())


def start_script(script: str, *arguments: str | Path, **options) -> subprocess.Popen:
    """Start a script in a process of its own, which the test may kill."""
    command = [sys.executable, str(REPOSITORY / "scripts" / script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def read_status(path: Path) -> RunStatus:
    """The status in a file, with the state that it has now."""
    return judged(written_status(path))


def kill_when(process: subprocess.Popen, ready: Callable[[], bool], seconds: float = 150) -> None:
    """kill -9 as soon as `ready()` is true; fails if the process ends before that."""
    limit = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL


def assert_one_line_error(done: Done, *words: str) -> None:
    """Exit status 2, and stderr is one line that begins with "error:" and holds all the words."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], (word, lines[0])


def unaligned(text: str) -> str:
    """Tables without the blanks that line up their columns."""
    return re.sub(r" +", " ", text)
