"""The benchmark of batches measures the same work in all modes."""

import pytest

from leap.files import read_json
from tests.conftest import assert_one_line_error, run_script


@pytest.mark.slow
def test_all_modes_see_the_same_rows_and_the_same_loss(tmp_path):
    output = tmp_path / "speed.json"
    done = run_script(
        "benchmark/training.py",
        *("--rows", 6, "--rounds", 1, "--rows_per_step", 3, "--tokens", 1500, "--kind", "full", "lora"),
        *("--output", output, "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    for kind in ("full", "lora"):
        plain, grouped, packed = read_json(output)["results"][kind]["modes"]
        assert [mode["mode"] for mode in (plain, grouped, packed)] == ["plain", "grouped", "packed"]
        for mode in (grouped, packed):
            for amount in ("rows", "tokens", "supervised_tokens"):
                assert mode[amount] == plain[amount] > 0
            assert mode["loss_sum"] == pytest.approx(plain["loss_sum"], abs=1e-3 * plain["supervised_tokens"])
            assert mode["times_plain"] > 0
        assert packed["padding_share"] == 0 < grouped["padding_share"] <= plain["padding_share"]
        assert plain["mfu"] is None, "a CPU has no peak to divide by"
    assert done.stdout.count("| packed |") == 2


def test_what_cannot_be_measured_is_refused(tmp_path):
    assert_one_line_error(run_script("benchmark/training.py", "--rows", 4, "--tokens", 20), "below the longest row")
