"""Means over dimensions: what is missing is shown as missing, and what is not one model is not averaged."""

import json

import pytest

from configs.config import DIMENSIONS
from leap.plans.reading import fenced
from leap.vlabench.folder import AnswerRecord, models_in
from leap.vlabench.published import MARK, load_published
from leap.vlabench.results import write_results
from leap.vlabench.tables import overall, results_table
from tests.vlabench.benchmark_tree import make_benchmark
from tests.vlabench.scripted import Script, evaluate, truth


def test_dimensions_of_different_models_are_not_averaged(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    evaluate(Script(truth(examples), "another"), examples, folder.parents[1] / "M&T" / "model")
    found = overall(folder.parents[1], "model", "official")
    assert found.mixed
    assert not found.complete
    assert "not one model" in results_table(folder.parents[1], ["model"])


def test_the_macro_interval_narrows_with_the_number_of_independent_dimensions(tmp_path):
    metrics = ("skill_match_score", "entity_match_score", "skill_with_entity_match_score", "exact_match_score")
    for dimension in DIMENSIONS:
        folder = tmp_path / dimension / "m"
        folder.mkdir(parents=True)
        scores = {str(i): dict.fromkeys((*metrics, "total_score"), 100.0 * (i % 2)) for i in range(20)}
        (folder / "final_score.json").write_text(json.dumps({"task": scores}))
    found = overall(tmp_path, "m", "official")
    one, macro = found.dimensions["Spatial"]["total_score"], found.macro["total_score"]
    assert (macro.high - macro.low) / (one.high - one.low) == pytest.approx(1 / 6**0.5, rel=0.15)


def test_the_table_shows_missing_dimensions_as_missing(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    results = folder.parents[1]
    assert models_in(results) == ["model"]
    found = overall(results, "model", "official")
    assert set(found.dimensions) == {"Spatial"}
    assert found.macro["total_score"].mean == 80
    table = results_table(results, ["model"]).splitlines()
    row = next(line for line in table if line.startswith("| total score, official"))
    assert row.count("| -  ") == 5
    assert "80.0 (80.0 to 80.0) over 1 of 6" in row


def test_macro_weighs_dimensions_and_micro_weighs_examples(tmp_path):
    for dimension, count, value in (("M&T", 1, 100.0), ("Spatial", 3, 20.0)):
        folder = tmp_path / dimension / "m"
        folder.mkdir(parents=True)
        scores = {
            "task": {
                str(i): dict.fromkeys(
                    (
                        "skill_match_score",
                        "entity_match_score",
                        "skill_with_entity_match_score",
                        "exact_match_score",
                        "total_score",
                    ),
                    value,
                )
                for i in range(count)
            }
        }
        (folder / "final_score.json").write_text(json.dumps(scores))
    found = overall(tmp_path, "m", "official")
    assert found.macro["total_score"].mean == pytest.approx(60)
    assert found.micro["total_score"].mean == pytest.approx(40)
    assert found.examples == 4


def test_published_rows_stand_below_measured_ones_and_are_marked(tmp_path):
    examples = make_benchmark(tmp_path / "benchmark")["Spatial"]
    answers = {e: AnswerRecord(e.task, e.number, fenced(e.ground_truth()), "end") for e in examples}
    write_results(tmp_path / "r/Spatial/mine", answers, [], 20, {"planner": {}, "prompt": {"with_cot": False}}, {})
    plain = results_table(tmp_path / "r", ["mine"])
    assert MARK not in plain
    table = results_table(tmp_path / "r", ["mine"], load_published())
    lines = table.splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:5]] == [
        "mine",
        f"LEAP checkpoint-5000 {MARK}",
        f"Qwen3-VL-2B-Instruct by LEAP {MARK}",
    ]
    cells = [cell.strip() for cell in lines[3].split("|")[3:-1]]
    assert cells == ["33.0", "27.3", "28.5", "31.6", "30.3", "19.7", "28.4", "-", "-"]
    row = next(line for line in lines if line.startswith("| skill match, official (of 100)"))
    assert row.count("| - ") == 8
    assert "72.2" in row
    assert all(MARK in line or "mine" in line for line in lines[2:] if line.startswith("|"))
    assert f"- LEAP checkpoint-5000 {MARK}: decoding sampled" in table
