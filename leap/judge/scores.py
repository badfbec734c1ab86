"""Judgements as numbers: each plan's ratings and pairs by one judge, repeat by repeat, and what they come to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from leap.judge.agreement import pair_verdict
from leap.judge.judgements import FINAL, PAIRWISE, SCALES, Judgement

SCORES = (FINAL, *SCALES)

# What a pair is worth to the model.
POINTS = {"model": 1.0, "tie": 0.5, "base": 0.0}

PlanKey = tuple[str, int]  # model, sample
VerdictPair = tuple[str, str]  # with the model first, with the base first
ScoreByItem = dict[int, float]  # by sample


@dataclass(frozen=True)
class JudgeScores:
    """All numbers of one judge.

    `ratings` are the final score and the four scales by plan and repeat; `pairs` the verdicts by plan and repeat, where
    both orders were judged. The failed judgements are counted by model.
    """

    ratings: dict[PlanKey, dict[int, dict[str, float]]] = field(default_factory=lambda: defaultdict(dict))
    pairs: dict[PlanKey, dict[int, VerdictPair]] = field(default_factory=lambda: defaultdict(dict))
    failed_ratings: Counter[str] = field(default_factory=Counter)
    failed_verdicts: Counter[str] = field(default_factory=Counter)

    @cached_property
    def means(self) -> dict[PlanKey, dict[str, float]]:
        """The mean over repeats of each score, by plan."""
        return {
            plan: {name: fmean(scores[name] for scores in repeats.values()) for name in SCORES}
            for plan, repeats in sorted(self.ratings.items())
        }

    @property
    def models(self) -> set[str]:
        """Models and controls that the judge was asked about, also where all failed."""
        return {model for model, _ in (*self.ratings, *self.pairs)} | {*self.failed_ratings, *self.failed_verdicts}

    def column(self, model: str, score: str) -> ScoreByItem:
        """A model's means in one score."""
        return {sample: scores[score] for (name, sample), scores in self.means.items() if name == model}

    def pairs_by_item(self, model: str) -> dict[int, list[VerdictPair]]:
        """The pairs of a model by sample, in order of the repeats."""
        return {
            sample: [pair for _, pair in sorted(repeats.items())]
            for (name, sample), repeats in sorted(self.pairs.items())
            if name == model
        }


def scores_of(judgements: Iterable[Judgement], judge: str) -> JudgeScores:
    """A judge's scores. A judgement made again counts once: the last that did not fail. Pairs are with one base."""
    scores = JudgeScores()
    orders: dict[tuple[PlanKey, int], dict[bool, str]] = defaultdict(dict)
    for judgement in _latest(judgements, judge):
        plan = judgement.model, judgement.sample
        if judgement.protocol == PAIRWISE:
            if judgement.failure is not None or judgement.verdict is None:
                scores.failed_verdicts[judgement.model] += 1
            else:
                orders[plan, judgement.repeat][bool(judgement.model_first)] = judgement.verdict
        elif judgement.failure is not None or judgement.scores is None or judgement.final_score is None:
            scores.failed_ratings[judgement.model] += 1
        else:
            rating = {FINAL: judgement.final_score} | {scale: judgement.scores[scale] for scale in SCALES}
            scores.ratings[plan][judgement.repeat] = rating
    for (plan, repeat), verdicts in orders.items():
        if len(verdicts) == 2:
            scores.pairs[plan][repeat] = verdicts[True], verdicts[False]
    return scores


def _latest(judgements: Iterable[Judgement], judge: str) -> Iterator[Judgement]:
    latest: dict[tuple, Judgement] = {}
    for line in sorted(judgements, key=lambda judgement: judgement.failure is None):  # failed ones first
        if line.judge == judge:
            latest[line.protocol, line.model, line.sample, line.repeat, line.base, line.model_first] = line
    yield from latest.values()


def points(pairs: Iterable[VerdictPair]) -> list[float]:
    """What each pair is worth to the model: 1 for a win, half for a tie."""
    return [POINTS[pair_verdict(*pair)] for pair in pairs]
