from leap.planners import Query
from leap.plans.reading import read_official
from leap.plans.scoring import score_grounded, score_official
from leap.vlabench.everything import EverythingPlanner, plan_of_everything

PLANS = [
    [
        {"name": "pick", "params": {"target_entity_name": entity}},
        {"name": "place", "params": {"target_container_name": container}},
    ]
    for entity, container in ((1, 11), (2, 12), (3, 11))
]
PLANS.append([{"name": "pick", "params": {"target_entity_name": 2}}, {"name": "lift", "params": {}}])


def test_every_skill_is_named_with_every_id():
    plan = plan_of_everything(PLANS)
    assert len(plan) == 3 * 5
    for id in (1, 2, 3, 11, 12):
        assert {"name": "pick", "params": {"target_entity_name": id}} in plan
        assert {"name": "place", "params": {"target_container_name": id}} in plan
    assert {"name": "lift", "params": {}} in plan


def test_its_answer_takes_all_that_recall_can_give_and_next_to_nothing_of_f1():
    planner = EverythingPlanner(PLANS)
    [[(query, answer)]] = planner.answer([[Query("a", "put", [])]])
    assert (query.key, read_official(answer.text)) == ("a", plan_of_everything(PLANS))
    for truth in PLANS:
        official = score_official(answer.text, truth, order_independent=False).scores
        grounded = score_grounded(answer.text, truth, order_independent=False).scores
        assert official["total_score"] == 80
        assert grounded["total_score"] < 30  # of 15 steps; the benchmark has more ids
        assert grounded["plan_success"] == 0


def test_its_identity_is_that_of_the_plan():
    assert EverythingPlanner(PLANS).identity() == EverythingPlanner(PLANS).identity()
    assert EverythingPlanner(PLANS).identity() != EverythingPlanner(PLANS[:1]).identity()
