"""Commands over places: all run, each on one of them, none more than there are at once."""

import time

import pytest

from leap.runs.command_queue import QueuedCommand, run_queue
from tests.conftest import run_script

RUNNER = "utils/task_runner.py"


def test_each_command_sees_the_gpu_of_its_place_and_a_failure_stops_no_other(tmp_path):
    lines = ["echo $CUDA_VISIBLE_DEVICES __DEVICE__", "exit 3", "echo $CUDA_VISIBLE_DEVICES"]
    commands = [QueuedCommand(line, tmp_path / "logs" / str(number)) for number, line in enumerate(lines)]
    assert run_queue(commands, ["7"]) == [0, 3, 0]
    assert [command.log.read_text() for command in commands] == ["7 cuda:0\n", "", "7\n"]


@pytest.mark.parametrize(("places", "least", "most"), [([None, None], 0.2, 0.39), ([None], 0.4, 9.0)])
def test_as_many_run_at_once_as_there_are_places(tmp_path, places, least, most):
    begin = time.monotonic()
    run_queue([QueuedCommand("sleep 0.2", tmp_path / str(number)) for number in range(2)], places)
    assert least <= time.monotonic() - begin < most


def test_the_originals_command_works_as_it_was_written(tmp_path, space):
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    done = run_script(
        RUNNER, "--commands", "echo one, two", "exit 4", "--logs", *logs, "--gpus", "0,1", "--tasks-per-gpu", "2"
    )
    assert done.returncode == 1
    assert logs[0].read_text() == "one, two\n"
    assert "failed with exit status 4" in done.stdout
