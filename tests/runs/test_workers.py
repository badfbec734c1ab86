"""Many items over workers: all are done once, a worker that dies costs nothing but time."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.runs.workers import MOST_TRIES, Failure, Needs, run_tasks
from tests.conftest import REPOSITORY
from tests.runs.cluster_work import (
    die_always,
    die_once,
    double,
    fail_on_three,
    finalise_and_sleep,
    note_and_sleep_or_answer,
    tidy_up_at_the_end,
    variable,
    variable_and_wait,
)

ONE = Needs(gpus=1)


def test_every_item_is_done_once():
    assert sorted(run_tasks(double, range(9), workers=2)) == [(number, 2 * number) for number in range(9)]
    assert list(run_tasks(double, [])) == []


def test_an_exception_is_an_answer_and_the_others_go_on():
    found = dict(run_tasks(fail_on_three, range(6), workers=2))
    failure = found.pop(3)
    assert found == {number: number for number in (0, 1, 2, 4, 5)}
    assert isinstance(failure, Failure)
    assert failure.reason == "ValueError: three"
    assert "fail_on_three" in failure.details


def test_the_item_of_a_killed_worker_is_tried_again(tmp_path):
    items = [str(tmp_path / str(number)) for number in range(3)]
    found = dict(run_tasks(die_once, items, workers=2))
    assert set(found) == set(items)
    assert all(isinstance(pid, int) for pid in found.values())


def test_an_item_that_kills_its_workers_is_given_up(tmp_path):
    ((_, failure),) = run_tasks(die_always, [str(tmp_path / "tries")], workers=1)
    assert failure.reason == f"{MOST_TRIES} workers died on it (exit code -9)"
    assert (tmp_path / "tries").read_text() == "x" * MOST_TRIES


def seen(folder, count):
    for _ in range(200):
        if len(pids := [int(path.name) for path in folder.iterdir()]) == count:
            return pids
        time.sleep(0.1)
    raise AssertionError("the workers did not start")


def test_workers_that_are_stopped_tidy_up(tmp_path):
    with contextlib.closing(run_tasks(note_and_sleep_or_answer, [None, *[str(tmp_path)] * 2], workers=3)) as results:
        assert next(results) == (None, "done")
        pids = seen(tmp_path, 2)
    assert list(tmp_path.iterdir()) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_that_is_stopped_while_an_object_is_finalised_ends_and_says_nothing(tmp_path, capfd):
    with contextlib.closing(run_tasks(finalise_and_sleep, [None, str(tmp_path)], workers=2)) as results:
        assert next(results) == (None, "done")
        seen(tmp_path, 1)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert capfd.readouterr().err == ""


def test_workers_that_have_nothing_left_to_do_end_in_order(tmp_path, capfd):
    assert list(run_tasks(tidy_up_at_the_end, [str(tmp_path / "tidy")])) == [(str(tmp_path / "tidy"), "done")]
    assert (tmp_path / "tidy").exists()
    assert capfd.readouterr().err == ""


def test_workers_have_the_environment_of_the_run(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "of the run")
    assert dict(run_tasks(variable, ["HF_HUB_DISABLE_TELEMETRY"])) == {"HF_HUB_DISABLE_TELEMETRY": "of the run"}


def test_workers_go_when_their_parent_is_killed(tmp_path):
    code = (
        "import sys; from leap.runs.workers import run_tasks; from tests.runs.cluster_work import note_and_sleep\n"
        "if __name__ == '__main__': list(run_tasks(note_and_sleep, [sys.argv[1]] * 2, workers=2))"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    (tmp_path / "notes").mkdir()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path / "notes")], env=environment)
    try:
        pids = seen(tmp_path / "notes", 2)
    finally:
        parent.kill()
        parent.wait(10)
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError("a worker outlived its parent")


def test_each_worker_sees_its_own_gpus_alone():
    seen_by = dict(run_tasks(variable_and_wait, [("CUDA_VISIBLE_DEVICES", n) for n in range(2)], needs=ONE, gpus="01"))
    assert sorted(seen_by.values()) == ["0", "1"]
    shared = run_tasks(variable, ["CUDA_VISIBLE_DEVICES"], needs=Needs(gpus=0.5), gpus=["5"])
    assert dict(shared) == {"CUDA_VISIBLE_DEVICES": "5"}
    pairs = run_tasks(variable, ["CUDA_VISIBLE_DEVICES"], needs=Needs(gpus=2), gpus=["0", "1", "2"])
    assert dict(pairs) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    with pytest.raises(UserError, match="a job needs 2 GPUs, and there are 1 on this machine"):
        run_tasks(variable, ["CUDA_VISIBLE_DEVICES"], needs=Needs(gpus=2), gpus=["0"])
    with pytest.raises(UserError, match="a job needs 0.5 GPUs, and there are 0 on this machine"):
        run_tasks(variable, ["CUDA_VISIBLE_DEVICES"], needs=Needs(gpus=0.5))
