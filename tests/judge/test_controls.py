"""Plans that no model wrote."""

from leap.blind.outputs import Item
from leap.judge.controls import control_plans, on_wrong_objects
from leap.judge.judgements import CONTROLS, OTHER_ROW_CONTROL, WRONG_OBJECTS_CONTROL
from leap.judge.plan_text import steps_of_text
from leap.judge.reference import scores_of
from tests.judge.wrong_plans import CASES, written


def item(sample, reference, prompt="Plan."):
    return Item(sample, [], "", prompt, reference, None)


ITEMS = [item(sample, written(case.reference)) for sample, case in enumerate(CASES)]


def test_every_row_has_every_control_and_they_are_wrong_for_it():
    plans = control_plans(ITEMS)
    for row in ITEMS:
        assert tuple(plans[row.sample]) == CONTROLS
        assert plans[row.sample][OTHER_ROW_CONTROL] in {other.reference for other in ITEMS} - {row.reference}
        for plan in plans[row.sample].values():
            assert sum(scores_of(plan, row.reference).values()) / 4 < 1.5, plan


def test_wrong_objects_keep_the_actions_and_name_nothing_of_the_row():
    plan = on_wrong_objects(item(0, "1) Pick up the red cup. 2) Place it on the tray. 3) Wash the red cup.", "piano"))
    assert steps_of_text(plan) == [
        "Pick up the umbrella.", "Place the umbrella on the helmet.", "Wash the umbrella.",
    ]  # fmt: skip
    assert steps_of_text(on_wrong_objects(item(0, "1) pick 3\n2) place to 3"))) == ["Pick 100.", "Place to 100."]


def test_without_another_task_there_is_no_other_row():
    rows = [item(0, "1) Pick up the cup. 2) Wash it."), item(1, "1) Grab the cup. 2) Wash the cup.")]
    for plans in (control_plans(rows), control_plans(rows[:1])):
        assert OTHER_ROW_CONTROL not in plans[0]
        assert WRONG_OBJECTS_CONTROL in plans[0]


def test_a_reference_without_a_step_has_only_the_fixed_controls():
    assert tuple(control_plans([item(0, " "), *ITEMS[1:2]])[0]) == CONTROLS[:2]
