import pytest

from leap.judge.judgements import SCALES
from leap.judge.prompts import CONTROL_PLANS
from leap.judge.reference import reference_scores

REFERENCE = "1) Pick up the red cup. 2) Place the cup on the tray. 3) Close the drawer."


def scores(plan, reference=REFERENCE):
    return list(reference_scores(plan, reference).values())


def test_the_reference_itself_is_perfect_however_it_is_written():
    assert scores(REFERENCE) == [5, 5, 5, 5]
    assert scores("- Pick up the red cup\n- Place the cup on the tray\n- Close the drawer") == [5, 5, 5, 5]


def test_a_plan_without_steps_is_at_the_bottom_of_every_scale():
    assert scores("") == scores(" \n ") == [1, 1, 1, 1]


def test_the_controls_are_at_the_bottom():
    for plan in CONTROL_PLANS.values():
        assert sum(scores(plan)) / len(SCALES) < 1.5


def test_completeness_follows_the_recall_of_steps():
    # Two of three steps word for word: recall 2/3.
    assert scores("1) Pick up the red cup. 2) Close the drawer.")[0] == pytest.approx(1 + 4 * 2 / 3)


def test_sequence_follows_the_order_of_the_matched_steps():
    assert scores("1) Close the drawer. 2) Place the cup on the tray. 3) Pick up the red cup.")[1] == 1
    # One of three pairs is the wrong way round: tau 1/3, so that two thirds of the pairs agree.
    assert scores("1) Place the cup on the tray. 2) Pick up the red cup. 3) Close the drawer.")[1] == pytest.approx(
        1 + 4 * 2 / 3
    )


def test_one_matched_step_has_no_order_unless_it_is_the_whole_reference():
    assert scores("1) Close the drawer.")[1] == 1
    assert scores("1) Close the drawer.", "1) Close the drawer.")[1] == 5
    assert scores("1) Fly away.", "1) Close the drawer.")[1] == 1


def test_redundancy_counts_precision_and_repetitions_beyond_those_of_the_reference():
    # Three of five steps match, two repeat: precision 3/5, repetition 2/5.
    assert scores(REFERENCE + " 4) Close the drawer. 5) Close the drawer.")[2] == pytest.approx(1 + 4 * 0.6 * 0.6)
    twice = "1) Fold the sleeve. 2) Turn it. 3) Fold the sleeve."
    assert scores(twice, twice)[2] == 5


def test_granularity_compares_numbers_of_steps_and_their_lengths():
    # One step of three, five words beside 14 / 3 a step.
    assert scores("1) Pick up the red cup.")[3] == pytest.approx(1 + 4 * (1 / 3) * (14 / 3) / 5)


def test_every_score_lies_on_the_scale():
    for plan in (REFERENCE * 3, "x " * 5000, "1) a " * 500, "\ud83d", "1) " + "word " * 300):
        assert all(1 <= score <= 5 for score in scores(plan))


def test_a_reference_without_a_step_cannot_be_compared_with():
    with pytest.raises(ValueError, match="no step"):
        reference_scores("1) Go.", "  ")
