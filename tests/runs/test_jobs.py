"""Lists of jobs: what is known of them while they run and after, and what two lists in one place do."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.files import read_json
from leap.runs.jobs import JobKnobs, list_folder, run_jobs, visible_gpus
from leap.runs.monitor import Monitor
from leap.runs.table import table
from leap.runs.workers import Failure
from tests.conftest import read_status
from tests.runs.cluster_work import die_once


@dataclass(frozen=True)
class Named:
    name: str
    path: Path


def state_now(job):
    return read_json(job.path / job.name / "status.json")["state"], Path.cwd()


def fail_on_b(job):
    if job.name == "b":
        raise UserError("b is broken")
    return job.name


def die_at_first(job):
    return die_once(job.path)


def jobs_named(names, path):
    return [Named(name, path) for name in names]


def test_a_job_has_a_status_while_it_runs_and_after(tmp_path):
    results = list(run_jobs(state_now, jobs_named("ab", tmp_path), JobKnobs(jobs=2), tmp_path))
    assert sorted(job.name for job, _ in results) == ["a", "b"]
    assert {state for _, state in results} == {("running", Path.cwd())}
    for path in (tmp_path / "a" / "status.json", tmp_path / "status.json"):
        assert read_status(path).state == "finished"
    assert read_status(tmp_path / "status.json").done == 2


def test_a_failed_job_stops_no_other_and_the_monitor_shows_it(tmp_path):
    folder = tmp_path / "logs" / "list"
    results = {job.name: result for job, result in run_jobs(fail_on_b, jobs_named("abc", folder), JobKnobs(), folder)}
    failure = results.pop("b")
    assert results == {"a": "a", "c": "c"}
    assert failure == Failure("b is broken")
    assert read_status(folder / "status.json").failures == 1
    shown = "\n".join(table(Monitor(tmp_path / "results", tmp_path / "logs").snapshot()))
    assert "list/b" in shown
    assert "b is broken" in shown


def test_a_job_whose_worker_dies_runs_again(tmp_path):
    [(_, result)] = run_jobs(die_at_first, [Named("a", tmp_path / "tries")], JobKnobs(jobs=1), tmp_path)
    assert isinstance(result, int)
    assert read_status(tmp_path / "a" / "status.json").state == "finished"


def test_a_list_has_its_place_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("leap.runs.child._WAIT_FOR_ORPHAN_S", 0.2)
    first = run_jobs(fail_on_b, jobs_named("ac", tmp_path), JobKnobs(jobs=1), tmp_path)
    next(first)
    with pytest.raises(UserError, match="held by another process that does the same work"):
        list(run_jobs(fail_on_b, jobs_named("ac", tmp_path), JobKnobs(jobs=1), tmp_path))
    first.close()
    assert read_status(tmp_path / "status.json").state == "interrupted"
    assert list_folder(tmp_path, "x", jobs_named("a", tmp_path)) != list_folder(
        tmp_path, "x", jobs_named("b", tmp_path)
    )


def test_the_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1, 3")
    assert visible_gpus() == ["GPU-1", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", os.devnull)
    assert visible_gpus() == []
