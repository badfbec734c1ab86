"""Which validation rows are answered."""

from leap.rows.records import read_rows
from leap.training.validation import sample_to_answer, scores_of


def test_the_same_rows_are_answered_by_every_run_and_no_more_than_there_are(demo):
    rows = read_rows(demo / "data" / "val.jsonl")
    sample = sample_to_answer(rows, 5)
    assert sample == sample_to_answer(rows, 5)
    assert len({row.where for row in sample}) == 5
    assert len(sample_to_answer(rows, 1000)) == len(rows)


def test_scores_that_no_row_has_are_left_out():
    scores = scores_of([("1) Go.", "1) Go.")])
    assert scores["plan_step_f1"] == 1
    assert "plan_order_agreement" not in scores, "one step has no order"
    assert not any(name.startswith("grounded") for name in scores)
