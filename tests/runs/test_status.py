"""What a status file says of a process that runs, ended, or was killed."""

import errno
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from configs.errors import UserError
from leap.files import read_json, write_json
from leap.runs.status import Status
from tests.conftest import read_status
from tests.runs.status_files import start_code


def status_of(path, **options):
    return Status(path, kind="evaluation", about={"model": "m"}, total=10, unit="example", **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "status.json"


@pytest.fixture
def child(path):
    """A process of its own that keeps a status file and then sleeps."""
    code = (
        "import sys, time; from pathlib import Path; from leap.runs.status import Status\n"
        "with Status(Path(sys.argv[1]), 'evaluation', {}, total=10, unit='example') as status:\n"
        "    status.update(3, phase='answering'); time.sleep(100)"
    )
    process = start_code(code, path)
    yield process
    process.kill()
    process.wait(timeout=30)


def test_a_run_is_running_until_its_block_ends_and_finished_then(path):
    with status_of(path, done=3, device="a GPU") as status:
        assert read_status(path).state == "running"
        assert (read_status(path).done, read_status(path).rate, read_status(path).left_s) == (3, None, None)
        time.sleep(0.05)
        status.update(5, failures=1, phase="answering", loss=0.5)
        found = read_status(path)
        assert (found.done, found.first_done, found.failures, found.phase) == (5, 3, 1, "answering")
        assert found.rate == pytest.approx(2 / found.seconds), "what was done before this run does not count"
        assert found.left_s == pytest.approx(5 / found.rate)
        status.update(10)
    found = read_status(path)
    assert (found.state, found.reason, found.phase, found.done, found.left_s) == ("finished", None, None, 10, None)
    assert (found.pid, found.device, found.about, found.counts) == (os.getpid(), "a GPU", {"model": "m"}, {"loss": 0.5})
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
        (SystemExit(143), "interrupted", "exit status 143"),
        (UserError("no such\nmodel"), "failed", "no such model"),
        (RuntimeError("CUDA error:\n  " + "x" * 1000), "failed", "RuntimeError: CUDA error: " + "x" * 274),
        (MemoryError(), "failed", "MemoryError"),
    ],
)
def test_what_ends_the_block_decides_the_state(path, error, state, reason):
    with pytest.raises(type(error)), status_of(path):
        raise error
    assert (read_status(path).state, read_status(path).reason) == (state, reason)


def test_the_file_is_written_about_once_a_second(path):
    with status_of(path) as status:
        before = path.stat().st_mtime_ns, path.read_bytes()
        for done in range(10):
            status.update(done)
        assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert read_status(path).done == 9


def test_a_loss_that_is_no_number_is_strict_json(path):
    with status_of(path) as status:
        status.update(1, loss=float("nan"))

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(path.read_text(), parse_constant=refuse)["counts"] == {"loss": "nan"}


def test_a_killed_process_has_died(path, child):
    assert read_status(path).state == "running"
    child.send_signal(signal.SIGKILL)
    limit = time.monotonic() + 30
    while read_status(path).state == "running":  # before its parent has collected it, too
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert (read_status(path).state, read_status(path).done) == ("died", 3)
    child.wait(timeout=30)
    assert read_status(path).state == "died"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
def test_another_process_with_the_same_pid_is_not_taken_for_it(path, child):
    write_json(path, read_json(path) | {"process_start": read_json(path)["process_start"] - 1})
    assert read_status(path).state == "died"


@pytest.mark.parametrize("pid", [0, -1, 10**30])
def test_a_pid_that_can_be_no_process_is_dead(path, child, pid):
    write_json(path, read_json(path) | {"pid": pid})
    assert read_status(path).state == "died"


@pytest.mark.parametrize("elsewhere", [{"host": "another host"}, {"pid_namespace": "pid:[1]"}])
def test_a_process_on_another_host_is_judged_by_its_silence(path, child, elsewhere):
    write_json(path, read_json(path) | elsewhere | {"pid": 10**9})
    assert read_status(path).state == "running"
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    write_json(path, read_json(path) | {"updated": long_ago.isoformat(timespec="seconds")})
    assert read_status(path).state == "silent"
    assert read_status(path).silent_s == pytest.approx(3600, abs=30)


@pytest.mark.parametrize(
    "text",
    ["", "{", "\0" * 100, "[]", "{}", "null", b"\xff\xfe", '{"kind": "evaluation"}', "[" * 100_000],
)
def test_a_file_that_is_no_status_is_named(path, text):
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=str(path)):
        read_status(path)


@pytest.mark.parametrize(
    "change",
    [{"state": "lost"}, {"done": "3"}, {"about": None}, {"updated": "yesterday"}, {"updated": "2026-01-01T00:00:00"}],
)
def test_a_field_that_makes_no_sense_is_named(path, change):
    with status_of(path):
        pass
    write_json(path, read_json(path) | change)
    [name] = change
    with pytest.raises(UserError, match=f"{path} is no status file: {name} is"):
        read_status(path)


def test_a_missing_file_and_one_that_cannot_be_read_are_user_errors(path):
    with pytest.raises(UserError, match=f"file not found: {path}"):
        read_status(path)
    path.mkdir(parents=True)
    with pytest.raises(UserError, match=f"cannot read {path}"):
        read_status(path)


def test_a_full_disk_does_not_end_the_run(path, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with status_of(path) as status:
            status.update(1, phase="answering")
    warning = capsys.readouterr().out
    assert warning == f"warning: cannot write {path} (No space left on device); the run goes on\n"
    assert not list(path.parent.iterdir())
