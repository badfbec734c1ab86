"""Judgements as files."""

import csv

import pytest

from configs.errors import UserError
from leap.files import Journal
from leap.judge.judgements import (
    CSV_COLUMNS,
    FINAL,
    PAIRWISE,
    RUBRIC,
    SCALES,
    Judgement,
    read_judgements,
    write_judgements_csv,
)
from tests.judge.synthetic import pair, rating


def test_the_csv_has_the_originals_columns_first_and_no_number_for_what_failed(tmp_path):
    judged = [rating("llm", "baseline", 0, 4), rating("llm", "baseline", 1, None)]
    judged += [rating("llm", "baseline", 2, 5, **{"failure": "cut"}), *pair("checkpoint-200", 0, "model", None)]
    path = tmp_path / "judgements.csv"
    write_judgements_csv(path, judged)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert CSV_COLUMNS[:8] == (
        "model_name",
        "sample_idx",
        "judge_raw",
        "completeness",
        "logical_sequence",
        "hallucination_redundancy",
        "granularity",
        "final_score",
    )
    assert (rows[0]["judge_raw"], rows[0]["final_score"], rows[0]["granularity"]) == ("why", "4.0", "4")
    for row in rows[1:]:
        assert [row[column] for column in (*SCALES, FINAL)] == [""] * 5
    assert [row["verdict"] for row in rows] == ["", "", "", "model", ""]
    assert [row["failure"] for row in rows[1:]] == ["the judge refused", "cut", "", "no verdict"]


def test_a_reason_with_line_breaks_quotes_and_a_lone_surrogate_stays_in_its_field(tmp_path):
    path = tmp_path / "judgements.csv"
    reasoning = 'one\ntwo, "three" \ud800'
    write_judgements_csv(path, [Judgement("llm", RUBRIC, "m", 0, scores=dict.fromkeys(SCALES, 3), reasoning=reasoning)])
    with open(path, newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["judge_raw"] == 'one\ntwo, "three" \\ud800'


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        (rating("llm", "m", 0, {"completeness": 3}), "each of completeness"),
        (rating("llm", "m", 0, 6), "must be a number 1 to 5"),
        (rating("llm", "m", 0, 0), "must be a number 1 to 5"),
        (rating("llm", "m", 0, "4"), "must be a number"),
        (Judgement("llm", RUBRIC, "m", 0), "the scores are None"),
        (Judgement("llm", PAIRWISE, "m", 0, base="b", verdict="first"), "one of model, base, tie"),
    ],
)
def test_a_line_that_is_no_judgement_is_named_by_file_and_line(tmp_path, judgement, words):
    path = tmp_path / "judges" / "llm" / "judgements.jsonl"
    with Journal(path) as journal:
        journal.append([rating("llm", "m", 0, 3).record(), rating("llm", "m", 1, None).record(), judgement.record()])
    with pytest.raises(UserError, match=words) as caught:
        read_judgements(tmp_path)
    assert f"{path}:3: " in str(caught.value)
