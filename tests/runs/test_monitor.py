"""What the monitor shows of runs that go on, ended or were killed, and how it fits a terminal."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leap.files import read_json, write_json
from leap.runs import monitor as monitor_module
from leap.runs.monitor import Gpu, Monitor, Snapshot, read_gpus
from leap.runs.status import Status
from leap.runs.table import table
from tests.conftest import REPOSITORY, assert_one_line_error, run_script

SCRIPT = "utils/monitor_evaluation.py"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty one; what is shown here needs no model."""
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path / "work space"))
    return tmp_path / "work space"


def start_run(path: Path) -> subprocess.Popen:
    """An evaluation in a process of its own: 3 of 10 answered in its status, then silence."""
    code = (
        "import sys, time; from pathlib import Path; from leap.runs.status import Status\n"
        "about = {'model': Path(sys.argv[1]).parent.name, 'dimension': Path(sys.argv[1]).parent.parent.name}\n"
        "with Status(Path(sys.argv[1]), 'evaluation', about, total=10, unit='example', done=1) as status:\n"
        "    time.sleep(0.1); status.update(3, phase='answering'); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=REPOSITORY)
    limit = time.monotonic() + 30
    while not path.is_file() or read_json(path)["phase"] is None:
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    return process


def ended(path: Path, error: BaseException | None = None, age: timedelta = timedelta(), **options) -> Path:
    """The status file of a run of this process, which ended `age` ago."""
    about = {"run": path.parent.name}
    try:
        with Status(path, **{"kind": "training", "about": about, "total": 20, "unit": "step"} | options) as status:
            status.update(20 if error is None else 7)
            if error is not None:
                raise error
    except (Exception, KeyboardInterrupt):
        pass
    updated = (datetime.now(UTC) - age).isoformat(timespec="seconds")
    write_json(path, read_json(path) | {"updated": updated})
    return path


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


def lines_of(text: str) -> dict[str, tuple[list[str], str]]:
    """By name of a run: the cells of its line, and the line below it."""
    lines = text.splitlines()
    found = {}
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        cells = line.split()
        if cells[:1] in (["eval"], ["train"]):
            found[cells[1]] = (cells, below.strip())
    return found


def test_the_table_shows_what_runs_and_how_the_others_ended(runs):
    done = run_script(SCRIPT, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    found = lines_of(done.stdout)
    assert list(found) == ["checkpoint-200", "elsewhere", "baseline", "failed", "interrupted", "finished"]
    cells, details = found["checkpoint-200"]
    assert cells[:5] == ["eval", "checkpoint-200", "Spatial", "running", "3/10"]
    assert cells[-2:] == ["0", "-"]
    assert details == "answering"
    assert found["elsewhere"][0][2:5] == ["-", "silent", "7/20"]
    assert found["elsewhere"][1].startswith("silent for 2h00m, process")
    assert found["elsewhere"][1].endswith("on node7")
    assert found["baseline"][0][2:5] == ["M&T", "died", "3/10"]
    assert found["baseline"][1].endswith("ended without a word (killed, out of memory?)")
    assert found["failed"][1] == "2d00h ago: RuntimeError: CUDA error: device-side assert"
    assert found["interrupted"][1].endswith("ago: Ctrl-C")
    assert found["finished"][0][3:5] == ["finished", "20/20"]
    assert done.stdout.splitlines()[0] == "1 running, 1 silent, 1 died, 1 failed, 1 interrupted, 1 finished"
    assert "2 more ended a while ago: --all shows them" in done.stdout
    torn = runs / "eva_results" / "Complex" / "torn" / "status.json"
    assert f"unreadable: {torn} is not valid JSON" in done.stdout


def test_all_shows_what_ended_long_ago_too(runs):
    found = lines_of(run_script(SCRIPT, "--all").stdout)
    assert {"old", "old_failure"} < found.keys()
    assert len(found) == 8


def test_json_says_the_same_to_machines(runs):
    done = run_script(SCRIPT, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    first = found["runs"][0]
    assert (first["state"], first["done"], first["total"]) == ("running", 3, 10)
    assert first["about"] == {"model": "checkpoint-200", "dimension": "Spatial"}
    assert first["rate"] == pytest.approx(2 / first["seconds"])
    assert first["left_s"] == pytest.approx(7 / first["rate"])
    states = ["running", "silent", "died", "failed", "interrupted", "finished"]
    assert [run["state"] for run in found["runs"]] == states
    assert found["left_out"] == 2
    assert list(found["unreadable"]) == [str(runs / "eva_results" / "Complex" / "torn" / "status.json")]


def test_other_folders_can_be_named_and_must_be_there(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    found = run_script(SCRIPT, "--results_dir", tmp_path / "empty", "--logs_dir", runs / "logs" / "sweep").stdout
    assert list(lines_of(found)) == ["interrupted"]
    assert_one_line_error(run_script(SCRIPT, "--logs_dir", tmp_path / "none"), "folder of logs not found")


def test_where_nothing_ran_it_says_so(workspace):
    for options in ([], ["--once"], ["--all"]):
        done = run_script(SCRIPT, *options)
        assert done.returncode == 0
        assert done.stdout.startswith("nothing has run yet: no status file in ")
        assert done.stdout.count("\n") == 1
    assert json.loads(run_script(SCRIPT, "--json").stdout)["runs"] == []


def test_where_nothing_runs_any_more_it_says_so(workspace):
    ended(workspace / "logs" / "old" / "status.json", age=timedelta(hours=3))
    done = run_script(SCRIPT)
    assert done.stdout == "nothing is running\n1 more ended a while ago: --all shows them\n"


def test_answers_and_failures_of_all_processes_count(tmp_path):
    """The first of several processes keeps the status; each writes a journal."""
    folder = tmp_path / "results" / "Spatial" / "m"
    process = start_run(folder / "status.json")
    try:
        monitor = Monitor(tmp_path / "results", tmp_path / "logs")
        (folder / "generations-rank0.jsonl").write_text("{}\n" * 4)
        (folder / "generations-rank1.jsonl").write_text("{}\n" * 2 + '{"torn')
        (folder / "failures-rank1.jsonl").write_text("{}\n")
        [run] = monitor.snapshot().runs
        assert (run.status.done, run.status.failures) == (6, 1)
        assert 0 < run.status.rate < 5 / 0.1
        assert run.status.left_s > 0
        with open(folder / "generations-rank1.jsonl", "a") as journal:
            journal.write('"}\n')
        [run] = monitor.snapshot().runs
        assert run.status.done == 7
        # A journal that holds answers to other examples, of a run over more of them.
        (folder / "generations.jsonl").write_text("{}\n" * 500)
        [run] = monitor.snapshot().runs
        assert (run.status.done, run.status.left_s) == (10, 0)
        write_json(folder / "status.json", read_json(folder / "status.json") | {"other_lines": 499})
        [run] = monitor.snapshot().runs
        assert run.status.done == 8
    finally:
        process.kill()
        process.wait(timeout=30)


def test_what_did_not_change_is_not_read_again(runs, monkeypatch):
    monitor = Monitor(runs / "eva_results", runs / "logs")
    journal = runs / "eva_results" / "Spatial" / "checkpoint-200" / "generations.jsonl"
    journal.write_text("{}\n" * 5)
    before = monitor.snapshot()

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(monitor_module, "written_status", refuse)
    monkeypatch.setattr(monitor_module, "_newlines", refuse)
    (runs / "eva_results" / "Complex" / "torn" / "status.json").unlink()
    after = monitor.snapshot()
    assert [(run.path, run.status.done) for run in after.runs] == [(run.path, run.status.done) for run in before.runs]
    assert (after.runs[0].status.done, after.unreadable) == (5, {})


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(runs, width):
    name = "lora_standard_seed42-checkpoint-12000_1shot_cot"
    ended(runs / "logs" / "long" / "status.json", RuntimeError("x" * 200), about={"run": name})
    ended(runs / "logs" / "wide" / "status.json", about={"run": "\u6a5f\u5668\u4eba" * 20})
    lines = table(Monitor(runs / "eva_results", runs / "logs").snapshot(), width)
    assert max(map(len, lines)) <= width
    wide = [line for line in lines if "\u6a5f" in line]
    assert all(len(line) + sum(letter > "\u3000" for letter in line) <= width for line in wide)
    if width >= 60:
        assert any("checkpoint-200" in line and "running" in line and "3/10" in line for line in lines)
        assert any("_1shot_cot" in line and "failed" in line for line in lines), "a long name keeps its end"
    if width >= 120:
        assert any(name in line for line in lines)


@pytest.mark.parametrize("height", [1, 3, 10, 100])
def test_no_more_lines_than_the_terminal_has(runs, height):
    lines = table(Monitor(runs / "eva_results", runs / "logs").snapshot(), 80, height)
    assert len(lines) <= height
    assert ("--once shows them" in lines[-1]) == (height < 100)


def test_what_would_steer_the_terminal_is_not_printed(tmp_path):
    ended(tmp_path / "logs" / "run" / "status.json", RuntimeError("red \x1b[31m"), about={"run": "a\x1b[2Jb\udc80"})
    text = "\n".join(table(Monitor(tmp_path / "none", tmp_path / "logs").snapshot()))
    assert "a?[2Jb?" in text
    assert "red ?[31m" in text


def test_a_run_without_news_is_seen(runs):
    path = runs / "eva_results" / "Spatial" / "checkpoint-200" / "status.json"
    long_ago = datetime.now(UTC) - timedelta(minutes=20)
    write_json(path, read_json(path) | {"updated": long_ago.isoformat(timespec="seconds")})
    cells, details = lines_of(run_script(SCRIPT).stdout)["checkpoint-200"]
    assert cells[3] == "running"
    assert details.startswith("answering, no news for 20m")


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a program of that name on the PATH that says what the driver would."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def test_gpus_are_shown_and_told_apart_by_their_processes(runs, nvidia_smi):
    pid = read_json(runs / "eva_results" / "Spatial" / "checkpoint-200" / "status.json")["pid"]
    nvidia_smi(
        'case "$1" in\n'
        '  --query-gpu=*) echo "0, GPU-a, NVIDIA H100 80GB HBM3, 93, 42189, 81559"\n'
        '                 echo "1, GPU-b, NVIDIA H100 80GB HBM3, [N/A], [N/A], [N/A]" ;;\n'
        f'  *) echo "GPU-a, {pid}"; echo "GPU-b, 1"; echo "GPU-b, [Not Found]" ;;\n'
        "esac"
    )
    assert read_gpus() == [
        Gpu(0, "NVIDIA H100 80GB HBM3", 93, 42189, 81559, (pid,)),
        Gpu(1, "NVIDIA H100 80GB HBM3", None, None, None, (1,)),
    ]
    done = run_script(SCRIPT)
    assert "GPU 0 NVIDIA H100 80GB HBM3: 93% busy, 41.2 of 79.6 GiB" in done.stdout
    assert "GPU 1 NVIDIA H100 80GB HBM3: - busy, memory -" in done.stdout
    found = lines_of(done.stdout)
    assert found["checkpoint-200"][0][-2:] == ["0:", "93%"]
    assert found["baseline"][0][-1] == "-"


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed'", "printf '\\377'", "exec sleep 60"])
def test_a_driver_that_does_not_answer_stops_nothing(runs, nvidia_smi, monkeypatch, script):
    monkeypatch.setattr("leap.runs.monitor._TIMEOUT_S", 0.2)
    nvidia_smi(script)
    before = time.monotonic()
    done = run_script(SCRIPT)
    assert time.monotonic() - before < 5
    assert "checkpoint-200" in done.stdout
    assert "GPU 0" not in done.stdout


def test_on_a_terminal_it_redraws_in_place_and_ctrl_c_ends_it_with_status_0(runs):
    """A pseudo-terminal of 100 columns and 30 lines."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    command = [sys.executable, str(REPOSITORY / "scripts" / SCRIPT), "--interval", "0.1"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    shown, limit = b"", time.monotonic() + 60
    while shown.count(b"\x1b[H") < 3:
        assert time.monotonic() < limit
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    while chunk := _read(ours):
        shown += chunk
    assert process.wait(timeout=30) == 0
    os.close(ours)
    before, after = shown.split(b"\x1b[?1049l")
    assert before.startswith(b"\x1b[?1049h")
    assert b"every 0.1 s, Ctrl-C ends" in before
    assert b"checkpoint-200" in after, "the last table stays"
    assert b"\x1b" not in after


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux: the other side is closed
        return b""


def test_a_thousand_models_are_looked_at_quickly(tmp_path):
    first = ended(tmp_path / "results" / "Spatial" / "m0" / "status.json", age=timedelta(days=9), kind="evaluation")
    for number in range(1, 1000):
        folder = tmp_path / "results" / "Spatial" / f"m{number}"
        folder.mkdir()
        (folder / "status.json").write_bytes(first.read_bytes())
        (folder / "generations.jsonl").write_bytes(b"{}\n")
    monitor = Monitor(tmp_path / "results", tmp_path / "logs")
    before = time.process_time()
    assert monitor.snapshot().left_out == 1000
    first_s, before = time.process_time() - before, time.process_time()
    snapshot = monitor.snapshot()
    assert (snapshot.runs, snapshot.left_out) == ([], 1000)
    again_s = time.process_time() - before
    print(f"{first_s:.3f} s, then {again_s:.3f} s")
    assert first_s < 3
    assert again_s < 0.5


def test_a_review_whose_models_are_asked_is_shown_with_its_failures(workspace):
    about = {"run": "blind_10", "models": ["baseline", "checkpoint-200"]}
    path = workspace / "eva_results" / "blind_10" / "status.json"
    with Status(path, "outputs", about, total=20, unit="row") as status:
        status.update(3, failures=1, phase="asking baseline")
        [row, details] = table(Monitor(workspace / "eva_results", workspace / "logs").snapshot())[-2:]
    assert row.split()[:5] == ["outputs", "blind_10", "-", "running", "3/20"]
    assert row.split()[-2:] == ["1", "-"]
    assert details.strip() == "asking baseline"


def test_an_empty_snapshot_has_no_table():
    snapshot = Snapshot("now", [], 0, {}, None)
    assert table(snapshot, 80, 24) == ["nothing is running"]
    assert table(replace(snapshot, gpus=[Gpu(0, "T4", 5, 100, 1024, ())]), 80) == [
        "nothing is running",
        "GPU 0 T4: 5% busy, 0.1 of 1.0 GiB",
    ]
