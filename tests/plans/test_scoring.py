"""Official scores against numbers of VLABench's own code, and what grounded scores mean."""

import json
import os
from pathlib import Path

import pytest

from leap.files import read_jsonl
from leap.plans.reading import SKILLS, TARGETS, FormatError, fenced
from leap.plans.scoring import GROUNDED_METRICS, OFFICIAL_METRICS, score_grounded, score_official

SAMPLE = Path(__file__).parent / "official_scores.jsonl"
# All 1,500 vectors, where the folder beside the checkout has them.
ALL = Path(os.environ.get("LEAP_SCORE_VECTORS", SAMPLE.parents[3] / "shared" / "vlabench" / "score_vectors.jsonl"))


def pick(entity):
    return {"name": "pick", "params": {"target_entity_name": entity}}


def place(container):
    return {"name": "place", "params": {"target_container_name": container}}


TRUTH = [pick(3), place(5)]


def assert_official(vector):
    score = score_official(vector["text"], vector["gt"], order_independent=vector["dependency"] == "Seq-independent")
    assert score.status == vector["status"], vector["id"]
    assert score.scores == vector["scores"], vector["id"]  # to the last bit


@pytest.mark.parametrize("vector", read_jsonl(SAMPLE), ids=lambda vector: str(vector["id"]))
def test_official_scores_equal_those_of_the_official_code(vector):
    assert_official(vector)


@pytest.mark.skipif(not ALL.is_file(), reason=f"the full set of official scores is not at {ALL}")
def test_official_scores_equal_those_of_the_official_code_on_all_vectors():
    vectors = read_jsonl(ALL)
    assert len(vectors) == 1500
    for vector in vectors:
        assert_official(vector)


def official(plan, truth=TRUTH, order_independent=False):
    return score_official(fenced(plan), truth, order_independent=order_independent)


def test_the_official_total_tops_out_at_80():
    assert list(official(TRUTH).scores.values()) == [100, 100, 100, 100, 80]


def test_officially_a_string_id_never_matches_and_true_matches_1():
    assert official([pick("3"), place("5")]).scores["entity_match_score"] == 0
    assert official([pick(True), place(5.0)], [pick(1), place(5)]).scores["exact_match_score"] == 100


def test_officially_extra_items_cost_nothing_in_recall():
    assert official([*TRUTH, pick(1), place(2)]).scores["skill_with_entity_match_score"] == 100


@pytest.mark.parametrize(
    "plan",
    [[{"name": "pick"}], ["pick"], [pick([3])], [{"params": {}}], {"name": "pick"}, 7, None],
)
def test_whatever_the_official_scorer_trips_over_is_a_score_error_with_zeros(plan):
    score = official(plan)
    assert score.status == "score_error"
    assert set(score.scores.values()) == {0}
    assert score.reason


def test_ground_truth_without_a_pattern_is_an_official_score_error():
    assert official(TRUTH, [pick(3)]).status == "score_error"


def test_order_counts_in_a_chain_and_not_in_a_star():
    truth = [pick(1), place(9), pick(2), place(9)]
    swapped = [pick(2), place(9), pick(1), place(9)]
    assert official(swapped, truth).scores["exact_match_score"] == 0
    assert official(swapped, truth, order_independent=True).scores["exact_match_score"] == 100


def test_a_chain_node_needs_its_predecessor_too():
    truth = [pick(1), place(9), pick(2), place(9)]
    assert official([pick(7), place(9), pick(2), place(9)], truth).scores["exact_match_score"] == 0
    assert official([pick(1), place(9), pick(7), place(9)], truth).scores["exact_match_score"] == 50


def grounded(text, truth=TRUTH, order_independent=False):
    return score_grounded(text, truth, order_independent=order_independent)


def test_grounded_reads_string_ids_and_reaches_100():
    assert set(grounded(fenced([pick("3"), place(" 5 ")])).scores.values()) == {100}


def test_grounded_keeps_the_official_names_and_adds_its_own():
    assert set(OFFICIAL_METRICS) < set(grounded("").scores) == set(GROUNDED_METRICS)


def test_listing_every_object_does_not_pay_in_precision_or_success():
    spam = grounded(fenced([pick(i) for i in range(1, 10)] + [place(i) for i in range(1, 10)])).scores
    assert spam["entity_match_score"] == pytest.approx(100 * 2 * 2 / (2 + 18))
    assert spam["precision"] == pytest.approx(100 * 2 / 18)
    assert spam["recall"] == 100
    assert spam["plan_success"] == 0
    assert spam["edit_similarity"] == pytest.approx(100 * 2 / 18)


def test_a_plan_that_names_everything_gets_next_to_nothing():
    everything = [
        {"name": skill, "params": {key: i}} for skill in SKILLS for key in TARGETS for i in range(1, 16)
    ]  # 270 steps
    assert official(everything).scores["total_score"] == 80
    assert grounded(fenced(everything)).scores["total_score"] < 3


def test_a_right_plan_written_twice_is_not_right():
    scores = grounded(fenced(TRUTH * 2)).scores
    assert [scores[name] for name in OFFICIAL_METRICS] == [pytest.approx(200 / 3)] * 5
    assert scores["plan_success"] == 0


def test_each_term_is_the_harmonic_mean_of_precision_and_recall():
    assert grounded(fenced([pick(3), place(6)])).scores["skill_with_entity_match_score"] == 50  # 1/2 and 1/2
    assert grounded(fenced([pick(3), place(6), place(7)])).scores["skill_with_entity_match_score"] == 40  # 1/3 and 1/2


def test_steps_that_fit_in_no_subtask_cost_precision_of_subtasks():
    with_a_lift = fenced([*TRUTH, {"name": "lift", "params": {}}])
    assert grounded(with_a_lift).scores["exact_match_score"] == pytest.approx(200 / 3)


def test_a_right_plan_without_targets_is_right():
    plan = [{"name": "lift", "params": {}}]
    assert grounded(fenced(plan), plan).scores["total_score"] == 100


def test_edit_similarity_sees_order_and_missing_steps():
    assert grounded(fenced([pick(3)])).scores["edit_similarity"] == 50
    assert grounded(fenced([place(5), pick(3)])).scores["edit_similarity"] == 0


def test_plan_success_allows_any_order_only_where_the_task_does():
    truth = [pick(1), place(9), pick(2), place(9)]
    swapped = fenced([pick(2), place(9), pick(1), place(9)])
    assert grounded(swapped, truth).scores["plan_success"] == 0
    assert grounded(swapped, truth, order_independent=True).scores["plan_success"] == 100
    mixed = fenced([pick(2), pick(1), place(9), place(9)])
    assert grounded(mixed, truth, order_independent=True).scores["plan_success"] == 0


def test_a_text_without_a_plan_is_a_format_error_with_zeros_and_a_reason():
    score = grounded("I cannot see the picture.")
    assert (score.status, set(score.scores.values()), score.reason) == ("format_error", {0}, "no list of skills")


def test_bad_ground_truth_is_never_scored_as_a_wrong_answer():
    with pytest.raises(FormatError):
        grounded(fenced(TRUTH), [{"name": "pick", "params": 3}])


@pytest.mark.parametrize("text", ["```json\n" + json.dumps([pick(3)] * 2000) + "\n```", "x" * 100_000, "[{" * 50_000])
def test_long_and_hostile_answers_are_scored_within_bounds(text):
    assert grounded(text).status in ("ok", "format_error")
    assert score_official(text, TRUTH, order_independent=False).status in ("ok", "format_error", "score_error")
