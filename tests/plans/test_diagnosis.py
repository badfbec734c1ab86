"""What the labels of an answer say, and that they agree with the grounded scorer on right and wrong plans."""

import random

import pytest

from leap.plans.diagnosis import ERROR_LABELS, diagnose, skill_confusion, skill_pairs
from leap.plans.reading import FormatError, fenced
from leap.plans.scoring import score_grounded, steps_of


def pick(entity):
    return {"name": "pick", "params": {"target_entity_name": entity}}


def place(container):
    return {"name": "place", "params": {"target_container_name": container}}


def lift():
    return {"name": "lift", "params": {}}


TRUTH = [pick(3), place(5)]
LONG = [pick(1), place(9), pick(2), place(8), pick(3), lift()]


def labels(plan, truth=TRUTH, order_independent=False):
    return diagnose(fenced(plan), truth, order_independent=order_independent).labels


def pairs(plan, truth, order_independent=False):
    return diagnose(fenced(plan), truth, order_independent=order_independent).pairs


def test_a_right_plan_has_no_label():
    found = diagnose(f"First I look. {fenced(TRUTH)}", TRUTH, order_independent=False)
    assert (found.labels, found.pairs, found.correct) == ((), ((0, 0), (1, 1)), True)
    assert found.steps == tuple(steps_of(TRUTH))


def test_a_text_without_a_plan_is_unparsable_and_nothing_else():
    found = diagnose("I cannot see it.", TRUTH, order_independent=False)
    assert (found.labels, found.steps, found.pairs) == (("unparsable",), (), ((0, None), (1, None)))
    assert not found.correct


def test_ids_as_strings_are_noted_on_a_plan_that_is_right_but_for_them():
    found = diagnose(fenced([pick("3"), place(" 5 ")]), TRUTH, order_independent=False)
    assert found.labels == ("ids_as_strings",)
    assert found.correct
    assert labels([pick("3"), place(4)]) == ("ids_as_strings", "wrong_container")


def test_the_name_of_an_object_is_a_wrong_entity_not_an_id_as_string():
    assert labels([pick("apple"), place(5)]) == ("wrong_entity",)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ([pick(3), lift()], {"wrong_skill"}),
        ([pick(4), place(5)], {"wrong_entity"}),
        ([pick(3), place(4)], {"wrong_container"}),
        ([pick(4), place(4)], {"wrong_entity", "wrong_container"}),
        ([pick(3), place(None)], {"wrong_container"}),
        ([{"name": "pick", "params": {"target_entity_name": 3, "target_container_name": 5}}], None),
        ([place(5), pick(3)], {"wrong_order"}),
        ([pick(3)], {"missing_step"}),
        ([place(5)], {"missing_step"}),
        ([pick(3), place(5), lift()], {"extra_step"}),
        ([pick(3), pick(3), place(5)], {"extra_step"}),
        ([{"name": "grasp", "params": {"target_entity_name": 3}}, place(5)], {"wrong_skill"}),
    ],
)
def test_each_error_has_its_label(plan, expected):
    assert set(labels(plan)) == (expected or {"wrong_container", "missing_step"})


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (LONG[2:4] + LONG[:2] + LONG[4:], {"wrong_order"}),
        (LONG[2:] + LONG[:2], {"wrong_order"}),
        ([LONG[2], LONG[1], LONG[0], *LONG[3:]], {"wrong_order"}),
        (LONG[2:4] + LONG[:2], {"wrong_order", "missing_step"}),
        ([*LONG[2:4], pick(7), *LONG[1:2], *LONG[4:]], {"wrong_order", "wrong_entity"}),
        ([*LONG[4:], *LONG[:2], pick(2), place(7)], {"wrong_order", "wrong_container"}),
        ([*LONG[:2], *LONG[4:]], {"missing_step"}),
        ([*LONG[:2], *LONG[:2], *LONG[2:]], {"extra_step"}),
    ],
)
def test_a_step_out_of_turn_is_wrong_order_not_missing_and_extra(plan, expected):
    assert set(labels(plan, LONG)) == expected


def test_pairs_name_counterparts_in_reading_order():
    assert pairs([pick(4), lift(), place(5)], TRUTH) == ((0, 0), (None, 1), (1, 2))
    assert pairs([lift(), pick(3)], TRUTH) == ((None, 0), (0, 1), (1, None))
    assert pairs([place(5), pick(3)], TRUTH) == ((0, 1), (1, 0))
    assert pairs([pick(2), place(8), pick(1), place(7)], LONG[:4]) == ((0, 2), (1, 3), (2, 0), (3, 1))


TWO = [pick(1), place(9), pick(2), place(8)]


def test_whole_subtasks_may_come_in_any_order_where_the_task_allows_it():
    swapped = TWO[2:] + TWO[:2]
    assert labels(swapped, TWO) == ("wrong_order",)
    assert labels(swapped, TWO, order_independent=True) == ()
    assert pairs(swapped, TWO, order_independent=True) == ((0, 2), (1, 3), (2, 0), (3, 1))
    assert labels([pick(2), place(8), pick(1), place(7)], TWO, order_independent=True) == ("wrong_container",)
    assert labels([pick(2), place(8), pick(1), lift()], TWO, order_independent=True) == ("wrong_skill",)
    assert labels([pick(2), place(8)], TWO, order_independent=True) == ("missing_step",)
    assert labels([*swapped, pick(3), place(8)], TWO, order_independent=True) == ("extra_step",)


def test_a_subtask_taken_apart_is_wrong_order_even_there():
    assert labels([pick(2), pick(1), place(9), place(8)], TWO, order_independent=True) == ("wrong_order",)
    assert labels([place(9), pick(1), pick(2), place(8)], TWO, order_independent=True) == ("wrong_order",)
    assert labels([pick(1), pick(2), place(9), place(8)], TWO, order_independent=True) == ("wrong_order",)


def test_a_step_between_those_of_a_subtask_is_wrong_order_even_there():
    truth = [{"name": "lift", "params": {}}, pick(1), place(9), pick(2), place(8)]
    answer = [pick(1), {"name": "lift", "params": {}}, place(9), pick(2), place(8)]
    assert labels(answer, truth, order_independent=True) == ("wrong_order",)


def test_exchanged_targets_are_wrong_targets_where_there_is_no_order():
    assert labels([pick(1), place(8), pick(2), place(9)], TWO, order_independent=True) == ("wrong_container",)


def random_plan(rng, most=7):
    names = ("pick", "place", "press", "pour", "lift", "grasp")
    steps = []
    for _ in range(rng.randint(1, most)):
        params = {}
        if rng.random() < 0.6:
            params["target_entity_name"] = rng.choice((1, 2, "1", 2.0, "cup"))
        if rng.random() < 0.4:
            params["target_container_name"] = rng.choice((1, 2, " 2 "))
        steps.append({"name": rng.choice(names), "params": params})
    return steps


def variant(rng, plan):
    """The plan with some steps moved, lost, doubled or changed; sometimes as it is."""
    plan = list(plan)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        i, j = rng.randrange(len(plan)), rng.randrange(len(plan))
        change = rng.randrange(5)
        if change == 0:
            plan[i], plan[j] = plan[j], plan[i]
        elif change == 1:
            plan.insert(j, plan.pop(i))
        elif change == 2:
            plan.insert(j, plan[i])
        elif change == 3 and len(plan) > 1:
            plan.pop(i)
        else:
            plan[i] = random_plan(rng, 1)[0]
    return plan


@pytest.mark.parametrize("order_independent", [False, True])
def test_a_plan_is_right_for_the_scorer_exactly_if_it_has_no_label_but_ids_as_strings(order_independent):
    rng = random.Random(order_independent)
    successes = 0
    for _ in range(4000):
        truth = random_plan(rng)
        if not any(step["name"] != "grasp" for step in truth):
            continue
        plan = random_plan(rng) if rng.random() < 0.2 else variant(rng, truth)
        if order_independent and rng.random() < 0.5:  # sub-tasks in another order
            cut = rng.randrange(len(plan))
            plan = plan[cut:] + plan[:cut]
        text = fenced(plan)
        found = diagnose(text, truth, order_independent=order_independent)
        success = score_grounded(text, truth, order_independent=order_independent).scores["plan_success"] == 100
        successes += success
        assert found.correct == success, (truth, plan, found.labels)
        assert set(found.labels) <= set(ERROR_LABELS)
        assert sorted(i for i, _ in found.pairs if i is not None) == list(range(len(truth)))
        assert sorted(j for _, j in found.pairs if j is not None) == list(range(len(found.steps)))
        if sorted(map(str, steps_of(truth))) == sorted(map(str, found.steps)) and not order_independent:
            assert set(found.labels) <= {"wrong_order", "ids_as_strings"}
    assert 500 < successes < 3500


@pytest.mark.parametrize("order_independent", [False, True])
@pytest.mark.parametrize("step", [pick(3), lift(), {"name": "x", "params": {}}], ids=["pick", "lift", "unknown"])
def test_a_plan_of_thousands_of_steps_is_diagnosed_too(step, order_independent):
    plan = [*LONG, *[{**step, "params": {}}] * 5000]
    found = diagnose(
        "[" + ",".join(f'{{"name":"{item["name"]}"}}' for item in plan) + "]", LONG, order_independent=order_independent
    )
    assert len(found.steps) == len(plan)
    assert "extra_step" in found.labels
    assert len(found.pairs) >= len(plan)


def test_a_right_plan_longer_than_what_is_aligned_is_right():
    long = [pick(i) for i in range(1000)]
    assert labels(long, long) == ()
    assert labels([*long[:500], pick(-1), *long[501:]], long) == ("wrong_entity",)


def test_bad_ground_truth_is_an_error_not_a_label():
    with pytest.raises(FormatError):
        diagnose(fenced(TRUTH), [{"name": "pick", "params": 3}], order_independent=False)


def test_confusion_counts_what_stands_in_the_place_of_each_skill():
    pairs = [
        pair
        for text in (
            fenced(TRUTH),
            fenced([pick(3), lift()]),
            fenced([pick(3)]),
            fenced([{"name": "grasp", "params": {"target_entity_name": 3}}, place(5)]),
            "no plan",
        )
        for pair in skill_pairs(steps_of(TRUTH), diagnose(text, TRUTH, order_independent=False))
    ]
    assert skill_confusion(pairs) == {
        "pick": {"pick": 3, "other": 1},
        "place": {"place": 2, "lift": 1, "missing": 1},
    }
