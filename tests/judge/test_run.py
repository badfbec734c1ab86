"""Which judgements a review takes, and what comes of them."""

import json

import pytest

from leap.judge.judgements import CONTROLS, SCALES
from leap.judge.options import JudgeOptions
from leap.judge.run import assignments_of
from tests.judge.judging import ask, judge_of, rows_of
from tests.judge.review import MODELS, write_review


@pytest.fixture
def path(tmp_path):
    return write_review(tmp_path, rows=3, pictures=2)


@pytest.fixture
def rows(tmp_path):
    return rows_of(write_review(tmp_path, rows=2, models=MODELS[:3]))


def test_the_order_of_requests_tells_nothing_and_follows_from_the_seed(path):
    first = [a.model for a in assignments_of(rows_of(path), MODELS, JudgeOptions(seed=1))]
    assert first == [a.model for a in assignments_of(rows_of(path), MODELS, JudgeOptions(seed=1))]
    assert first != [a.model for a in assignments_of(rows_of(path), MODELS, JudgeOptions(seed=2))]
    assert len(set(first[: len(MODELS) + len(CONTROLS)])) > 3  # not model by model


def test_a_model_that_failed_is_never_judged(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["model"] == "checkpoint-100" and line["sample"] == 1:
            line |= {"text": None, "failure": {"kind": "machine", "reason": "out of memory"}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assignments = assignments_of(rows_of(path), MODELS, JudgeOptions(protocol=["rubric", "pairwise"]))
    judged = {(assignment.model, assignment.sample) for assignment in assignments}
    assert ("checkpoint-100", 1) not in judged
    assert ("checkpoint-100", 0) in judged


def test_an_empty_answer_is_a_plan_and_is_judged(path):
    assert ("silent", 0) in {
        (assignment.model, assignment.sample) for assignment in assignments_of(rows_of(path), MODELS, JudgeOptions())
    }


def test_every_plan_and_control_is_judged_as_often_as_wanted(server, rows, tmp_path):
    assignments = assignments_of(rows, MODELS[:3], JudgeOptions(repeats=3))
    said = ask(judge_of(server, tmp_path / "j"), assignments)
    assert len(said) == 2 * (3 * 3 + len(CONTROLS))
    assert all(each.failure is None and set(each.scores) == set(SCALES) for each in said)
    best = {each.model: each.final_score for each in said if each.sample == 0}
    assert best["checkpoint-100"] > best["baseline"]
    assert {best[control] for control in CONTROLS} == {1}


def test_a_pair_is_judged_in_both_orders_and_the_verdict_names_the_side(server, rows, tmp_path):
    assignments = assignments_of(rows, MODELS[:3], JudgeOptions(protocol=["pairwise"]))
    said = ask(judge_of(server, tmp_path / "j"), assignments)
    assert len(said) == 2 * 2 * (2 + len(CONTROLS))
    verdicts = {(each.model, each.model_first): each.verdict for each in said if each.sample == 0}
    assert verdicts["checkpoint-100", True] == verdicts["checkpoint-100", False] == "model"
    assert verdicts["control:empty", True] == verdicts["control:empty", False] == "tie"  # the base is as bad


def test_the_same_plan_of_two_models_is_asked_and_paid_for_once(server, tmp_path):
    path = write_review(tmp_path, rows=1, models=("baseline", "twin"))  # both write the same
    assignments = assignments_of(rows_of(path), ("baseline", "twin"), JudgeOptions(repeats=2))
    said = ask(judge_of(server, tmp_path / "j"), assignments)
    # A single row has no other row.
    assert len(said) == 2 * 2 + 3
    assert len(server.requests) == 2 + 3
    assert len({each.request for each in said if each.model in ("baseline", "twin")}) == 2
