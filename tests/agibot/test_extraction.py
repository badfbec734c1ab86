"""The benchmark of the extraction gives its table."""

from leap.files import read_json
from tests.conftest import start_script


def test_both_ways_are_measured_and_give_the_same_number_of_frames(workspace, tmp_path):
    arguments = ["--episodes", 4, "--frames", 6, "--side", 40, "--rounds", 1, "--output", tmp_path / "measured.json"]
    process = start_script("benchmark/extraction.py", *arguments)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    assert "| leap.agibot.frames " in out
    runs = read_json(tmp_path / "measured.json")["runs"]
    assert all(run[name] > 0 for (run,) in runs.values() for name in ("seconds", "memory_bytes", "disk_bytes"))
    assert list((workspace / "output").iterdir()) == []
