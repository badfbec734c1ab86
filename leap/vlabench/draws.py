"""Several answers drawn to each example: what they come to besides their mean.

The scores of an example are then the means over its answers, so that every table, interval and paired test stays one
over examples. Beside them a summary's `draws` holds

    {"count": answers an example, "pass_at": {"1": estimate, ...: that one of k answers is a right plan},
     "majority": {"<scorer>.<metric>": estimate of the plan that most of an example's answers agree on},
     "spread": {"<scorer>.<metric>": standard deviation over the answers of the mean over examples, in points}}

with an estimate as [mean, low, high] of 100. pass@k is the unbiased estimator of Chen et al. 2021 (arXiv:2107.03374).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from leap.plans.measures import MEASURES
from leap.plans.reading import Plan
from leap.vlabench.folder import ExampleKey, summaries_of
from leap.vlabench.sampling import Origin, sample_of

REPORTED = ("official.total_score", "grounded.total_score", "grounded.plan_success")


@dataclass(frozen=True)
class DrawnAnswer:
    """The plan of one answer, as text that equal plans share (None: there is none), and its REPORTED scores."""

    plan: str | None
    scores: tuple[float, ...]


def drawn_answer(plan: Plan | None, scores: Mapping[str, Mapping[str, float]]) -> DrawnAnswer:
    """An answer by its plan and its scores by scorer and metric."""
    values = tuple(scores[scorer][metric] for scorer, metric in (name.split(".") for name in REPORTED))
    return DrawnAnswer(json.dumps(plan.steps) if plan else None, values)


def pass_at(right: int, count: int, k: int) -> float:
    """The chance that one of `k` answers is right, estimated from `count` answers of which `right` are."""
    return 1 - comb(count - right, k) / comb(count, k)


def majority(answers: Sequence[DrawnAnswer]) -> DrawnAnswer:
    """The first answer with the plan that most of them give; one without a plan only if none has one."""
    votes = Counter(answer.plan for answer in answers if answer.plan is not None)
    if not votes:
        return answers[0]
    plan = max(votes, key=votes.__getitem__)  # of equals the first drawn
    return next(answer for answer in answers if answer.plan == plan)


def draws_of(
    dimension: str, answers: Mapping[ExampleKey, Sequence[DrawnAnswer]], origins: Mapping[ExampleKey, Origin]
) -> dict[str, Any]:
    """`draws` of the summary of a dimension, {} where an example has one answer. All examples have as many."""
    count = min(map(len, answers.values()), default=1)
    if count < 2:
        return {}
    sample = sample_of({dimension: answers}, {dimension: origins})
    drawn = [answers[key] for _, key in sample.places]
    scores = np.array([[answer.scores for answer in each[:count]] for each in drawn])  # (examples, answers, REPORTED)
    right = (scores[:, :, REPORTED.index("grounded.plan_success")] == 100).sum(axis=1)
    passed = np.array([[100 * pass_at(int(c), count, k) for k in range(1, count + 1)] for c in right])
    best = np.array([MEASURES[name].best for name in REPORTED], dtype=float)
    chosen = np.array([majority(each).scores for each in drawn])
    passes = sample.estimates(passed, np.zeros(count), np.full(count, 100.0))
    choices = sample.estimates(chosen, 0 * best, best)
    spread = scores.mean(axis=0).std(axis=0, ddof=1)
    return {
        "count": count,
        "pass_at": {str(k): list(astuple(estimate)) for k, estimate in enumerate(passes, 1)},
        "majority": {name: list(astuple(estimate)) for name, estimate in zip(REPORTED, choices, strict=True)},
        "spread": dict(zip(REPORTED, spread.tolist(), strict=True)),
    }


def draw_notes(results: Path, models: Sequence[str]) -> list[str]:
    """A sentence on each model whose answers were drawn several times, as means over the dimensions that it has."""
    notes = []
    for model in models:
        draws = [summary.draws for summary in summaries_of(results, model).values() if summary.draws]
        if not draws:
            continue
        count = min(each["count"] for each in draws)
        passes = ", ".join(f"pass@{k} {_mean(draws, 'pass_at', str(k)):.1f}" for k in _some_of(count))
        majorities = ", ".join(f"{MEASURES[name].name} {_mean(draws, 'majority', name):.1f}" for name in REPORTED)
        spread = float(np.mean([each["spread"]["grounded.total_score"] for each in draws]))
        notes.append(
            f"{model}: {count} answers drawn an example, scores are their means; {passes} (plan success); by majority: "
            f"{majorities}; standard deviation over the answers {spread:.2f} points (total score, grounded)"
        )
    return notes


def _mean(draws: Sequence[Mapping[str, Any]], group: str, name: str) -> float:
    return float(np.mean([each[group][name][0] for each in draws]))


def _some_of(count: int) -> list[int]:
    """1, 2, 4, ... and `count` itself."""
    return sorted({2**power for power in range(count.bit_length())} | {count})
