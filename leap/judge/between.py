"""How far the judges of a review agree: each with its own repeats, and two with each other.

Three measures, as each says what the others cannot: Krippendorff's alpha takes any number of raters and missing
ratings, Cohen's kappa is the usual one for two, and Spearman's correlation asks whether two
judges rank plans alike, however strict each is. Controls count for none: that judges agree on an empty plan would hide
how far they agree on plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from leap.judge.agreement import krippendorff_alpha, quadratic_kappa, spearman
from leap.judge.judgements import FINAL
from leap.judge.scores import SCORES, JudgeScores, PlanKey, points


def repeat_agreement(scores: JudgeScores, models: Sequence[str]) -> dict[str, Any]:
    """How many ratings a plan has at most, and how far they agree."""
    plans = [repeats for (model, _), repeats in sorted(scores.ratings.items()) if model in models]
    numbers = sorted({number for repeats in plans for number in repeats})
    alpha = dict.fromkeys(SCORES)
    for score in SCORES if plans else ():
        # A repeat stands for a rater: (repeats, plans).
        ratings = [[repeats[n][score] if n in repeats else np.nan for repeats in plans] for n in numbers]
        alpha[score] = _alpha(np.array(ratings), score)
    return {"most": max(map(len, plans), default=0), "alpha": alpha}


def judge_agreement(scores: Mapping[str, JudgeScores], models: Sequence[str]) -> list[dict[str, Any]]:
    """How far each two judges agree, those left out who share neither a rated plan nor a pair."""
    return [entry for pair in combinations(scores, 2) if (entry := _agreement_of_two(pair, scores, models))]


def _agreement_of_two(
    judges: tuple[str, str], scores: Mapping[str, JudgeScores], models: Sequence[str]
) -> dict[str, Any] | None:
    sides = scores[judges[0]], scores[judges[1]]
    pairs = _same_verdicts(*sides, models)
    plans = _common_plans(sides[0].means, sides[1].means, models)
    if not plans and pairs is None:
        return None
    alpha, kappa = dict.fromkeys(SCORES), dict.fromkeys(SCORES)
    for score in SCORES if plans else ():
        ratings = np.array([[side.means[plan][score] for plan in plans] for side in sides])  # (2, plans)
        alpha[score] = _alpha(ratings, score)
        kappa[score] = quadratic_kappa(*ratings)
    finals_a, finals_b = ([side.means[plan][FINAL] for plan in plans] for side in sides)
    ranks = spearman(finals_a, finals_b, [sample for _, sample in plans])
    return {
        "judges": list(judges),
        "plans": len(plans),
        "alpha": alpha,
        "kappa": kappa,
        "spearman": asdict(ranks) if ranks else None,
        "pairs": pairs,
    }


def _same_verdicts(a: JudgeScores, b: JudgeScores, models: Sequence[str]) -> dict[str, Any] | None:
    """How often two judges call a plan alike beside the base's: a loss, a tie or a win, by what it is worth over all
    repeats. None without a plan that both judged so."""
    plans = _common_plans(a.pairs, b.pairs, models)
    if not plans:
        return None
    worth = [[fmean(points(side.pairs[plan].values())) for plan in plans] for side in (a, b)]
    verdicts = np.sign(np.array(worth) - 0.5)  # (2, plans)
    same = int(np.sum(verdicts[0] == verdicts[1]))
    return {"plans": len(plans), "same": same, "alpha": krippendorff_alpha(verdicts, "ordinal")}


def _common_plans(a: Mapping[PlanKey, Any], b: Mapping[PlanKey, Any], models: Sequence[str]) -> list[PlanKey]:
    return sorted(plan for plan in a.keys() & b.keys() if plan[0] in models)


def _alpha(ratings: np.ndarray, score: str) -> float | None:
    # A scale is ordinal; the final score is a mean, so that its distances count.
    return krippendorff_alpha(ratings, "interval" if score == FINAL else "ordinal")
