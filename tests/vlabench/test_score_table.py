"""The scores of every example as one table: what `datasets` reads back is what the results folder holds."""

import shutil

import datasets
import pytest

from leap.files import csv_reader
from leap.plans.reading import fenced
from leap.vlabench.folder import ResultFolder
from leap.vlabench.score_table import COLUMNS, example_rows, write_tables
from tests.conftest import assert_one_line_error, run_script
from tests.vlabench.scripted import Script, evaluate, place_of, truth

SCRIPT = "evaluation/export_scores.py"


@pytest.fixture
def results(examples, folder):
    """Results of a model that answers rightly but once, with text that no UTF-8 carries, and of a copy of its scores
    alone."""
    right, first = truth(examples), examples[0]
    wrong = "=no plan \ud800"
    place = (first.task, first.number)
    evaluate(Script(lambda query: wrong if place_of(query) == place else right(query)), examples, folder)
    answers = {(e.task, e.number): fenced(e.ground_truth()) for e in examples} | {place: wrong}
    assert {key: answer.text for key, answer in ResultFolder(folder).answers.items()} == answers
    copy = folder.with_name("of_others")
    copy.mkdir()
    shutil.copy(folder / "final_score.json", copy)
    return folder.parents[1]


def loaded(kind, path, tmp_path):
    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))


def test_both_tables_hold_every_score_of_every_example(results, tmp_path):
    rows = example_rows(results, [], ["Spatial"])
    assert {row["model"] for row in rows} == {"model", "of_others"}
    paths = write_tables(rows, tmp_path)
    model = ResultFolder(results / "Spatial" / "model")
    for kind, path in zip(("csv", "parquet"), paths, strict=True):
        table = loaded(kind, path, tmp_path)
        assert table.column_names == COLUMNS
        assert len(table) == 2 * len(model.answers)
        for row in table:
            key = (row["task"], row["example"])
            official = {name: row[f"official_{name}"] for name in model.official_scores[key]}
            assert official == model.official_scores[key]
            if row["model"] == "of_others":
                assert row["grounded_total_score"] is None
                assert row["text"] is None
            else:
                assert {name: row[f"grounded_{name}"] for name in model.grounded_scores[key]} == model.grounded_scores[
                    key
                ]
                assert row["scene"] == model.origins[key]["scene"]
                assert (row["labels"] or "") == ", ".join(model.labels[key])


def test_an_answer_stands_there_as_text_and_computes_nothing_in_a_spreadsheet(results, tmp_path):
    csv_file, parquet_file = write_tables(example_rows(results, ["model"], ["Spatial"]), tmp_path)
    assert loaded("parquet", parquet_file, tmp_path)[0]["text"] == "=no plan \\ud800"
    assert "'=no plan" in csv_file.read_text()
    with open(csv_file) as lines:
        assert next(csv_reader(lines))["text"] == "=no plan \\ud800"


def test_the_script_says_where_the_tables_are_and_which_models_there_are(results, tmp_path):
    done = run_script(SCRIPT, "--results", results, "--models", "model", "--output_dir", tmp_path / "tables")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "example_scores.csv",
        "example_scores.parquet",
    ]
    assert_one_line_error(
        run_script(SCRIPT, "--results", results, "--models", "another"), "another", "model, of_others"
    )
    assert_one_line_error(run_script(SCRIPT, "--results", tmp_path / "none"), "no scores")
