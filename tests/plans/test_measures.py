from leap.plans.measures import MEASURES
from leap.plans.metrics import score_answers
from leap.plans.scoring import METRICS

COUNTS = {"plan_rows", "plan_order_agreement_rows", "plan_steps", "plan_reference_steps", "grounded_rows", "other_rows"}


def test_every_score_of_the_benchmark_and_of_a_validation_has_its_words():
    skills = '[{"name": "pick", "params": {"target_entity_name": 3}}]'
    validation = score_answers([("1) Go.", "1) Go."), (skills, skills), ("a", "a")]).keys() - COUNTS
    benchmark = {f"{scorer}.{metric}" for scorer, metrics in METRICS.items() for metric in metrics}
    assert MEASURES.keys() == validation | benchmark | {"loss"}
    assert len({MEASURES[key].label for key in benchmark}) == len(benchmark)


def test_a_label_names_the_scorer_where_there_are_two_and_the_best_value():
    assert MEASURES["official.total_score"].label == "total score, official (of 80)"
    assert MEASURES["grounded.plan_success"].label == "plan success (of 100)"
    assert MEASURES["grounded_total"] is MEASURES["grounded.total_score"]
