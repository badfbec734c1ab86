import pytest

from leap.judge.judgements import INSTRUCTIONS_CONTROL, SCALES
from leap.judge.prompts import CONTROL_PLANS
from leap.judge.reference import scores_of

REFERENCE = "1) Pick up the red cup. 2) Place the cup on the tray. 3) Close the drawer."


def scores(plan, reference=REFERENCE):
    return list(scores_of(plan, reference).values())


def test_the_reference_itself_is_perfect_however_it_is_written():
    assert scores(REFERENCE) == [5, 5, 5, 5]
    assert scores("- Pick up the red cup\n- Place the cup on the tray\n- Close the drawer") == [5, 5, 5, 5]


def test_a_plan_without_steps_is_at_the_bottom_of_every_scale():
    assert scores("") == scores(" \n ") == [1, 1, 1, 1]


def test_the_controls_are_at_the_bottom():
    for plan in CONTROL_PLANS.values():
        assert sum(scores(plan)) / len(SCALES) < 1.5


@pytest.mark.parametrize(
    "reference",
    [
        "Walk to the shelf, take the bottle with your left arm, hold it above the cup, tilt it until half of the water "
        "is poured, then set the bottle back and close the lid.",
        # Made of the control's own common words.
        "1) Pick up this plate from the rack, rinse it, scrub all the steps of its rim on every side, dry it beside "
        "the sink, and give it back to the one before the next plate is found and checked with the right arm and "
        "placed on the perfect spot of the table.",
    ],
)
def test_a_text_as_long_as_the_reference_that_matches_no_step_is_at_the_bottom(reference):
    for plan in (*CONTROL_PLANS.values(), "word " * 32):
        found = scores(plan, reference)
        assert sum(found) / len(SCALES) < 1.5
        assert found[1:] == [1, 1, 1]
    near = reference.replace("Walk to the shelf", "Go there").replace("Pick up this plate", "Take it")
    assert 4 < sum(scores(near, reference)) / len(SCALES) < 5


def test_a_good_plan_is_above_a_fair_one_and_that_above_a_poor_one():
    fair, poor = "1) Pick up the cup. 2) Put it on the tray.", "1) Close the drawer. 2) Close the drawer. 3) Wave."
    finals = [sum(scores(plan)) for plan in (REFERENCE, fair, poor, CONTROL_PLANS[INSTRUCTIONS_CONTROL])]
    assert finals == sorted(finals, reverse=True)
    assert len(set(finals)) == len(finals)


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
    # Three steps of three, of which one is in the reference; 11 / 3 words a step beside 14 / 3.
    assert scores("1) Pick up the red cup. 2) Fly away now. 3) Sing some songs.")[3] == pytest.approx(
        1 + 4 * (1 / 3) * (11 / 3) / (14 / 3)
    )


def test_a_step_that_is_only_remotely_in_the_reference_counts_as_made_up():
    # "cup" of four words each, articles aside: an overlap of 1/4, which is recall and no precision.
    found = scores("1) Fill the blue cup quickly.", "1) Wash the red cup twice.")
    assert found == [pytest.approx(1 + 4 / 4), 1, 1, 1]


def test_every_score_lies_on_the_scale():
    for plan in (REFERENCE * 3, "x " * 5000, "1) a " * 500, "\ud83d", "1) " + "word " * 300):
        assert all(1 <= score <= 5 for score in scores(plan))


def test_a_reference_without_a_step_cannot_be_compared_with():
    with pytest.raises(ValueError, match="no step"):
        scores_of("1) Go.", "  ")
