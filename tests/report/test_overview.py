"""The overview: a missing dimension is no zero, and differences are over what both answered."""

from __future__ import annotations

from leap.files import write_json
from leap.plans.scoring import METRICS
from leap.report.overview import overview_of, rows_by_dimension
from leap.vlabench.folder import SCORE_FILES
from tests.report.conftest import MODELS


def test_a_missing_dimension_is_no_zero(evaluated):
    scores = overview_of(evaluated.results, ["constant"], {}, {})["models"][0]["scores"]["grounded"]
    assert "Complex" not in scores["dimensions"]
    assert scores["complete"] is False


def test_the_difference_from_the_base_is_over_the_examples_both_answered(evaluated):
    differences = overview_of(evaluated.results, MODELS, {}, {})["differences"]
    assert list(differences) == MODELS  # each may be the base, the usual one first
    first = differences["baseline"][0]
    assert (first["scorer"], first["metric"]) == ("grounded", "total_score")
    base, trained, constant = first["models"]
    assert base is None
    assert trained["examples"] == 14 * 2  # the machine failed on one of three examples a task
    assert trained["macro"][0] > trained["macro"][1] > 0
    assert (constant["macro"], "Complex" in constant["dimensions"]) == (None, False)
    assert overview_of(evaluated.results, ["constant"], {}, {})["differences"] == {}


def test_a_mean_without_an_interval_has_none_in_the_page(tmp_path):
    for scorer, names in METRICS.items():
        scores = {task: {"0": dict.fromkeys(names, 50.0)} for task in ("a", "b")}
        write_json(tmp_path / "Spatial" / "m" / SCORE_FILES[scorer], scores)
    (model,) = overview_of(tmp_path, ["m"], {}, {})["models"]
    assert model["scores"]["grounded"]["dimensions"]["Spatial"]["total_score"] == [50.0, None, None]


def test_settings_that_differ_by_dimension_are_told_apart():
    rows = rows_by_dimension({"M&T": {"a": {"b": 1}, "c": []}, "Spatial": {"a": {"b": 2}, "c": [], "d": None}})
    assert rows == [
        ("a.b", None, {"M&T": "1", "Spatial": "2"}),
        ("c", "[]", None),
        ("d", None, {"M&T": "not given", "Spatial": "null"}),
    ]
