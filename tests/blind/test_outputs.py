import csv
import json

import pytest

from configs.errors import UserError
from leap.blind.outputs import CSV_COLUMNS, Output, items_of, read_outputs, write_csv
from leap.judge.plan_text import normalised
from tests.judge.review import MODELS, write_review


def test_what_was_written_is_read_again(tmp_path):
    path = write_review(tmp_path, rows=2)
    items = items_of(read_outputs(path), path)
    assert [item.sample for item in items] == [0, 1]
    assert list(items[0].outputs) == list(MODELS)


def test_the_last_line_of_a_row_counts(tmp_path):
    path = write_review(tmp_path, rows=1, models=("baseline",))
    line = json.loads(path.read_text())
    failed = line | {"text": None, "failure": {"kind": "machine", "reason": "oom"}}
    path.write_text(json.dumps(failed) + "\n" + json.dumps(line) + "\n")
    assert read_outputs(path)[0].text == line["text"]


def test_no_outputs_name_the_command_that_makes_them(tmp_path):
    with pytest.raises(UserError, match=r"run_vlm_output\.py"):
        read_outputs(tmp_path / "outputs.jsonl")
    (tmp_path / "outputs.jsonl").write_text("")
    with pytest.raises(UserError, match=r"run_vlm_output\.py"):
        read_outputs(tmp_path / "outputs.jsonl")


@pytest.mark.parametrize("change", [{"model": 3}, {"sample": "x"}, {"text": None}, {"text": 3}, {"unknown": 1}])
def test_a_line_that_is_no_output_is_named(tmp_path, change):
    path = write_review(tmp_path, rows=1, models=("baseline",))
    path.write_text(json.dumps(json.loads(path.read_text()) | change) + "\n")
    with pytest.raises(UserError, match=r"outputs\.jsonl:1"):
        read_outputs(path)


def test_models_that_were_shown_different_rows_cannot_be_compared(tmp_path):
    path = write_review(tmp_path, rows=1, models=("baseline", "checkpoint-100"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["reference"] = "1) Something else."
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="row 0 of checkpoint-100 is not that of baseline"):
        items_of(read_outputs(path), path)


def test_the_csv_has_the_originals_columns_and_keeps_line_breaks(tmp_path):
    outputs = [
        Output("baseline", 0, ["a.png", "b.png"], "", "Task name: X.\nPlan.", "1) A. 2) B.", '1. "A",\n2. B\r\n'),
        Output("baseline", 1, [], "", "p", "r", None, failure={"kind": "machine", "reason": "oom"}),
        Output("baseline", 2, [], "", "p", "r", "lone \ud83d surrogate"),
    ]
    path = tmp_path / "outputs.csv"
    write_csv(path, outputs)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert rows[0]["model_output"] == '1. "A",\n2. B\r\n'
    assert rows[0]["image_paths"] == "a.png;b.png"
    assert [row["sample_idx"] for row in rows] == ["0", "2"]  # a failed row is no plan
    again = read_outputs(path)
    assert (again[0].text, again[0].images, again[0].task_name) == (outputs[0].text, ["a.png", "b.png"], "X")


def test_a_csv_of_the_original_whose_line_breaks_were_lost_still_has_its_steps(tmp_path):
    path = tmp_path / "blind10_outputs_20250101_000000.csv"
    rows = [
        "Baseline,0,data/images/1.png,Task name: Fold. Based on it,1. Pick up the cloth. 2. Fold it.,1) Pick. 2) Fold.",
        "checkpoint-5,0,data/images/1.png,Task name: Fold. Based on it,<inference_error>: CUDA out of memory,1) Pick.",
    ]
    path.write_text("\n".join([",".join(CSV_COLUMNS), *rows]) + "\n")
    whole, failed = read_outputs(path)
    assert normalised(whole.text) == "1. Pick up the cloth.\n2. Fold it."
    assert (failed.text, failed.failure["reason"]) == (None, "CUDA out of memory")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("model_name,sample_idx\na,0\n", "no column image_paths"),
        (",".join(CSV_COLUMNS) + "\nBaseline,0,a.png,prompt,1. Pick\n", ":2: fewer fields"),
        (",".join(CSV_COLUMNS) + "\n,0,a,b,c,d\n", "model_name"),
        (",".join(CSV_COLUMNS) + "\nm,one,a,b,c,d\n", "sample_idx"),
        (",".join(CSV_COLUMNS) + "\nm,0,a,b,c,d\nm,0,a,b,c,d\n", ":3: row 0 of m is there twice"),
    ],
)
def test_a_csv_that_is_none_of_ours_is_named_with_its_line(tmp_path, text, match):
    path = tmp_path / "outputs.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=match):
        read_outputs(path)
