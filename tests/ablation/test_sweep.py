"""The ablation sweep: what it will run, and a real one that is stopped, fails in part and goes on."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.ablation.sweep import _sources_of, planned_runs, split_arguments
from leap.ablation.table import BASE, budget_of, budget_warnings
from leap.cli import as_plain
from leap.files import read_json
from leap.models.checkpoints import drop_run_state, find_checkpoints, last_complete_checkpoint
from leap.training.resume import made_from
from tests.ablation.table_cells import cells_of
from tests.conftest import REPOSITORY, assert_one_line_error, linked_workspace, run_script, start_script

SWEEP = "ablation/run-ablation.py"
QUICK = REPOSITORY / "configs/training/quickstart.yaml"


def test_presets_and_full_fine_tuning_are_matched_by_default(tmp_path):
    runs = planned_runs(["light", "standard", "full", "aggressive", "fullft"], [42, 43], 500, [], tmp_path)
    assert [run.name for run in runs[:2]] == ["light_seed42", "standard_seed42"]
    assert len({run.recipe.learning_rate for run in runs}) == 2
    budgets = {run.name: budget_of(as_plain(run.recipe)) for run in runs}
    assert budget_warnings(budgets, dict.fromkeys(budgets, 42)) == []
    assert budgets["light_seed42"]["rows a step"] == 36


def test_the_steps_of_a_common_recipe_count_unless_others_are_named(tmp_path):
    named = ["--config", str(QUICK)]
    assert planned_runs(["light"], [1], None, named, tmp_path)[0].recipe.max_steps == 600
    assert planned_runs(["light"], [1], 7, named, tmp_path)[0].recipe.max_steps == 7
    assert planned_runs(["light"], [1], None, [], tmp_path)[0].recipe.max_steps == 7000


def test_the_warm_up_is_shortened_with_the_steps_unless_it_is_named(tmp_path):
    def warm_up(steps, *argv):
        return planned_runs(["light"], [1], steps, argv, tmp_path)[0].recipe.warmup_steps

    assert [warm_up(steps) for steps in (9000, 7000, 3500, 7)] == [800, 800, 400, 0]
    assert warm_up(7, "--warmup-steps=3") == 3
    assert warm_up(7, "--config", str(QUICK)) == 60


@pytest.mark.parametrize(
    "argv",
    [
        ["--train_args", "--seed", "3"],
        ["--train-args", "--max-steps=3"],
        ["--train_args", "--lr", "1e-4", "--preset", "full"],
        ["--eval_args", "--output_dir", "x"],
        ["--eval_args", "--with-cot", "--train_args", "--config", "x.yaml"],
        ["--eval_args", "--ray", "auto"],
        ["--train_args", "--jobs", "2"],
    ],
)
def test_extra_knobs_cannot_contradict_the_sweep(argv):
    with pytest.raises(UserError, match="contradicts the sweep"):
        split_arguments(argv)


def test_extra_knobs_go_where_they_are_meant_to():
    parts = split_arguments(["--seeds", "1", "2", "--eval_args", "--seed", "3", "--train_args", "--lr", "0.1"])
    assert parts == (["--seeds", "1", "2"], ["--lr", "0.1"], ["--seed", "3"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--presets", "lihgt"], ["invalid choice: 'lihgt'", "fullft"]),
        (["--seeds", "x"], ["invalid int value: 'x'"]),
        (["--max_steps", "0"], ["max_steps must be > 0"]),
        (["--name", "a/b"], ["--name 'a/b'"]),
        (["--presets", "light", "fullft", "--train_args", "--lora_r", "4"], ["preset fullft", "--lora_r"]),
        (["--train_args", "--freeze", "vision"], ["preset light", "LoRA freezes all but its adapter"]),
        (["--config", QUICK, "--eval_args", "--shots", "4"], ["unrecognized arguments: --shots"]),
        (["--evaluate", "best", "--train_args", "--model_name_or_path", "nowhere"], ["base model not found"]),
    ],
)
def test_a_wrong_argument_is_one_line_before_anything_runs(workspace, argv, words):
    assert_one_line_error(run_script(SWEEP, *argv), *words)
    assert not (workspace / "output").exists()


def test_the_environment_gives_defaults_that_flags_beat(workspace, monkeypatch):
    monkeypatch.setenv("PRESETS", "nonsense")
    assert_one_line_error(run_script(SWEEP), "invalid choice: 'nonsense'")
    assert_one_line_error(run_script(SWEEP, "--presets", "light", "--seeds", "y"), "invalid int value: 'y'")


def test_a_streamed_training_is_known_by_what_its_manifest_says(workspace, tmp_path):
    files = ["--model_name_or_path", str(workspace / "models/tiny-planner")]
    files += ["--train_file", str(workspace / "data/train.jsonl"), "--val_file", str(workspace / "data/val.jsonl")]
    for flags in ([], ["--streaming"]):
        [run] = planned_runs(["fullft"], [1], 3, [*files, *flags], tmp_path)
        assert _sources_of(run.recipe) == made_from(run.recipe)


STEPS = 24  # enough that a signal at the first one comes before the last
REAL = [
    *("--config", QUICK, "--presets", "fullft", "light", "--max_steps", STEPS, "--prompt", "builtin"),
    *("--max_new_tokens", 8, "--num_episodes", 1, "--batch_size", 20),
    *("--train_args", "--val_plans", 0, "--dataloader_num_workers", 0, "--logging_steps", 1),
    *("--per_device_train_batch_size", 2, "--report_to", "none"),
]


@pytest.fixture(scope="module")
def real(demo, tmp_path_factory):
    """A sweep that was stopped by SIGTERM in the middle of its first training, and then run to its end."""
    root = linked_workspace(demo, tmp_path_factory.mktemp("sweep") / "work space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAP_WORKSPACE", str(root))
        process = start_script(SWEEP, *REAL, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
        for line in process.stdout:
            if line.startswith(f"step 1/{STEPS}"):
                process.send_signal(signal.SIGTERM)
                break
        shown, _ = process.communicate(timeout=100)
        stopped_at = last_complete_checkpoint(root / "output" / "ablation" / "fullft_seed42")
        # A checkpoint that lost its optimiser's state can neither be resumed nor overwritten, so light fails.
        shutil.copytree(stopped_at, root / "output" / "ablation" / "light_seed42" / stopped_at.name)
        drop_run_state(root / "output" / "ablation" / "light_seed42" / stopped_at.name)
        yield root, (process.returncode, shown, stopped_at), run_script(SWEEP, *REAL)


@pytest.mark.slow
def test_sigterm_is_passed_on_and_the_training_saves_before_the_sweep_ends(real):
    _, (status, shown, stopped_at), _ = real
    assert status == 128 + signal.SIGTERM
    assert f"stopped by SIGTERM after saving {stopped_at}" in shown
    assert stopped_at is not None
    assert stopped_at.name != f"checkpoint-{STEPS}"


@pytest.mark.slow
def test_the_same_command_continues_where_it_was(real):
    root, (_, _, stopped_at), done = real
    assert "evaluated already: baseline_ablation" in done.stdout
    assert f"resuming from {stopped_at}" in done.stdout
    assert find_checkpoints(root / "output" / "ablation" / "fullft_seed42")[-1].name == f"checkpoint-{STEPS}"


@pytest.mark.slow
def test_a_failing_preset_is_reported_and_the_others_are_run(real):
    root, _, done = real
    assert done.returncode == 1
    log = root / "logs" / "ablation" / "light_seed42.log"
    assert f"light_seed42 failed: training ended with exit status 2; log: {log}" in done.stderr
    assert "cannot be resumed from" in done.stderr
    table = (root / "eva_results" / "ablation" / "ablation_table.md").read_text()
    assert table in done.stdout
    assert all(set(cells[2:]) == {"-"} for cells in cells_of(table, "light: failed")[:1])
    training, official, _ = cells_of(table, "fullft")
    assert training[2] == "0.002"
    assert training[4] == str(STEPS)
    assert "-" not in official
    assert cells_of(table, BASE)[0][-1].endswith("(no interval)"), "one example a task has none"
    assert "warning" not in table


@pytest.mark.slow
def test_the_sweep_leaves_all_numbers_and_a_figure(real):
    root, _, _ = real
    folder = root / "eva_results" / "ablation"
    found = read_json(folder / "ablation_table.json")
    assert [(run["preset"], run["seed"], run["failure"] is None) for run in found["runs"]] == [
        (BASE, None, True),
        ("fullft", 42, True),
        ("light", 42, False),
    ]
    assert found["runs"][1]["model"] == f"fullft_seed42-checkpoint-{STEPS}"
    assert found["runs"][1]["numbers"]["tokens_seen"] > 0
    assert (folder / "ablation.png").stat().st_size > 5000
    assert (folder / "ablation.svg").is_file()


@pytest.mark.slow
def test_what_is_done_is_not_done_again(real, monkeypatch):
    root, _, _ = real
    monkeypatch.setenv("LEAP_WORKSPACE", str(root))
    logs = {path: path.read_bytes() for path in (root / "logs" / "ablation").glob("*.log")}
    argv = [word if word != "light" else "fullft" for word in REAL]
    done = run_script(SWEEP, *argv)
    assert done.returncode == 0, done.stderr
    assert f"trained already: {root / 'output/ablation/fullft_seed42' / f'checkpoint-{STEPS}'}" in done.stdout
    assert f"evaluated already: fullft_seed42-checkpoint-{STEPS}" in done.stdout
    assert {path: path.read_bytes() for path in logs} == logs


@pytest.mark.slow
def test_as_jobs_it_trains_and_scores_the_very_same(real, demo, tmp_path, monkeypatch):
    root = linked_workspace(demo, tmp_path / "work space")
    monkeypatch.setenv("LEAP_WORKSPACE", str(root))
    argv = ["--jobs", 2, *(word for word in REAL if word != "light")]
    done = run_script(SWEEP, *argv)
    assert done.returncode == 0, done.stderr
    trained = Path("output/ablation/fullft_seed42", f"checkpoint-{STEPS}", "model.safetensors")
    assert (root / trained).read_bytes() == (real[0] / trained).read_bytes()
    scores, scores_in_turn = (
        [
            run["scores"]
            for run in read_json(folder / "eva_results/ablation/ablation_table.json")["runs"]
            if run["scores"]
        ]
        for folder in (root, real[0])
    )
    assert scores == scores_in_turn
    assert len(scores) == 2
    logs = {path: path.read_bytes() for path in (root / "logs" / "ablation").glob("*.log")}
    assert run_script(SWEEP, *argv).returncode == 0
    assert {path: path.read_bytes() for path in logs} == logs


@pytest.mark.slow
def test_another_sweep_in_the_same_place_is_refused_before_anything_runs(real, monkeypatch):
    root, _, _ = real
    monkeypatch.setenv("LEAP_WORKSPACE", str(root))
    done = run_script(SWEEP, *(STEPS + 1 if word == STEPS else word for word in REAL))
    assert_one_line_error(done, f"max_steps: {STEPS} -> {STEPS + 1}", "--name")
