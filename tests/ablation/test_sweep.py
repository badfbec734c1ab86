"""The ablation sweep: its table by hand-computed numbers, and a real one that is stopped, fails in part and goes on."""

import os
import shutil
import signal

import pytest

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.ablation.sweep import planned_runs, split_arguments
from leap.ablation.table import (
    BASE,
    ModelRecord,
    all_warnings,
    as_markdown,
    budget_of,
    budget_warnings,
    measure_run,
    measure_scores,
    table_rows,
)
from leap.cli import as_plain
from leap.files import read_json, write_json
from leap.models.checkpoints import (
    Manifest,
    begin_saving,
    drop_run_state,
    find_checkpoints,
    last_complete_checkpoint,
    write_manifest,
)
from leap.plans.scoring import METRICS
from leap.vlabench.folder import SCORE_FILES
from tests.conftest import REPOSITORY, assert_one_line_error, linked_workspace, run_script, start_script

SWEEP = "ablation/run-ablation.py"
QUICK = REPOSITORY / "configs/training/quickstart.yaml"


def finished_run(folder, seed, loss, tokens=9000, rows=4, step=10):
    """A run folder as the trainer leaves it, without weights."""
    checkpoint = folder / f"checkpoint-{step}"
    begin_saving(checkpoint)
    recipe = {
        "learning_rate": 2e-4,
        "max_steps": step,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": 9,
        "warmup_steps": 2,
        "lr_scheduler_type": "linear",
        "image_tokens_min": 256,
        "image_tokens_max": 768,
        "seed": seed,
    }
    validation = {"loss": loss, "plan_step_f1": 0.5, "step": step}
    write_manifest(
        checkpoint,
        Manifest(
            base_model="base",
            base_weights_sha256="b" * 64,
            kind="adapter",
            recipe=recipe,
            data_sha256="d" * 64,
            pixel_budget={},
            chat_template_sha256="c" * 64,
            library_versions={},
            steps=step,
            tokens_seen=tokens,
            validation=validation,
        ),
    )
    return checkpoint


def run_json(folder, **changes):
    numbers = {"trainable_parameters": 1_500_000, "parameters": 100_000_000, "seconds": 4000.0}
    write_json(folder / "run.json", numbers | {"peak_memory_bytes": 12_340_000_000, "memory_of": "GPU"} | changes)


def evaluated(results, model, total):
    """Results of one task a dimension with two examples, whose totals are `total` - 2 and `total` + 2."""
    for dimension in DIMENSIONS:
        folder = results / dimension / model
        for scorer, names in METRICS.items():
            scores = {str(n): dict.fromkeys(names, total + d) for n, d in enumerate((-2.0, 2.0))}
            write_json(folder / SCORE_FILES[scorer], {"task": scores})
        settings = {"planner": {"pixel_budget": {}, "dtype": "float32"}, "prompt": {"language": "en"}}
        write_json(folder / "summary.json", {"settings": settings, "provenance": {"data_sha256": dimension}})


def cells_of(table, preset):
    """The cells of a preset's lines in each of the three tables."""
    lines = [line for line in table.splitlines() if line.startswith(f"| {preset} ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def measured(tmp_path):
    """Two seeds of light, one of full without run.json, and the base; light's scores are 50 and 60."""
    results = tmp_path / "results"
    found = []
    for preset, seed, loss, total in (("light", 42, 0.5, 50.0), ("light", 43, 0.7, 60.0), ("full", 42, 0.4, 70.0)):
        folder = tmp_path / f"{preset}_seed{seed}"
        checkpoint = finished_run(folder, seed, loss, tokens=9000 + seed)
        if preset == "light":
            run_json(folder)
        evaluated(results, folder.name, total)
        numbers = measure_run(folder, checkpoint)
        found.append(ModelRecord(preset, seed, model=folder.name, **numbers, **measure_scores(results, folder.name)))
    evaluated(results, "baseline", 10.0)
    return [ModelRecord(BASE, model="baseline", **measure_scores(results, "baseline")), *found]


def test_numbers_are_means_over_seeds_with_student_t_intervals(measured):
    light = next(row for row in table_rows(measured) if row.preset == "light")
    # t(0.975, 1 degree of freedom) = 12.706; the standard error of 50 and 60 is 5, that of 0.5 and 0.7 is 0.1.
    macro, loss = light.cells["grounded macro"], light.cells["loss"]
    assert (macro.mean, macro.values, macro.over) == (55, [50, 60], "seeds")
    assert (macro.low, macro.high) == pytest.approx((55 - 63.531, 55 + 63.531), abs=1e-3)
    assert (loss.low, loss.high) == pytest.approx((0.6 - 1.2706, 0.6 + 1.2706), abs=1e-4)


def test_a_single_seed_shows_its_bootstrap_interval_marked_as_such(measured):
    table = as_markdown(table_rows(measured), "last", [])
    _, official, grounded = cells_of(table, "full")
    assert official[1].startswith("70.0 (68.0 to 72.0)*")
    assert grounded[-1].startswith("70.0 (")
    assert grounded[-1].endswith(")*")
    assert "one model only; 95 % bootstrap interval over examples" in table
    assert cells_of(table, BASE)[0][-1].startswith("10.0 (")


def test_a_missing_number_is_shown_as_missing(measured):
    training, *_ = cells_of(as_markdown(table_rows(measured), "last", []), "full")
    #      preset, seeds, rate, trainable, steps, tokens, time, memory, loss, F1, grounded
    assert training == ["full", "42", "0.0002", "-", "10", "9,042", "-", "-", "0.4000", "0.500", "-"]
    training, *_ = cells_of(as_markdown(table_rows(measured), "last", []), "light")
    assert training[2:8] == ["0.0002", "1.50 M (1.50%)", "10", "9,042", "1h06m", "12.34 GB GPU"]


def test_a_failed_seed_is_named_and_the_others_count(measured):
    failed = ModelRecord("light", 44, failure="training ended with exit status 1")
    training, official, _ = cells_of(
        as_markdown(table_rows([*measured, failed]), "last", []), "light: failed (seed 44)"
    )
    assert training[:3] == ["light: failed (seed 44)", "42 43 44", "0.0002 [2 of 3 seeds]"]
    assert official[-1] == "55.0 (-8.5 to 118.5) [2 of 3 seeds]"


def test_a_dimension_that_was_not_evaluated_leaves_the_macro_missing_too(tmp_path):
    evaluated(tmp_path, "m", 50.0)
    (tmp_path / "Complex" / "m" / SCORE_FILES["grounded"]).unlink()
    scores = measure_scores(tmp_path, "m")["scores"]
    assert "grounded Spatial" in scores
    assert "grounded Complex" not in scores
    assert "grounded macro" not in scores
    [row] = table_rows([ModelRecord("light", 42, scores=scores)])
    assert row.totals("grounded")[-2:] == [None, None]


def test_validation_scores_of_another_step_do_not_count(tmp_path):
    folder = tmp_path / "light_seed42"
    checkpoint = finished_run(folder, 42, 0.5)
    stale = read_json(checkpoint / "leap_manifest.json")
    stale["validation"]["step"] = 5
    write_json(checkpoint / "leap_manifest.json", stale)
    assert "loss" not in measure_run(folder, checkpoint)["numbers"]


def test_a_budget_that_differs_is_named_with_its_runs(measured, tmp_path):
    assert all_warnings(measured) == []  # tokens differ between seeds, which see other rows: no warning
    folder = tmp_path / "wide_seed42"
    wide = ModelRecord("wide", 42, **measure_run(folder, finished_run(folder, 42, 0.4, tokens=5, rows=8)))
    assert all_warnings([*measured, wide]) == [
        "not the same budget: rows a step: 36 (light_seed42, light_seed43, full_seed42); 72 (wide_seed42)",
        "not the same budget: tokens seen with seed 42: 9042 (light_seed42, full_seed42); 5 (wide_seed42)",
    ]


def test_evaluations_under_different_settings_are_named(measured):
    measured[0].settings["dtype"] = "bfloat16"
    assert [w for w in all_warnings(measured) if "dtype" in w]


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
    assert planned_runs(["light"], [1], None, [], tmp_path)[0].recipe.max_steps == 2000


@pytest.mark.parametrize(
    "argv",
    [
        ["--train_args", "--seed", "3"],
        ["--train-args", "--max-steps=3"],
        ["--train_args", "--lr", "1e-4", "--preset", "full"],
        ["--eval_args", "--output_dir", "x"],
        ["--eval_args", "--with-cot", "--train_args", "--config", "x.yaml"],
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


STEPS = 24  # enough that a signal at the first one comes before the last
REAL = [
    *("--config", QUICK, "--presets", "fullft", "light", "--max_steps", STEPS, "--prompt", "builtin"),
    *("--max_new_tokens", 8, "--num_episodes", 1, "--batch_size", 20),
    *("--train_args", "--val_plans", 0, "--dataloader_num_workers", 0, "--logging_steps", 1),
    *("--per_device_train_batch_size", 4, "--report_to", "none"),
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
    assert cells_of(table, BASE)[0][-1].endswith("*")
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
def test_another_sweep_in_the_same_place_is_refused_before_anything_runs(real, monkeypatch):
    root, _, _ = real
    monkeypatch.setenv("LEAP_WORKSPACE", str(root))
    done = run_script(SWEEP, *(STEPS + 1 if word == STEPS else word for word in REAL))
    assert_one_line_error(done, f"max_steps: {STEPS} -> {STEPS + 1}", "--name")
