"""The script that compares measured ratios with stored ones notices what has become slower, and nothing else."""

import json

import pytest

from configs.config import REPOSITORY
from leap.files import read_json, write_json
from tests.conftest import assert_one_line_error, run_script

CHECK = "benchmark/check.py"
CPU = {"machine": "x86_64", "system": "Linux", "cores": 2, "gpu": None}
GPU = CPU | {"cores": 16, "gpu": "NVIDIA H100"}


def evaluation(batches, hardware=CPU):
    rates = {"plain, one at a time": 1.0, "batches": batches}
    modes = {mode: {"examples_per_second": 9.0, "times_plain_one_at_a_time": rate} for mode, rate in rates.items()}
    return {"options": {"size": "tiny"}, "hardware": hardware, "long, tiny": {"modes": modes, "prompts": 28}}


def training(ratio, hardware=CPU):
    return {"options": {"size": "tiny"}, "hardware": hardware, "ratios": {"training, LEAP over TRL": ratio}}


@pytest.fixture
def check(tmp_path):
    def run(*contents, flags=()):
        paths = [tmp_path / f"{number}.json" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            write_json(path, content)
        return run_script(CHECK, "--results", *paths, "--ratios", tmp_path / "ratios.json", *flags)

    return run


@pytest.fixture
def stored(check, tmp_path):
    done = check(evaluation(2.0), training(3.0), flags=["--store"])
    assert done.returncode == 0, done.stderr
    return tmp_path / "ratios.json"


def test_stored_ratios_stand_by_machine_and_name(stored):
    assert read_json(stored) == {
        "x86_64, 2 cores": {
            "evaluation long, tiny, batches": 2.0,
            "training, LEAP over TRL, tiny": 3.0,
        }
    }


def test_a_ratio_that_fell_by_over_a_fifth_ends_with_status_1_and_is_marked(stored, check):
    before = stored.read_bytes()
    for ratio, status in ((1.59, 1), (1.61, 0), (9.0, 0)):
        done = check(evaluation(ratio), training(3.0))
        assert done.returncode == status, done.stdout
        [line] = [line for line in done.stdout.splitlines() if "batches" in line]
        assert ("slower" in line) == bool(status)
        assert f"{ratio:.2f}" in line
    assert check(evaluation(2.0), training(2.3)).returncode == 1
    assert stored.read_bytes() == before


def test_other_machines_and_new_ratios_are_shown_and_compared_with_nothing(stored, check):
    done = check(evaluation(0.1, GPU))
    assert done.returncode == 0
    assert "NVIDIA H100" in done.stdout
    assert "not stored" in done.stdout
    check(evaluation(4.0, GPU), evaluation(5.0, GPU) | {"device": "cpu"}, flags=["--store"])
    machines = read_json(stored)
    assert list(machines) == ["x86_64, 2 cores", "NVIDIA H100", "x86_64, 16 cores"]
    assert len(machines["x86_64, 2 cores"]) == 2


def test_storing_replaces_a_ratio_that_fell_and_leaves_the_others(stored, check):
    assert check(evaluation(0.5), flags=["--store"]).returncode == 0
    assert check(evaluation(0.5)).returncode == 0
    assert read_json(stored)["x86_64, 2 cores"]["training, LEAP over TRL, tiny"] == 3.0


def test_files_of_other_scripts_and_none_at_all_are_errors(check):
    assert_one_line_error(check({"hardware": CPU, "options": {}}), "0.json holds no ratios")
    assert_one_line_error(check([1]), "0.json holds no ratios")
    assert_one_line_error(run_script(CHECK), "--results")


def test_the_stored_ratios_of_this_repository_can_be_read():
    ratios = json.loads((REPOSITORY / "scripts" / "benchmark" / "ratios.json").read_text())
    assert all(ratio > 0 for names in ratios.values() for ratio in names.values())
    assert any("long, tiny" in name for name in ratios["x86_64, 2 cores"])
