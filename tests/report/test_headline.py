"""The headline: the best model that looks, beside the base and itself without pictures."""

from __future__ import annotations

import shutil

import pytest

from leap.files import read_json, write_json
from leap.report.headline import headline_of
from leap.vlabench.tables import overalls_of
from tests.report.conftest import MODELS, Evaluated, baseline, right, with_other_ids, write_model


def headline_over(results, models):
    return headline_of(results, overalls_of(results, models))


def test_the_best_model_is_named_with_its_interval_beside_the_base(evaluated):
    headline = headline_over(evaluated.results, MODELS)
    assert headline["sentence"].startswith("checkpoint-200 reaches ")
    assert " of 100, baseline " in headline["sentence"]
    assert headline["sentence"].endswith("Whether it looks is not measured: run it with --blank-images.")
    assert headline["models"] == ["checkpoint-200", "baseline"]
    titles = [number["title"] for number in headline["numbers"]]
    assert titles == ["total score, grounded", "total score, official", "plan success", "over baseline"]
    for number in headline["numbers"]:
        mean, low, high = number["value"]
        assert low <= mean <= high


@pytest.mark.parametrize(
    ("with_pictures", "without", "verdict"),
    [
        (right, baseline, "it looks."),
        (right, right, "whether it looks is not clear."),
        (with_other_ids, right, "it does better without them."),
    ],
)
def test_a_model_looks_if_it_is_better_with_pictures_than_without(tmp_path, evaluated, with_pictures, without, verdict):
    place = Evaluated(evaluated.benchmark, tmp_path)
    write_model(place, "checkpoint-1", with_pictures)
    write_model(place, "checkpoint-1_blank", without)
    headline = headline_over(tmp_path, ["checkpoint-1", "checkpoint-1_blank"])
    assert headline["sentence"].endswith(verdict)
    assert headline["models"] == ["checkpoint-1", "checkpoint-1_blank"]


def test_a_run_that_hacked_its_reward_is_called_so_first(tmp_path, evaluated):
    place = Evaluated(evaluated.benchmark, tmp_path / "results")
    write_model(place, "checkpoint-1", right)
    run = tmp_path / "run"
    for path in (tmp_path / "results").glob("*/checkpoint-1/summary.json"):
        summary = read_json(path)
        summary["provenance"]["checkpoint"] = str(run / "checkpoint-1")
        write_json(path, summary)
    assert headline_over(place.results, ["checkpoint-1"])["sentence"].startswith("checkpoint-1 reaches")
    write_json(run / "run.json", {"reward_hacking": "REWARD HACKING: the reward rose"})
    sentence = headline_over(place.results, ["checkpoint-1"])["sentence"]
    assert sentence.startswith("checkpoint-1: REWARD HACKING: the reward rose. checkpoint-1 reaches")


def test_a_control_leads_only_where_nothing_else_is(evaluated):
    assert headline_over(evaluated.results, ["baseline", "constant"])["models"][0] == "baseline"
    alone = headline_over(evaluated.results, ["constant"])
    assert alone["models"] == ["constant"]
    assert "Over 5 of 6 dimensions." in alone["sentence"]


def test_results_under_several_settings_have_no_headline(evaluated, tmp_path):
    for dimension in ("M&T", "Spatial"):
        shutil.copytree(evaluated.results / dimension / "constant", tmp_path / dimension / "constant")
    settings = tmp_path / "Spatial" / "constant" / "settings.json"
    settings.write_text(settings.read_text().replace("builtin", "official"))
    assert headline_over(tmp_path, ["constant"]) is None
    assert headline_over(tmp_path, []) is None
