"""Means over dimensions: what is missing is shown as missing, and what is not one model is not averaged."""

import json

import pytest

from configs.config import DIMENSIONS
from leap.plans.reading import fenced
from leap.vlabench.folder import AnswerRecord, ResultFolder, models_in
from leap.vlabench.published import MARK, load_published
from leap.vlabench.results import write_results
from leap.vlabench.tables import overall, results_table
from tests.conftest import run_script
from tests.vlabench.benchmark_tree import make_benchmark
from tests.vlabench.scripted import Script, evaluate, place_of, truth


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


def test_a_folder_with_official_scores_alone_is_a_model_and_improvements_stand_in_per_cent_beside_points(tmp_path):
    metrics = ("skill_match_score", "entity_match_score", "skill_with_entity_match_score", "exact_match_score")
    for model, score in (("baseline", 40.0), ("checkpoint-9", 50.0)):
        folder = tmp_path / "Spatial" / model
        folder.mkdir(parents=True)
        scores = {str(i): dict.fromkeys((*metrics, "total_score"), score) for i in range(3)}
        (folder / "final_score.json").write_text(json.dumps({"task": scores}))
    assert models_in(tmp_path) == ["baseline", "checkpoint-9"]
    done = run_script("evaluation/draw_evaluation_results.py", "--results", tmp_path, "--relative")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "figures" / "results_table.md").read_text()
    line = next(line for line in table.splitlines() if "total score, official" in line and "checkpoint-9" in line)
    assert line.rstrip(" |").endswith("+10.0 (+25 %)")
    command = ("baseline", "checkpoint-9", "--results", tmp_path, "--metric", "official.total_score", "--relative")
    done = run_script("evaluation/compare_models.py", *command)
    assert "+25 %" in done.stdout, done.stderr


def test_one_example_a_task_says_that_there_is_no_interval(examples, folder):
    first = list({example.task: example for example in examples}.values())
    evaluate(Script(truth(first)), first, folder)
    found = overall(folder.parents[1], "model", "grounded").dimensions["Spatial"]["total_score"]
    assert (found.mean, found.low, found.high) == (100, None, None)
    assert "100.0 (no interval)" in results_table(folder.parents[1], ["model"])


def test_the_same_score_has_the_same_bounds_in_summary_and_table(examples, folder):
    right = truth(examples)
    evaluate(Script(lambda query: right(query) if place_of(query)[1] else "none"), examples, folder)
    found = overall(folder.parents[1], "model", "grounded")
    summary = ResultFolder(folder).summary
    assert summary.scores["grounded"] == found.dimensions["Spatial"] == found.micro == found.macro
    assert summary.scores["grounded"]["total_score"].mean == 50


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
    assert f"{found.macro['total_score'].text()} over 1 of 6" in row
    assert "80.0 (31.8 to 80.0)" in row  # four of four: 39.8 to 100 of 100


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


def test_a_table_says_which_scorers_made_it_and_whom_an_earlier_one_scored(tmp_path):
    examples = make_benchmark(tmp_path / "benchmark")["Spatial"]
    answers = {e: AnswerRecord(e.task, e.number, fenced(e.ground_truth()), "end") for e in examples}
    for model in ("new", "old"):
        write_results(tmp_path / "r/Spatial" / model, answers, [], 20, {"planner": {}, "prompt": {}}, {})
    path = tmp_path / "r/Spatial/old/summary.json"
    summary = json.loads(path.read_text())
    del summary["scorers"]
    path.write_text(json.dumps(summary))
    assert results_table(tmp_path / "r", ["new"]).endswith("Scored by official version 1 and grounded version 2.")
    assert "but old (grounded version 1): these numbers do not compare" in results_table(tmp_path / "r", ["new", "old"])


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
    assert cells == ["32.96", "27.27", "28.49", "31.62", "30.27", "19.67", "28.38", "-", "-"]
    row = next(line for line in lines if line.startswith("| skill match, official (of 100)"))
    assert row.count("| - ") == 8
    assert "72.16" in row
    assert all(MARK in line or "mine" in line for line in lines[2:] if line.startswith("|"))
    assert f"- LEAP checkpoint-5000 {MARK}: decoding sampled" in table
