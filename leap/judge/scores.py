"""Judgements as numbers: what one judge said of each plan, repeat by repeat, and what that comes to plan by plan."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from leap.judge.agreement import settled
from leap.judge.judgements import FINAL, PAIRWISE, SCALES, Judgement

SCORES = (FINAL, *SCALES)

# What a pair is worth to the model.
POINTS = {"model": 1.0, "tie": 0.5, "base": 0.0}

Plan = tuple[str, int]  # model, sample


@dataclass(frozen=True)
class Said:
    """What one judge said.

    `ratings` are the final score and the four scales by plan and repeat; `pairs` the verdicts with the model first and
    with the base first, where both orders were judged. The failed judgements are counted by model.
    """

    ratings: dict[Plan, dict[int, dict[str, float]]] = field(default_factory=lambda: defaultdict(dict))
    pairs: dict[Plan, dict[int, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))
    failed_ratings: Counter[str] = field(default_factory=Counter)
    failed_verdicts: Counter[str] = field(default_factory=Counter)

    @cached_property
    def means(self) -> dict[Plan, dict[str, float]]:
        """The mean over repeats of each score, by plan."""
        return {
            plan: {name: fmean(of[name] for of in repeats.values()) for name in SCORES}
            for plan, repeats in sorted(self.ratings.items())
        }

    def outcomes(self, model: str) -> dict[int, list[tuple[str, str]]]:
        """The pairs of a model by sample, in order of the repeats."""
        return {
            sample: [pair for _, pair in sorted(repeats.items())]
            for (of, sample), repeats in sorted(self.pairs.items())
            if of == model
        }


def said_by(judgements: Iterable[Judgement], judge: str) -> Said:
    """What a judge said. A judgement made again counts once: the last that did not fail. Pairs are with one base."""
    latest: dict[tuple, Judgement] = {}
    for judgement in sorted(judgements, key=lambda one: one.failure is None):
        if judgement.judge == judge:
            one = judgement
            latest[one.protocol, one.model, one.sample, one.repeat, one.base, one.model_first] = one
    said = Said()
    orders: dict[tuple[Plan, int], dict[bool, str]] = defaultdict(dict)
    for one in latest.values():
        plan = one.model, one.sample
        if one.protocol == PAIRWISE:
            if one.failure is not None or one.verdict is None:
                said.failed_verdicts[one.model] += 1
            else:
                orders[plan, one.repeat][bool(one.model_first)] = one.verdict
        elif one.failure is not None or one.scores is None:
            said.failed_ratings[one.model] += 1
        else:
            said.ratings[plan][one.repeat] = {FINAL: one.final_score} | {scale: one.scores[scale] for scale in SCALES}
    for (plan, repeat), verdicts in orders.items():
        if len(verdicts) == 2:
            said.pairs[plan][repeat] = verdicts[True], verdicts[False]
    return said


def points(pairs: Iterable[tuple[str, str]]) -> list[float]:
    """What each pair is worth to the model: 1 for a win, half for a tie."""
    return [POINTS[settled(*pair)] for pair in pairs]


def columns_of(means: Mapping[Plan, Mapping[str, float]], model: str, score: str) -> dict[int, float]:
    """A model's means in one score by sample."""
    return {sample: of[score] for (name, sample), of in means.items() if name == model}
