"""Ways to learn on, compared: what is run, the table, warnings first."""

import pytest

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.ablation.methods import MethodResult, _path_of, methods_table, planned_methods
from leap.files import read_json
from leap.statistics import Estimate
from leap.training.hacking import Trend
from leap.training.recipes import LoraRecipe
from leap.vlabench.compare import Difference
from leap.vlabench.tables import Overall
from tests.conftest import assert_one_line_error, run_script, unaligned
from tests.training.trainings import FOUR_STEPS


def success_of(mean):
    means = {"plan_success": Estimate(mean, mean - 5, mean + 5)}
    return Overall(macro=means, micro=means, dimensions=dict.fromkeys(DIMENSIONS, means), examples=60)


def result(method, seed, mean, **more):
    difference = Difference(60, 40.0, mean, Estimate(mean - 40, 1.0, 9.0), 0.004, 0.008, 12, 3, 45, 20)
    return MethodResult(method, seed, f"{method}_seed{seed}-checkpoint-9", success_of(mean), difference, 61.0, **more)


START = MethodResult("start", None, "baseline_methods", success_of(40.0))


def test_each_method_of_a_seed_starts_from_the_same_checkpoint_for_the_same_seconds(tmp_path):
    argv = ["--rows", "a.jsonl", "--lr", "1e-4"]
    runs = planned_methods(["grpo", "sft"], [1, 2], tmp_path / "start", 90, argv, tmp_path / "methods")
    assert [run.name for run in runs] == ["grpo_seed1", "sft_seed1", "grpo_seed2", "sft_seed2"]
    for run in runs:
        recipe = run.recipe
        assert (recipe.model_name_or_path, recipe.max_seconds) == (tmp_path / "start", 90)
        assert (recipe.seed, recipe.method, recipe.learning_rate) == (run.seed, run.preset, 1e-4)
        assert isinstance(recipe, LoraRecipe)
        assert run.command[1].endswith("scripts/training/run-rl.sh")


def test_what_the_comparison_decides_is_not_taken_from_training_flags(tmp_path):
    with pytest.raises(UserError, match="--max-seconds=9 after --train_args contradicts"):
        planned_methods(["grpo"], [1], tmp_path, 90, ["--max-seconds=9"], tmp_path)


def test_the_table_has_the_difference_to_the_start_with_its_test():
    table = methods_table([START, result("grpo", 42, 45.0, trend=Trend(0.5, 0.75, 9.0))], 60)
    [row] = [line for line in table.splitlines() if line.startswith("| GRPO") and "12/3" in line]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[-5:-1] == ["45.0 (40.0 to 50.0)", "+5.0 (+1.0 to +9.0)", "0.008", "12/3"]
    assert "0.500" in table
    assert "0.750" in table
    assert "mean over seeds" not in table


def test_a_run_that_hacked_its_reward_is_called_so_on_the_first_line():
    hacked = result("grpo", 42, 30.0, hacking="REWARD HACKING: the reward rose")
    first = methods_table([START, result("sft", 42, 45.0), hacked], 60).splitlines()[0]
    assert first == "GRPO, seed 42: REWARD HACKING: the reward rose"


def test_a_runs_path_is_its_reward_in_training_and_its_held_out_success():
    log = [{"step": 0, "eval_grounded_plan_success": 40.0}, {"step": 1, "reward": 0.5}, {"step": 2, "reward": 0.7}]
    log += [{"step": 2, "eval_grounded_plan_success": 30.0}, {"step": 3, "reward": 0.9}]
    assert _path_of(log) == ((0.5, 40.0), (0.7, 30.0))


def test_several_seeds_have_a_mean_with_an_interval():
    table = methods_table([START, result("grpo", 1, 44.0), result("grpo", 2, 46.0)], 60)
    assert "| GRPO | 2 | 45.0 (" in unaligned(table)


@pytest.mark.slow
def test_a_comparison_trains_evaluates_and_repeats_nothing(beginner, workspace):
    start = beginner / "run" / "checkpoint-60"
    command = ["ablation/run-methods.py", "--checkpoint", start, "--methods", "grpo", "--max_seconds", 2]
    command += ["--rows", beginner / "train.jsonl", "--val_file", beginner / "val.jsonl"]
    knobs = [*FOUR_STEPS]
    del knobs[knobs.index("--max_steps") : knobs.index("--max_steps") + 2]  # the clock decides
    command += ["--train_args", "--tuning", "full", *knobs]
    command += ["--eval_args", "--prompt", "builtin", "--batch_size", 16, "--max_new_tokens", 48]
    done = run_script(*command)
    assert done.returncode == 0, done.stderr
    folder = workspace / "eva_results" / "methods"
    rows = read_json(folder / "methods.json")["rows"]
    assert [(row["method"], row["seed"]) for row in rows] == [("start", None), ("grpo", 42)]
    assert rows[1]["difference"]["examples"] == 28
    assert rows[1]["path"], "GRPO is validated with its reward"
    assert (folder / "methods.png").is_file()
    again = run_script(*command)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("trained already") == 1
    assert again.stdout.count("evaluated already") == 2
    changed = [word if word != 2 else 3 for word in command]
    failed = run_script(*changed)
    assert failed.returncode == 1
    assert "was made otherwise" in failed.stderr


def test_an_adapter_is_no_start_for_a_comparison(workspace):
    adapter = workspace / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert_one_line_error(run_script("ablation/run-methods.py", "--checkpoint", adapter), "is an adapter")
