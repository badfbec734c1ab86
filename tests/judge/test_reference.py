"""The reference judge over plans of known worth: right ones in other words, wrong ones by a rule each."""

import random

import pytest
from scipy.stats import spearmanr

from leap.judge.controls import FIXED_PLANS
from leap.judge.judgements import INSTRUCTIONS_CONTROL, SCALES
from leap.judge.reference import scores_of
from tests.judge.wrong_plans import CASES, WRONG, edit_distance, edited, written

REFERENCE = "1) Pick up the red cup. 2) Place the cup on the tray. 3) Close the drawer."


def scores(plan, reference=REFERENCE):
    return list(scores_of(plan, reference).values())


def final(plan, reference=REFERENCE):
    return sum(scores(plan, reference)) / len(SCALES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reference[0].encode("unicode_escape").decode()[:24])
def test_nearly_the_same_words_are_above_4_and_honest_other_words_above_3(case):
    reference = written(case.reference)
    assert final(reference, reference) == 5
    assert final(written(case.near), reference) > 4
    assert final(written(case.other), reference) > 3


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_plan_is_below_the_middle_whatever_words_it_shares(kind):
    for case in CASES:
        for seed in range(8):
            steps = WRONG[kind](case, random.Random(seed))
            assert final(written(steps), written(case.reference)) < 2.5, steps


@pytest.mark.parametrize(("chinese", "seed"), [(False, 0), (False, 1), (True, 0), (True, 1)])
def test_the_final_score_falls_with_the_edit_distance_of_the_steps(chinese, seed):
    rng = random.Random(seed)
    distances, finals = [], []
    for case in (case for case in CASES if case.is_chinese == chinese):
        for edits in range(7):
            for _ in range(4 if not chinese else 16):
                steps = edited(case, edits, rng)
                distances.append(edit_distance(steps, case.reference))
                finals.append(final(written(steps), written(case.reference)))
    assert spearmanr(distances, finals).statistic <= -0.8


def test_the_reference_itself_is_perfect_however_it_is_written():
    assert scores(REFERENCE) == [5, 5, 5, 5]
    assert scores("- Pick up the red cup\n- Place the cup on the tray\n- Close the drawer") == [5, 5, 5, 5]


def test_a_plan_without_steps_is_at_the_bottom_of_every_scale():
    assert scores("") == scores(" \n ") == scores("1) ...") == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "reference",
    [
        REFERENCE,
        "Walk to the shelf, take the bottle with your left arm, hold it above the cup, tilt it until half of the water "
        "is poured, then set the bottle back and close the lid.",
        # Made of the control's own common words.
        "1) Pick up this plate from the rack, rinse it, scrub all the steps of its rim on every side, dry it beside "
        "the sink, and give it back to the one before the next plate is found and checked with the right arm and "
        "placed on the perfect spot of the table.",
    ],
)
def test_a_text_that_is_no_plan_is_at_the_bottom_however_long(reference):
    for plan in (*FIXED_PLANS.values(), "word " * 32):
        assert scores(plan, reference) == [1, 1, 1, 1]
    near = reference.replace("Walk to the shelf", "Go to the shelf").replace("Pick up this plate", "Take the plate")
    assert final(near, reference) > 4


def test_a_good_plan_is_above_a_fair_one_and_that_above_a_poor_one():
    fair, poor = "1) Pick up the cup. 2) Put it on the tray.", "1) Close the drawer. 2) Close the drawer. 3) Wave."
    finals = [final(plan) for plan in (REFERENCE, fair, poor, FIXED_PLANS[INSTRUCTIONS_CONTROL])]
    assert finals == sorted(finals, reverse=True)
    assert len(set(finals)) == len(finals)


def test_a_missing_step_costs_completeness_and_no_hallucination():
    # Two of three actions: recall 2/3; nothing is made up; 2 of 3 in order; recall 2/3 times 2 of 3 steps.
    found = scores("1) Pick up the red cup. 2) Close the drawer.")
    assert found == pytest.approx([1 + 4 * 2 / 3, 1 + 4 * 2 / 3, 5, 1 + 4 * (2 / 3) * (2 / 3)])


def test_superfluous_steps_cost_least_in_completeness():
    # Three actions of five are right; the mean number is four. Nothing repeats.
    found = scores(REFERENCE + " 4) Fly away. 5) Sing songs.")
    assert found == pytest.approx([1 + 4 * 3 / 4, 1 + 4 * 3 / 5, 1 + 4 * (3 / 5) ** 2, 1 + 4 * (3 / 5) * (3 / 5)])


def test_repetitions_count_beyond_those_of_the_reference():
    # As above, and two of five steps repeat.
    found = scores(REFERENCE + " 4) Close the drawer. 5) Close the drawer.")
    assert found[2] == pytest.approx(1 + 4 * (3 / 5) ** 2 * (3 / 5))
    twice = "1) Fold the sleeve. 2) Turn it. 3) Fold the sleeve."
    assert scores(twice, twice)[2] == 5


def test_an_order_that_cannot_be_counts_for_less_than_another_possible_one():
    impossible = scores("1) Place the cup on the tray. 2) Pick up the red cup. 3) Close the drawer.")
    right = 1 * (1 + 2 / 3) / 2  # only the drawer's step counts
    assert impossible == pytest.approx([1 + 4 * right / 3, 1, 1 + 4 * (right / 3) ** 2, 1 + 4 * (right / 3) ** 2])
    possible = scores("1) Close the drawer. 2) Pick up the red cup. 3) Place the cup on the tray.")
    right = 3 * (1 + 2 / 3) / 2  # two of three matches are in one run
    assert possible == pytest.approx(
        [1 + 4 * right / 3, 1 + 4 * 2 / 3, 1 + 4 * (right / 3) ** 2, 1 + 4 * (right / 3) ** 2]
    )


def test_one_matched_action_has_no_order_unless_it_is_the_whole_reference():
    assert scores("1) Close the drawer.")[1] == 1
    assert scores("1) Close the drawer.", "1) Close the drawer.")[1] == 5
    assert scores("1) Fly away.", "1) Close the drawer.")[1] == 1


def test_a_plan_in_one_step_has_the_actions_and_not_the_granularity():
    found = scores("1) Pick up the red cup, place the cup on the tray and close the drawer.")
    assert found == pytest.approx([5, 5, 5, 1 + 4 / 3])


def test_every_score_lies_on_the_scale():
    for plan in (REFERENCE * 3, "x " * 5000, "1) a " * 500, "\ud83d", "1) " + "word " * 300, "1) the", "to", "not"):
        assert all(1 <= score <= 5 for score in scores(plan))
        assert not plan.startswith("1)") or scores(plan, plan) == [5, 5, 5, 5]


def test_a_reference_without_a_step_cannot_be_compared_with():
    with pytest.raises(ValueError, match="no step"):
        scores_of("1) Go.", "  ")
