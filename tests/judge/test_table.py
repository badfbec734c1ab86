"""A summary's tables for people."""

from leap.judge.judgements import (
    FINAL,
    REFERENCE_JUDGE,
)
from leap.judge.summary import summarise
from leap.judge.table import summary_table
from tests.judge.synthetic import MODELS, outputs_of, pair, rating, ratings


def test_the_table_has_a_part_a_judge_and_marks_what_is_missing():
    judged = [*ratings(models=MODELS[:2]), *(rating("llm", "checkpoint-1000", s, None) for s in range(10))]
    judged += [one for sample in range(10) for one in pair("checkpoint-200", sample, "model", "model")]
    judged += ratings(REFERENCE_JUDGE, seed=1)
    table = summary_table(summarise(outputs_of(), judged))
    assert [line for line in table.splitlines() if line.startswith("#")] == [
        "### llm (a language model)",
        "### reference (actions against the reference plan)",
        "### Agreement in the final score",
    ]
    (row,) = [line for line in table.split("### reference")[0].splitlines() if line.startswith("| checkpoint-1000")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["checkpoint-1000", *["n/a"] * 6, "0", "10", "n/a", "0", "0", "0", "0", "0"]
    assert "100 % [69, 100]" in table
    assert "- control:empty: at the bottom, final score 1.00 [1.00, 2.23]" in table


def test_the_table_of_pairs_alone_has_no_empty_columns():
    judged = [one for sample in range(10) for one in pair("checkpoint-200", sample, "model", "model")]
    head = summary_table(summarise(outputs_of(), judged)).splitlines()[2]
    assert FINAL not in head
    assert "win rate" in head
