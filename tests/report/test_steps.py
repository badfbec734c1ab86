"""Steps of a plan beside those of the ground truth."""

from __future__ import annotations

from leap.plans.diagnosis import diagnose
from leap.plans.reading import Step, fenced
from leap.report.steps import pairings


def test_steps_out_of_turn_are_marked_and_the_others_not():
    truth = [
        {"name": "pick", "params": {"target_entity_name": 1}},
        {"name": "pour", "params": {"target_container_name": 2}},
        {"name": "place", "params": {"target_container_name": 3}},
    ]
    true = [Step("pick", 1, None), Step("pour", None, 2), Step("place", None, 3)]
    plan = fenced([truth[2], truth[0], truth[1]])
    rows = pairings(true, diagnose(plan, truth, order_independent=False), order_independent=False)
    assert rows == [(0, 1, []), (1, 2, []), (2, 0, ["wrong_order"])]
