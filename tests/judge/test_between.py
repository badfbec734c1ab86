"""How far judges agree."""

import numpy as np
import pytest

from leap.judge.agreement import krippendorff_alpha
from leap.judge.judgements import (
    EMPTY_CONTROL,
    FINAL,
    PEOPLE,
    REFERENCE_JUDGE,
    SCALES,
)
from leap.judge.summary import summarise
from leap.judge.table import summary_table
from tests.judge.synthetic import of_llm, outputs_of, pair, rating, ratings


def test_repeats_that_agree_have_a_high_alpha_and_one_repeat_has_none():
    assert of_llm(ratings(repeats=3))["repeats"]["alpha"][FINAL] > 0.8
    assert of_llm(ratings(repeats=3))["repeats"]["most"] == 3
    assert of_llm(ratings(repeats=1))["repeats"]["alpha"] == dict.fromkeys((FINAL, *SCALES))
    equal = [rating("llm", "baseline", sample, 3, repeat) for sample in range(10) for repeat in range(3)]
    assert of_llm(equal)["repeats"]["alpha"][FINAL] is None


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
