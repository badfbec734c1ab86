"""The sweep's table: means over seeds with their intervals, what is missing, budgets that differ."""

import pytest

from configs.config import DIMENSIONS
from leap.ablation.table import BASE, ModelRecord, all_warnings, as_markdown, measure_run, measure_scores, table_rows
from leap.files import read_json, write_json
from leap.models.checkpoints import Manifest, begin_saving, write_manifest
from leap.plans.scoring import METRICS
from leap.vlabench.folder import SCORE_FILES
from tests.ablation.table_cells import cells_of


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


def test_a_single_seed_shows_its_interval_over_examples_marked_as_such(measured):
    table = as_markdown(table_rows(measured), "last", [])
    _, official, grounded = cells_of(table, "full")
    # Two examples bound little.
    assert official[1].startswith("70.0 (49.1 to 80.0)*")
    assert grounded[-1].startswith("70.0 (")
    assert grounded[-1].endswith(")*")
    assert "one model only; 95 % interval over examples, blind to what another training would change" in table
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
