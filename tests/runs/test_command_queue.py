"""Commands as jobs: all run, each on one GPU, none more at once than there are places."""

import os
import time

import pytest

from leap.runs.command_queue import CommandJob, run_command
from leap.runs.jobs import JobKnobs, run_jobs
from tests.conftest import assert_one_line_error, run_script

RUNNER = "utils/task_runner.py"


def shell_jobs(folder, lines):
    return [CommandJob.of_shell(f"task_{number}", line, folder / f"{number}.log") for number, line in enumerate(lines)]


def run_all(commands, folder, **knobs):
    return {job.name: result for job, result in run_jobs(run_command, commands, JobKnobs(**knobs), folder)}


def test_each_command_sees_its_gpu_alone_and_a_failure_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    lines = ["echo $CUDA_VISIBLE_DEVICES __DEVICE__", "exit 3", "echo $CUDA_VISIBLE_DEVICES"]
    jobs = shell_jobs(tmp_path, lines)
    results = run_all(jobs, tmp_path / "list")
    assert [results[job.name].status for job in jobs] == [0, 3, 0]
    assert [job.log.read_text().splitlines()[1:] for job in jobs] == [["7 cuda:0"], [], ["7"]]
    assert all(line in job.log.read_text().splitlines()[0] for job, line in zip(jobs[1:], lines[1:], strict=True))


@pytest.mark.parametrize("at_once", [1, 2])
def test_as_many_run_at_once_as_there_are_places(tmp_path, at_once):
    line = f"echo begin >> {tmp_path}/times; sleep 0.3; echo end >> {tmp_path}/times"
    run_all(shell_jobs(tmp_path, [line] * 4), tmp_path / "list", jobs=at_once, gpus_per_job=0)
    running = most = 0
    for word in (tmp_path / "times").read_text().split():
        running += 1 if word == "begin" else -1
        most = max(most, running)
    assert most == at_once


def test_a_second_try_waits_until_the_first_has_ended(tmp_path):
    [job] = shell_jobs(tmp_path, [f"sleep 0.5; date +%s.%N >> {tmp_path}/times"])
    child = os.fork()
    if not child:
        run_command(job)
        os._exit(0)
    time.sleep(0.2)
    run_command(job)
    os.waitpid(child, 0)
    first, second = map(float, (tmp_path / "times").read_text().split())
    assert second - first >= 0.5


def test_the_originals_command_works_as_it_was_written(tmp_path, space):
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    done = run_script(
        RUNNER, "--commands", "echo one, two", "exit 4", "--logs", *logs, "--gpus", "0,1", "--tasks-per-gpu", "2"
    )
    assert done.returncode == 1
    assert logs[0].read_text().splitlines()[1:] == ["one, two"]
    assert f"failed: exit 4: exit status 4; log: {logs[1]}" in done.stderr


def test_two_commands_do_not_share_a_log(space):
    done = run_script(RUNNER, "--commands", "true", "true", "--logs", "a.log", "a.log")
    assert_one_line_error(done, "two commands have the same log")
