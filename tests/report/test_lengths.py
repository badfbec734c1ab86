"""Scores by length of the ground truth: whose they are, and how sure."""

import pytest

from leap.report.lengths import scores_by_length


def scores(*totals: float) -> dict:
    return {("task", n): {"total_score": total, "plan_success": 0.0} for n, total in enumerate(totals)}


def test_each_dimension_and_all_of_them_have_means_with_intervals_by_length():
    found = scores_by_length({"Spatial": {2: scores(10, 20), 5: scores(90)}, "Complex": {2: scores(60)}}, {})
    assert {scope: list(by_length) for scope, by_length in found.items()} == {
        "": ["2", "5"],
        "Spatial": ["2", "5"],
        "Complex": ["2"],
    }
    assert found[""]["2"]["examples"] == 3
    mean, low, high = found["Spatial"]["2"]["total_score"]
    assert 0 <= low < mean == 15 < high < 60
    assert found[""]["2"]["total_score"][0] == pytest.approx(30)
    assert found["Complex"]["2"]["total_score"] == [60, None, None]  # one example says nothing of others


def test_examples_that_share_a_scene_count_as_one():
    by_length = {"Spatial": {2: scores(*[10, 10, 90, 90] * 5)}}
    in_pairs = {("task", n): {"scene": str(n // 2)} for n in range(20)}
    mean, low, high = scores_by_length(by_length, {"Spatial": in_pairs})["Spatial"]["2"]["total_score"]
    mean_alone, low_alone, high_alone = scores_by_length(by_length, {})["Spatial"]["2"]["total_score"]
    assert mean == mean_alone
    assert low < low_alone < high_alone < high
