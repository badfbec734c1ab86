"""A review's summary: synthetic judgements of known quality, and what must never become a number."""

import csv
import json
import random
from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from configs.errors import UserError
from leap.blind.outputs import Output
from leap.files import Journal
from leap.judge.agreement import krippendorff_alpha
from leap.judge.judgements import (
    CONTROLS,
    EMPTY_CONTROL,
    FINAL,
    INSTRUCTIONS_CONTROL,
    PAIRWISE,
    PEOPLE,
    REFERENCE_JUDGE,
    RUBRIC,
    SCALES,
    Judgement,
    read_judgements,
)
from leap.judge.summary import CSV_COLUMNS, summarise, summary_table, write_judgements_csv

MODELS = ("baseline", "checkpoint-200", "checkpoint-1000")


def outputs_of(models: Iterable[str] = MODELS, items: int = 10, **fields) -> list[Output]:
    return [
        Output(model, sample, [], "/data", f"prompt {sample}", "1) a", "1) b", **fields)
        for sample in range(items)
        for model in models
    ]


def rating(judge, model, sample, value, repeat=0, **fields) -> Judgement:
    """All four scales at `value`, or each its own; None failed."""
    if value is None:
        return Judgement(judge, RUBRIC, model, sample, repeat, failure="the judge refused", **fields)
    values = value if isinstance(value, Mapping) else dict.fromkeys(SCALES, value)
    return Judgement(judge, RUBRIC, model, sample, repeat, scores=values, reasoning="why", **fields)


def ratings(judge="llm", models=MODELS, items=10, repeats=1, effect=None, seed=0, control=1) -> list[Judgement]:
    """Noisy ratings around 3 plus what each item is worth and each model is better; controls at `control`."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(0, 0.8, items)
    found = []
    for model in models:
        for sample in range(items):
            plan = 3 + worth[sample] + (effect or {}).get(model, 0) + rng.normal(0, 0.4)
            for repeat in range(repeats):
                noise = rng.normal(0, 0.3, len(SCALES))
                scores = {s: int(np.clip(round(plan + n), 1, 5)) for s, n in zip(SCALES, noise, strict=True)}
                found.append(rating(judge, model, sample, scores, repeat))
    if control is not None:
        found += [rating(judge, name, sample, control) for name in CONTROLS for sample in range(items)]
    return found


def pair(model, sample, model_first, base_first, repeat=0, judge="llm", base="baseline") -> list[Judgement]:
    """A pair in both orders; a verdict of None failed."""
    return [
        Judgement(
            judge,
            PAIRWISE,
            model,
            sample,
            repeat,
            base=base,
            model_first=first,
            verdict=verdict,
            failure=None if verdict else "no verdict",
        )
        for first, verdict in ((True, model_first), (False, base_first))
    ]


def of_llm(judgements, outputs=None) -> dict:
    return summarise(outputs or outputs_of(), judgements)["judges"]["llm"]


def width(estimate: Mapping[str, float]) -> float:
    return estimate["high"] - estimate["low"]


def test_the_base_comes_first_then_runs_by_step():
    models = ["lora-checkpoint-50", "checkpoint-1000", "constant", "checkpoint-200", "baseline"]
    found = summarise(outputs_of(models, 2), [])
    assert found["models"] == ["baseline", "checkpoint-200", "checkpoint-1000", "lora-checkpoint-50", "constant"]
    assert found["base"] == "baseline"
    assert found["judges"] == {}
    assert "No judge has said anything yet." in found["words"]


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


def test_a_model_without_any_plan_is_not_missed_by_its_judges():
    failed = [Output("gone", s, [], "/", "p", "r", None, failure={"kind": "model", "reason": "x"}) for s in range(10)]
    words = summarise([*outputs_of(), *failed], ratings())["words"]
    assert any("never judged: gone 10" in said for said in words)
    assert not any("do not cover the same items" in said for said in words)


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


def test_a_failed_judgement_is_counted_and_never_a_number():
    good = [rating("llm", model, sample, 4) for model in MODELS for sample in range(10)]
    with_failures = [*good, *(rating("llm", "checkpoint-200", sample, None, 1) for sample in range(4))]
    a, b = of_llm(good), of_llm(with_failures)
    assert b["models"]["checkpoint-200"].pop("failed") == 4
    assert a["models"]["checkpoint-200"].pop("failed") == 0
    assert a == b
    words = summarise(outputs_of(), with_failures)["words"]
    assert words[-1] == "4 judgements by llm failed and were left out of every number."


def test_scores_beside_a_failure_do_not_count():
    found = of_llm([rating("llm", "baseline", 0, 5), rating("llm", "baseline", 1, 1, **{"failure": "cut"})])
    assert found["models"]["baseline"]["scores"][FINAL]["mean"] == 5
    assert found["models"]["baseline"]["failed"] == 1


def test_a_model_without_a_judgement_has_no_number_at_all():
    failed = [rating("llm", "checkpoint-1000", sample, None) for sample in range(10)]
    found = of_llm([*ratings(models=MODELS[:2]), *failed])["models"]["checkpoint-1000"]
    assert found == {"items": 0, "judgements": 0, "failed": 10, "scores": None, "over_base": None, "final_by_row": {}}


def test_a_judgement_made_again_counts_once_and_a_failure_is_made_good():
    judged = [rating("llm", "baseline", 0, None), rating("llm", "baseline", 0, 2), rating("llm", "baseline", 0, 4)]
    for lines in (judged, [judged[1], judged[2], judged[0]]):
        found = of_llm(lines)["models"]["baseline"]
        assert (found["judgements"], found["failed"], found["scores"][FINAL]["mean"]) == (1, 0, 4)


def test_the_difference_is_over_common_items_and_paired():
    judged = [rating("llm", "baseline", sample, 1 + sample % 4) for sample in range(8)]
    judged += [rating("llm", "checkpoint-200", sample, 2 + sample % 4) for sample in range(6)]
    found = of_llm(judged)["models"]
    assert found["baseline"]["over_base"] is None
    over = found["checkpoint-200"]["over_base"]
    assert over["items"] == 6
    # Each item is one point better: the wide spread between items does not matter.
    assert over[FINAL] == {"mean": 1, "low": 1, "high": 1}
    assert width(found["checkpoint-200"]["scores"][FINAL]) > 1
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


def test_a_single_item_says_nothing_about_the_others():
    judged = [rating("llm", "baseline", 0, 1), rating("llm", "checkpoint-200", 0, 5)]
    found = summarise(outputs_of(items=1), judged)
    assert found["judges"]["llm"]["models"]["checkpoint-200"]["over_base"][FINAL] == {"mean": 4, "low": -4, "high": 4}
    assert any("single item gives no interval" in words for words in found["words"])
    assert any("cannot be told from baseline" in words for words in found["words"])


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
    assert "checkpoint-200 (+1.00, +1.00 to +1.00) is better than baseline" in words
    assert "Of these, by a paired permutation test none holds." in words


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
    judged = [rating("llm", name, s, 3 + (name != "baseline") + 0.05 * (s % 2)) for name in MODELS for s in range(10)]
    judged += [rating("llm", MODELS[1], s, 4.1, repeat=1) for s in range(3)]
    (said,) = [words for words in summarise(outputs_of(), judged)["words"] if "10 items are few" in words]
    assert "wide" not in said
    assert "10 items are few: a difference from the base is known to plus or minus 0.0" in said


def test_intervals_without_width_are_not_called_wide_and_prove_nothing():
    judged = [rating("llm", name, s, 3 + (name != "baseline")) for name in MODELS for s in range(2)]
    for by in (
        [],
        [rating(REFERENCE_JUDGE, name, s, 1 + (1 + s) * (name != "baseline")) for name in MODELS for s in (0, 1)],
    ):
        words = summarise(outputs_of(items=2), [*judged, *by])["words"]
        (said,) = [sentence for sentence in words if "2 items are few" in sentence]
        assert "0.00" not in said
        assert ("intervals are wide" in said) == ("points by reference" in said) == bool(by)
        assert "An interval without width (by llm) says that these items differ alike, not that others would." in said


def test_without_a_base_nothing_is_compared():
    models = ["checkpoint-200", "checkpoint-1000"]
    found = summarise(outputs_of(models), ratings(models=models))
    assert found["base"] is None
    assert all(of["over_base"] is None for of in found["judges"]["llm"]["models"].values())
    assert "the base is not among them" in found["words"][0]
    assert "over" not in summary_table(found).splitlines()[2]


def test_another_model_may_be_the_base_but_must_have_outputs():
    assert summarise(outputs_of(), ratings(), base="checkpoint-200")["models"][0] == "checkpoint-200"
    with pytest.raises(UserError, match="no outputs of the base 'nobody'"):
        summarise(outputs_of(), [], base="nobody")


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
    warned = found["words"][0].startswith("Do not trust the judge llm: it does not put control:instructions")
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
    assert all(words.startswith("Do not trust the judge llm") for words in found["words"][:2])


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


def test_pairs_are_won_in_both_orders_or_tied():
    judged = pair("checkpoint-200", 0, "model", "model") + pair("checkpoint-200", 1, "base", "base")
    judged += pair("checkpoint-200", 2, "model", "base") + pair("checkpoint-200", 3, "model", "tie")
    judged += pair("checkpoint-200", 4, "model", None)  # one order failed: no pair
    judged += pair("checkpoint-200", 5, "model", "model")[:1]  # the other order is still to come
    found = of_llm(judged)
    of = found["pairwise"]["checkpoint-200"]
    counts = {key: of[key] for key in ("items", "pairs", "failed", "wins", "losses", "ties", "flips")}
    assert counts == {"items": 4, "pairs": 4, "failed": 1, "wins": 1, "losses": 1, "ties": 2, "flips": 1}
    assert of["win_rate"]["mean"] == 0.5
    assert of["flip_rate"] == 0.25
    assert found["pairwise"]["checkpoint-1000"]["win_rate"] is None
    assert found["pairwise"]["checkpoint-1000"]["flip_rate"] is None
    assert found["models"]["checkpoint-200"]["scores"] is None
    assert "baseline" not in found["pairwise"]


def test_a_judge_who_looks_at_the_place_only_prefers_nobody():
    judged = [one for sample in range(10) for one in pair("checkpoint-200", sample, "model", "base")]
    found = summarise(outputs_of(), judged)
    of = found["judges"]["llm"]["pairwise"]["checkpoint-200"]
    assert (of["ties"], of["flip_rate"]) == (10, 1)
    assert of["win_rate"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert any("contradicts itself in 10 of 10 pairs (100 %)" in words for words in found["words"])
    assert any("no model can be told from baseline" in words for words in found["words"])


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


def test_repeats_that_agree_have_a_high_alpha_and_one_repeat_has_none():
    assert of_llm(ratings(repeats=3))["repeats"]["alpha"][FINAL] > 0.8
    assert of_llm(ratings(repeats=3))["repeats"]["most"] == 3
    assert of_llm(ratings(repeats=1))["repeats"]["alpha"] == dict.fromkeys((FINAL, *SCALES))
    equal = [rating("llm", "baseline", sample, 3, repeat) for sample in range(10) for repeat in range(3)]
    assert of_llm(equal)["repeats"]["alpha"][FINAL] is None


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


def test_repeats_of_pairs_are_no_repeats_of_ratings():
    judged = ratings(repeats=2)
    judged += [one for s in range(10) for n in range(4) for one in pair("checkpoint-200", s, "model", "model", n)]
    found = summarise(outputs_of(), judged)
    assert found["judges"]["llm"]["repeats"]["most"] == 2
    assert any(words.startswith("Over 2 repeats, llm agrees with itself") for words in found["words"])
    assert "(a language model, 2 repeats)" in summary_table(found)


def test_judges_of_pairs_alone_are_compared_by_their_verdicts():
    # Wins, losses and ties of ten rows; the other judge takes one win and one loss for ties.
    verdicts = ["model"] * 4 + ["base"] * 4 + ["tie"] * 2
    judged = [one for s, said in enumerate(verdicts) for one in pair("checkpoint-200", s, said, said)]
    others = ["tie", *verdicts[1:7], "tie", *verdicts[8:]]
    judged += [one for s, said in enumerate(others) for one in pair("checkpoint-200", s, said, said, judge="other")]
    judged += [one for s in range(10) for one in pair(EMPTY_CONTROL, s, "base", "base", judge=("llm", "other")[s % 2])]
    found = summarise(outputs_of(), judged)
    (between,) = found["between"]
    assert (between["plans"], between["spearman"], set(between["alpha"].values())) == (0, None, {None})
    values = [[{"model": 1, "tie": 0, "base": -1}[one] for one in of] for of in (verdicts, others)]
    alpha = krippendorff_alpha(np.array(values, dtype=float))
    assert between["pairs"] == {"plans": 10, "same": 8, "alpha": pytest.approx(alpha)}
    assert 0.7 < alpha < 1
    said = f"llm and other give the same verdict on 8 of 10 plans beside the base's (Krippendorff's alpha {alpha:.2f})."
    assert said in found["words"]
    table = summary_table(found)
    assert f"| llm and other | 10 | 8 | {alpha:.2f} |" in " ".join(table.split("### Agreement in pairs")[1].split())
    assert "Agreement in the final score" not in table


def test_judges_who_always_say_the_same_of_pairs_have_no_alpha():
    judged = [
        one for j in ("llm", "other") for s in range(3) for one in pair("checkpoint-200", s, "tie", "tie", judge=j)
    ]
    found = summarise(outputs_of(), judged)
    assert found["between"][0]["pairs"] == {"plans": 3, "same": 3, "alpha": None}
    assert "llm and other give the same verdict on 3 of 3 plans beside the base's." in found["words"]


@pytest.mark.parametrize(
    ("models", "base"),
    [
        (["Baseline", "checkpoint-1"], "Baseline"),
        (["Baseline", "baseline"], "baseline"),
        (["baseline_1shot", "baseline"], "baseline"),
        (["baselines", "base"], None),
    ],
)
def test_the_model_called_baseline_is_the_base_whatever_its_case(models, base):
    assert summarise(outputs_of(models), [])["base"] == base


def test_people_are_a_judge_whose_repeats_are_raters():
    judged = [*ratings(PEOPLE, repeats=2, control=None), *ratings("llm", repeats=2), *ratings(REFERENCE_JUDGE, seed=9)]
    found = summarise(outputs_of(), judged)
    assert [(name, of["kind"]) for name, of in found["judges"].items()] == [
        ("llm", "llm"),
        ("people", "people"),
        ("reference", "reference"),
    ]
    # The same seed: people and the model say the same.
    agreed = found["judges"]["llm"]["with"]["people"]
    assert (agreed["spearman"], agreed["plans"]) == (pytest.approx(1), 30)
    assert found["judges"]["llm"]["with"].keys() == {"people", "reference"}
    assert found["judges"]["people"]["with"].keys() == {"reference"}
    by_pair = {tuple(of["judges"]): of for of in found["between"]}
    assert by_pair.keys() == {("llm", "people"), ("llm", "reference"), ("people", "reference")}
    same = by_pair["llm", "people"]
    assert (same["alpha"][FINAL], same["kappa"][FINAL], same["kappa"]["granularity"]) == (1, 1, 1)
    assert any(words.startswith("People agree with each other") for words in found["words"])
    assert any("not a language model's opinion" in words for words in found["words"])
    assert not any("no judgement of" in words for words in found["words"])


def test_judges_without_a_common_plan_are_not_compared():
    judged = [rating("llm", "baseline", 0, 3), rating("other", "baseline", 1, 3)]
    found = summarise(outputs_of(), judged)
    assert found["between"] == []
    assert found["judges"]["llm"]["with"] == {}


def test_the_table_has_a_part_a_judge_and_marks_what_is_missing():
    judged = [*ratings(models=MODELS[:2]), *(rating("llm", "checkpoint-1000", s, None) for s in range(10))]
    judged += [one for sample in range(10) for one in pair("checkpoint-200", sample, "model", "model")]
    judged += ratings(REFERENCE_JUDGE, seed=1)
    table = summary_table(summarise(outputs_of(), judged))
    assert [line for line in table.splitlines() if line.startswith("#")] == [
        "### llm (a language model)",
        "### reference (wording against the reference plan)",
        "### Agreement in the final score",
    ]
    (row,) = [line for line in table.split("### reference")[0].splitlines() if line.startswith("| checkpoint-1000")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["checkpoint-1000", *["n/a"] * 6, "0", "10", "n/a", "0", "0", "0", "0", "0"]
    assert "100 % [100, 100]" in table
    assert "- control:empty: at the bottom, final score 1.00 [1.00, 1.00]" in table


def test_the_table_of_pairs_alone_has_no_empty_columns():
    judged = [one for sample in range(10) for one in pair("checkpoint-200", sample, "model", "model")]
    head = summary_table(summarise(outputs_of(), judged)).splitlines()[2]
    assert FINAL not in head
    assert "win rate" in head


def test_the_csv_has_the_originals_columns_first_and_no_number_for_what_failed(tmp_path):
    judged = [rating("llm", "baseline", 0, 4), rating("llm", "baseline", 1, None)]
    judged += [rating("llm", "baseline", 2, 5, **{"failure": "cut"}), *pair("checkpoint-200", 0, "model", None)]
    path = tmp_path / "judgements.csv"
    write_judgements_csv(path, judged)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert CSV_COLUMNS[:8] == (
        "model_name",
        "sample_idx",
        "judge_raw",
        "completeness",
        "logical_sequence",
        "hallucination_redundancy",
        "granularity",
        "final_score",
    )
    assert (rows[0]["judge_raw"], rows[0]["final_score"], rows[0]["granularity"]) == ("why", "4.0", "4")
    for row in rows[1:]:
        assert [row[column] for column in (*SCALES, FINAL)] == [""] * 5
    assert [row["verdict"] for row in rows] == ["", "", "", "model", ""]
    assert [row["failure"] for row in rows[1:]] == ["the judge refused", "cut", "", "no verdict"]


def test_a_reason_with_line_breaks_quotes_and_a_lone_surrogate_stays_in_its_field(tmp_path):
    path = tmp_path / "judgements.csv"
    reasoning = 'one\ntwo, "three" \ud800'
    write_judgements_csv(path, [Judgement("llm", RUBRIC, "m", 0, scores=dict.fromkeys(SCALES, 3), reasoning=reasoning)])
    with open(path, newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["judge_raw"] == 'one\ntwo, "three" \\ud800'


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        (rating("llm", "m", 0, {"completeness": 3}), "each of completeness"),
        (rating("llm", "m", 0, 6), "must be a number 1 to 5"),
        (rating("llm", "m", 0, 0), "must be a number 1 to 5"),
        (rating("llm", "m", 0, "4"), "must be a number"),
        (Judgement("llm", RUBRIC, "m", 0), "the scores are None"),
        (Judgement("llm", PAIRWISE, "m", 0, base="b", verdict="first"), "one of model, base, tie"),
    ],
)
def test_a_line_that_is_no_judgement_is_named_by_file_and_line(tmp_path, judgement, words):
    path = tmp_path / "judges" / "llm" / "judgements.jsonl"
    with Journal(path) as journal:
        journal.append([rating("llm", "m", 0, 3).record(), rating("llm", "m", 1, None).record(), judgement.record()])
    with pytest.raises(UserError, match=words) as caught:
        read_judgements(tmp_path)
    assert f"{path}:3: " in str(caught.value)
