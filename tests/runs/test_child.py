"""Child processes: shown, logged, and not left behind."""

import os
import signal
import subprocess
import sys

import pytest

from leap.runs.child import only_one, run_logged
from tests.conftest import REPOSITORY

# Runs a child, as a sweep does; the child takes a moment to save when it is told to end.
PARENT = """
import sys
from pathlib import Path
from leap.runs.child import only_one, run_logged
with only_one(Path(sys.argv[1]) / "lock") as lock:
    run_logged([sys.executable, "-u", "-c", sys.argv[2]], Path(sys.argv[1]) / "log", lock)
"""
CHILD = """
import signal, sys, time
def save(*arguments):
    time.sleep(1)
    print("saved")
    sys.exit()
signal.signal(signal.SIGTERM, save)
print("ready")
time.sleep(100)
"""


def test_a_failed_command_leaves_its_status_and_its_last_lines_in_the_log(tmp_path, capsys):
    script = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(5)"
    with open(tmp_path / "lock", "ab") as lock:
        ended = run_logged([sys.executable, "-u", "-c", script], tmp_path / "logs" / "x.log", lock.fileno())
    assert (ended.status, ended.last_lines) == (5, ["one", "two"])
    assert "one\ntwo\n" in capsys.readouterr().out
    assert (tmp_path / "logs" / "x.log").read_text().endswith("one\ntwo\n")


@pytest.fixture
def parent(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path), CHILD]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert any(line == "ready\n" for line in process.stdout)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_told_to_stop_waits_for_the_child_to_save(parent, number, tmp_path):
    parent.send_signal(number)
    shown, errors = parent.communicate(timeout=60)
    assert "saved" in shown
    assert parent.returncode == (128 + number if number == signal.SIGTERM else -number), errors


def test_ctrl_c_that_a_worker_ignores_is_no_second_word(tmp_path):
    """A terminal's Ctrl-C reaches workers too, whose parent tells them by SIGTERM."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with only_one(tmp_path / "lock") as lock:
            line = "kill -INT $PPID; sleep 0.5; echo went on"
            assert run_logged(["sh", "-c", line], tmp_path / "log", lock).last_lines == ["went on"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_being_told_twice_kills_the_child(parent, tmp_path):
    parent.send_signal(signal.SIGTERM)
    assert any(line.startswith("stopping") for line in parent.stdout)
    parent.send_signal(signal.SIGTERM)
    parent.communicate(timeout=60)
    assert (tmp_path / "log").read_text().endswith("ready\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_killed_parent_leaves_no_child_and_the_next_one_waits_for_it_to_save(parent, tmp_path):
    parent.kill()
    with only_one(tmp_path / "lock"):
        assert (tmp_path / "log").read_text().endswith("ready\nsaved\n")
