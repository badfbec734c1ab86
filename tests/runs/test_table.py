"""The monitor's table fits any terminal."""

from dataclasses import replace

import pytest

from leap.runs.monitor import Gpu, Monitor, Snapshot
from leap.runs.table import table
from tests.runs.status_files import ended


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


def test_an_empty_snapshot_has_no_table():
    snapshot = Snapshot("now", [], 0, {}, None)
    assert table(snapshot, 80, 24) == ["nothing is running"]
    assert table(replace(snapshot, gpus=[Gpu(0, "T4", 5, 100, 1024, ())]), 80) == [
        "nothing is running",
        "GPU 0 T4: 5% busy, 0.1 of 1.0 GiB",
    ]
