"""One judge's numbers: what counts, and how often."""

from leap.judge.judgements import (
    FINAL,
)
from leap.judge.summary import summarise
from tests.judge.synthetic import MODELS, of_llm, outputs_of, pair, rating


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


def test_a_judgement_made_again_counts_once_and_a_failure_is_made_good():
    judged = [rating("llm", "baseline", 0, None), rating("llm", "baseline", 0, 2), rating("llm", "baseline", 0, 4)]
    for lines in (judged, [judged[1], judged[2], judged[0]]):
        found = of_llm(lines)["models"]["baseline"]
        assert (found["judgements"], found["failed"], found["scores"][FINAL]["mean"]) == (1, 0, 4)


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
    assert of["win_rate"]["low"] < of["win_rate"]["mean"] == 0.5 < of["win_rate"]["high"]
    assert any("contradicts itself in 10 of 10 pairs (100 %)" in words for words in found["words"])
    assert any("no model can be told from baseline" in words for words in found["words"])
