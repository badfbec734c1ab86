"""A review's summary: synthetic judgements of known quality, and what must never become a number."""

import json
import random

import numpy as np
import pytest

from leap.blind.outputs import Output
from leap.judge.judgements import (
    CONTROLS,
    EMPTY_CONTROL,
    FINAL,
    INSTRUCTIONS_CONTROL,
    REFERENCE_JUDGE,
    SCALES,
)
from leap.judge.summary import summarise
from leap.judge.table import summary_table
from tests.judge.synthetic import MODELS, of_llm, outputs_of, pair, rating, ratings, width


def test_outputs_are_counted_by_what_became_of_them():
    outputs = [
        *outputs_of(["m"], 3, stop="end"),
        Output("m", 3, [], "/", "p", "r", "1) x", stop="length"),
        Output("m", 4, [], "/", "p", "r", None, failure={"kind": "machine", "reason": "no memory"}),
    ]
    found = summarise(outputs, [])
    assert found["outputs"] == {"m": {"answered": 4, "failed": 1, "cut_by_length": 1}}
    assert found["items"] == 5
    assert any("never judged: m 1" in words for words in found["words"])


def test_a_mean_is_that_of_items_whose_repeats_are_averaged_first():
    judged = [rating("llm", "baseline", 0, value, repeat) for repeat, value in enumerate([1, 1, 1, 5])]
    judged += [rating("llm", "baseline", 1, 4)]
    found = of_llm(judged)["models"]["baseline"]
    assert found["scores"][FINAL]["mean"] == 3  # (2 + 4) / 2
    assert (found["items"], found["judgements"], found["failed"]) == (2, 5, 0)


def test_each_scale_has_its_own_mean_and_the_final_score_is_theirs():
    scores = dict(zip(SCALES, (1, 2, 4, 5), strict=True))
    found = of_llm([rating("llm", "baseline", 0, scores)])["models"]["baseline"]["scores"]
    assert {name: of["mean"] for name, of in found.items()} == {FINAL: 3} | scores


def test_a_model_without_a_judgement_has_no_number_at_all():
    failed = [rating("llm", "checkpoint-1000", sample, None) for sample in range(10)]
    found = of_llm([*ratings(models=MODELS[:2]), *failed])["models"]["checkpoint-1000"]
    assert found == {"items": 0, "judgements": 0, "failed": 10, "scores": None, "over_base": None, "final_by_row": {}}


def test_the_difference_is_over_common_items_and_paired():
    judged = [rating("llm", "baseline", sample, 1 + sample % 4) for sample in range(8)]
    judged += [rating("llm", "checkpoint-200", sample, 2 + sample % 4 + 0.1 * (sample % 2)) for sample in range(6)]
    found = of_llm(judged)["models"]
    assert found["baseline"]["over_base"] is None
    over = found["checkpoint-200"]["over_base"]
    assert over["items"] == 6
    # Each item is about one point better: the wide spread between items does not matter.
    assert over[FINAL]["mean"] == pytest.approx(1.05)
    assert 1.8 * width(over[FINAL]) < width(found["checkpoint-200"]["scores"][FINAL])
    words = summarise(outputs_of(), judged)["words"]
    assert any(
        "do not cover the same items: checkpoint-200 6 and checkpoint-1000 0, others 8" in sentence
        for sentence in words
    )


def test_repeats_do_not_stand_in_for_items():
    few = of_llm(ratings(items=5, repeats=20), outputs_of(items=5))["models"]["baseline"]["scores"][FINAL]
    many = of_llm(ratings(items=100, repeats=1), outputs_of(items=100))["models"]["baseline"]["scores"][FINAL]
    assert width(few) > 2 * width(many)  # a hundred judgements each


def test_the_interval_of_the_difference_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(150):
        judged = []
        for sample in range(10):
            worth = rng.normal(3, 0.8)
            for model, effect in (("baseline", 0.0), ("checkpoint-200", 0.4)):
                # The reference judge gives fractions, so that nothing is cut off by rounding.
                plan = worth + effect + rng.normal(0, 0.3)
                judged += [rating("llm", model, sample, plan + rng.normal(0, 0.2), repeat) for repeat in range(3)]
        over = of_llm(judged)["models"]["checkpoint-200"]["over_base"][FINAL]
        covered += over["low"] <= 0.4 <= over["high"]
    assert covered >= 0.9 * 150


def test_the_order_of_lines_changes_nothing():
    outputs = outputs_of()
    judged = [*ratings(repeats=3), *ratings("other", seed=1), *ratings(REFERENCE_JUDGE, seed=2)]
    judged += [one for sample in range(10) for one in pair("checkpoint-200", sample, "model", "base")]
    first = json.dumps(summarise(outputs, judged))
    for seed in range(3):
        random.Random(seed).shuffle(judged)
        random.Random(seed).shuffle(outputs)
        assert json.dumps(summarise(outputs, judged)) == first


def test_a_summary_is_json_without_nan_or_infinity():
    for items in (1, 2, 10):
        judged = [*ratings(items=items), *ratings(REFERENCE_JUDGE, items=items, seed=3)]
        json.dumps(summarise(outputs_of(items=items), judged), allow_nan=False)


def test_plans_that_are_all_right_leave_room_for_one_that_was_not_seen():
    """Ten of ten is 69 to 100 % by Clopper and Pearson."""
    judged = [rating("llm", name, sample, 5) for name in MODELS for sample in range(10)]
    judged += [one for sample in range(10) for one in pair("checkpoint-200", sample, "model", "model")]
    judge = summarise(outputs_of(), judged)["judges"]["llm"]
    assert judge["models"]["checkpoint-200"]["scores"][FINAL] == pytest.approx(
        {"mean": 5, "low": 1 + 4 * 0.6915, "high": 5}, abs=1e-3
    )
    assert judge["pairwise"]["checkpoint-200"]["win_rate"] == pytest.approx(
        {"mean": 1, "low": 0.6915, "high": 1}, abs=1e-3
    )
    over = judge["models"]["checkpoint-200"]["over_base"][FINAL]
    assert over["low"] < -1 < over["mean"] == 0 < 1 < over["high"]


def test_a_single_item_says_nothing_about_the_others():
    judged = [rating("llm", "baseline", 0, 1), rating("llm", "checkpoint-200", 0, 5)]
    found = summarise(outputs_of(items=1), judged)
    assert found["judges"]["llm"]["models"]["checkpoint-200"]["over_base"][FINAL] == {"mean": 4, "low": -4, "high": 4}
    assert any("single item gives no interval" in words for words in found["words"])
    assert any("cannot be told from baseline" in words for words in found["words"])


def test_without_a_base_nothing_is_compared():
    models = ["checkpoint-200", "checkpoint-1000"]
    found = summarise(outputs_of(models), ratings(models=models))
    assert found["base"] is None
    assert all(of["over_base"] is None for of in found["judges"]["llm"]["models"].values())
    assert "the base is not among them" in found["words"][0]
    assert "over" not in summary_table(found).splitlines()[2]


@pytest.mark.parametrize(("control", "at_bottom"), [(1, True), (1.5, True), (2.25, True), (2.5, False), (4, False)])
def test_a_judge_that_rates_a_control_above_the_bottom_is_not_to_be_trusted(control, at_bottom):
    judged = [rating("llm", model, sample, 2.25 + i) for i, model in enumerate(MODELS) for sample in range(10)]
    judged += [rating("llm", EMPTY_CONTROL, sample, 1) for sample in range(10)]
    judged += [rating("llm", INSTRUCTIONS_CONTROL, sample, control) for sample in range(10)]
    found = summarise(outputs_of(), judged)
    controls = found["judges"]["llm"]["controls"]
    assert controls[EMPTY_CONTROL]["at_bottom"] is True
    assert controls[INSTRUCTIONS_CONTROL]["at_bottom"] is at_bottom
    assert controls[INSTRUCTIONS_CONTROL][FINAL]["mean"] == control
    warned = found["words"][0].startswith(
        "The judge llm is unfit, do not trust its numbers: it does not put control:instructions"
    )
    assert warned is not at_bottom
    assert not warned or f"{control:.2f}" in found["words"][0]


def test_a_control_may_be_as_bad_as_the_worst_model():
    judged = [rating("llm", model, sample, 2) for model in MODELS for sample in range(10)]
    judged += [rating("llm", name, sample, 2) for name in CONTROLS for sample in range(10)]
    assert all(of["at_bottom"] for of in of_llm(judged)["controls"].values())


def test_a_judge_who_gives_everything_the_same_good_score_is_not_to_be_trusted():
    judged = [rating("llm", name, sample, 5) for name in (*MODELS, *CONTROLS) for sample in range(10)]
    found = summarise(outputs_of(), judged)
    assert not any(of["at_bottom"] for of in found["judges"]["llm"]["controls"].values())
    assert all(words.startswith("The judge llm is unfit") for words in found["words"][: len(CONTROLS)])


def test_a_control_that_was_not_judged_is_neither_and_that_is_said():
    judged = [rating("llm", model, sample, 3) for model in MODELS for sample in range(10)]
    judged += [rating("llm", EMPTY_CONTROL, sample, 1) for sample in range(10)]
    judged += [rating("llm", INSTRUCTIONS_CONTROL, sample, None) for sample in range(10)]
    found = summarise(outputs_of(), judged)
    control = found["judges"]["llm"]["controls"][INSTRUCTIONS_CONTROL]
    assert (control["at_bottom"], control[FINAL], control["failed"]) == (None, None, 10)
    assert any("llm gave no judgement of control:instructions" in words for words in found["words"])


def test_a_control_that_wins_pairs_is_not_at_the_bottom():
    judged = [one for sample in range(20) for one in pair(EMPTY_CONTROL, sample, "base", "base")]
    judged += [one for sample in range(20) for one in pair(INSTRUCTIONS_CONTROL, sample, "base", "base")]
    judged[-2:] = pair(INSTRUCTIONS_CONTROL, 19, "model", "model")
    controls = of_llm(judged)["controls"]
    assert controls[INSTRUCTIONS_CONTROL]["at_bottom"] is True  # one in twenty
    assert controls[INSTRUCTIONS_CONTROL]["win_rate"]["mean"] == 0.05
    judged[-4:-2] = pair(INSTRUCTIONS_CONTROL, 18, "model", "model")
    found = summarise(outputs_of(), judged)
    assert found["judges"]["llm"]["controls"][INSTRUCTIONS_CONTROL]["at_bottom"] is False
    assert "it wins against baseline in 2 of 20 pairs" in found["words"][0]


def test_controls_count_for_no_model_and_no_agreement():
    judged = ratings(repeats=2, control=None)
    with_controls = [*judged, *(rating("llm", n, s, 1, r) for n in CONTROLS for s in range(10) for r in range(2))]
    a, b = of_llm(judged), of_llm(with_controls)
    assert b.pop("controls").keys() == set(CONTROLS)
    assert a.pop("controls") == {}
    assert a == b


def test_ratings_alone_leave_no_pairs():
    assert of_llm(ratings())["pairwise"] is None


def test_judgements_of_unknown_models_and_bases_are_left_out_and_that_is_said():
    judged = ratings()
    stray = [rating("llm", "gone", 0, 5), *pair("checkpoint-200", 0, "model", "model", base="gone")]
    known = pair("checkpoint-200", 1, "base", "base")
    assert of_llm([*judged, *stray, *known]) == of_llm([*judged, *known])
    found = summarise(outputs_of(), [*judged, *stray, *known], left_out=2)  # and two that were not handed over
    assert found["left_out"] == 5
    assert any(words.startswith("5 judgements of other rows, models or bases") for words in found["words"])
