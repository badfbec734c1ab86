"""What is said of a summary in sentences."""

import numpy as np
import pytest

from leap.blind.outputs import Output
from leap.judge.judgements import (
    FINAL,
)
from leap.judge.summary import summarise
from tests.judge.synthetic import MODELS, outputs_of, rating, ratings, width


def test_a_model_without_any_plan_is_not_missed_by_its_judges():
    failed = [Output("gone", s, [], "/", "p", "r", None, failure={"kind": "model", "reason": "x"}) for s in range(10)]
    words = summarise([*outputs_of(), *failed], ratings())["words"]
    assert any("never judged: gone 10" in said for said in words)
    assert not any("do not cover the same items" in said for said in words)


def test_who_is_better_and_worse_is_said_and_who_cannot_be_told_apart():
    effect = {"checkpoint-200": 1.2, "checkpoint-1000": -1.2}
    words = " ".join(summarise(outputs_of(), ratings(effect=effect))["words"])
    assert "checkpoint-200 (+" in words
    assert "is better than baseline and checkpoint-1000 (-" in words
    assert "is worse than baseline" in words
    words = " ".join(summarise(outputs_of(), ratings(seed=5))["words"])
    assert "By llm, none of the 2 models can be told from baseline" in words


def test_three_equal_differences_are_not_called_firm():
    judged = [rating("llm", model, s, 3 + (model != "baseline")) for model in MODELS[:2] for s in range(3)]
    words = " ".join(summarise(outputs_of(MODELS[:2], 3), judged)["words"])
    assert "checkpoint-200 (+1.00" in words
    assert "cannot be told from baseline in the final score" in words


def test_of_many_comparisons_that_chance_explains_it_is_said_that_they_do_not_hold():
    models = ["baseline", *(f"checkpoint-{step}" for step in range(100, 4100, 100))]
    words = summarise(outputs_of(models), ratings(models=models, seed=2))["words"]
    (said,) = [sentence for sentence in words if sentence.startswith("By llm, ")]
    assert "corrected for 40 comparisons, none holds" in said


def test_wide_intervals_are_said_with_their_width_for_few_items_only():
    found = summarise(outputs_of(), ratings())
    over = [found["judges"]["llm"]["models"][name]["over_base"][FINAL] for name in MODELS[1:]]
    halves = sorted(width(of) / 2 for of in over)
    (said,) = [words for words in found["words"] if "intervals are wide" in words]
    assert f"{halves[0]:.2f} to {halves[1]:.2f} points by llm" in said
    assert "smaller ones cannot be told from chance" in said
    many = summarise(outputs_of(items=30), ratings(items=30))
    assert not any("intervals are wide" in words for words in many["words"])


def test_narrow_intervals_are_not_called_wide_and_their_width_is_said():
    judged = [
        rating("llm", name, s, 3 + (name != "baseline") * (1 + 0.05 * (s % 2))) for name in MODELS for s in range(29)
    ]
    (said,) = [words for words in summarise(outputs_of(items=29), judged)["words"] if "29 items are few" in words]
    assert "wide" not in said
    assert "29 items are few: a difference from the base is known to plus or minus 0.1" in said


def test_items_that_differ_alike_prove_nothing_of_others():
    judged = [rating("llm", name, s, 3 + (name != "baseline")) for name in MODELS for s in range(2)]
    words = summarise(outputs_of(items=2), judged)["words"]
    assert any("2 items are few, and the intervals are wide" in sentence for sentence in words)
    assert any("none of the 2 models can be told from baseline" in sentence for sentence in words)


@pytest.mark.parametrize(("noise", "word"), [(0, "well"), (1.4, "little")])
def test_agreement_is_put_into_words_by_krippendorffs_thresholds(noise, word):
    rng = np.random.default_rng(1)
    judged = [
        rating("llm", model, sample, float(np.clip(1 + sample % 5 + rng.normal(0, noise), 1, 5)), repeat)
        for model in MODELS
        for sample in range(10)
        for repeat in range(2)
    ]
    words = summarise(outputs_of(), judged)["words"]
    assert any(f"Over 2 repeats, llm agrees with itself {word} (Krippendorff's alpha" in said for said in words)
