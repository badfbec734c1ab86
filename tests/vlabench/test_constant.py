from leap.planners import Query
from leap.plans.reading import read_official
from leap.vlabench.constant import ConstantPlanner, most_frequent_plan


def plan(*skills):
    return [{"name": name, "params": {key: value} if key else {}} for name, key, value in skills]


E, C = "target_entity_name", "target_container_name"
PUT = [plan(("pick", E, e), ("place", C, c)) for e, c in ((1, 4), (1, 5), (2, 5))]
PRESS = [plan(("press", E, 7))]


def test_the_plan_is_the_most_frequent_shape_with_the_most_frequent_ids():
    assert most_frequent_plan(PUT + PRESS) == plan(("pick", E, 1), ("place", C, 5))


def test_its_identity_is_that_of_the_plans_it_draws_on():
    assert ConstantPlanner([("put", PUT[0])]).identity() != ConstantPlanner([("put", PUT[1])]).identity()


def test_a_tasks_own_ground_truth_is_never_used():
    planner = ConstantPlanner([("put", p) for p in PUT] + [("press", p) for p in PRESS])
    [answered] = planner.answer([[Query("a", "put", []), Query("b", "press", [])]])
    plans = {query.key: read_official(answer.text) for query, answer in answered}
    assert plans == {"a": PRESS[0], "b": plan(("pick", E, 1), ("place", C, 5))}
