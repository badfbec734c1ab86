"""How far judges agree: with themselves over repeats, with each other, and with themselves in the other order.

What is not defined (no two ratings of anything, or all ratings equal) is None, never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from leap.judge.judgements import HIGHEST, LOWEST
from leap.statistics import RESAMPLES, Estimate, estimate_of_few, times_drawn

# What Krippendorff (2004, "Content Analysis", p. 241) asks of data: less than LOW is no ground for a conclusion, from
# GOOD on it is reliable, between the two conclusions are tentative.
LOW, GOOD = 0.667, 0.8

_ORDINAL, _INTERVAL = "ordinal", "interval"
_MOST_VALUES = 2_000_000  # resamples times plans at once


def krippendorff_alpha(ratings: np.ndarray, metric: str = _ORDINAL) -> float | None:
    """Krippendorff's alpha of (raters, units), NaN where a rater did not rate; 1 is perfect, 0 is chance.

    `metric` is "ordinal" or "interval". As in Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": the
    ordinal metric is the interval metric of the mid-ranks. None if no unit has two ratings or all ratings are equal.
    """
    if metric not in (_ORDINAL, _INTERVAL):
        raise ValueError(f"unknown metric {metric!r}")
    is_rated = ~np.isnan(ratings)  # (raters, units)
    pairable = is_rated & (is_rated.sum(axis=0) > 1)  # a unit with a single rating says nothing
    if not pairable.any():
        return None
    values = np.full(ratings.shape, np.nan)
    rated = ratings[pairable]
    values[pairable] = _mid_ranks(rated) if metric == _ORDINAL else rated
    values = values[:, pairable.any(axis=0)]
    if np.nanmin(values) == np.nanmax(values):
        return None
    # alpha = 1 - observed / expected disagreement, each the squared differences of pairs of ratings: of the same unit,
    # and of any two units. Pairs of a group of m, each once, come to m times the squares around the group's mean; the
    # divisor m - 1 is the number of others that a rating is paired with.
    raters = (~np.isnan(values)).sum(axis=0)  # (units,)
    observed = np.sum(raters / (raters - 1) * np.nansum((values - np.nanmean(values, axis=0)) ** 2, axis=0))
    n = raters.sum()
    expected = n / (n - 1) * np.nansum((values - np.nanmean(values)) ** 2)
    return float(1 - observed / expected)


def _mid_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def quadratic_kappa(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Cohen's kappa with quadratic weights of two raters, their scores rounded half up to whole points of the scale.

    Cohen 1968, "Weighted kappa": a difference of two points weighs four times as much as one of one point. None
    without any score, or where both gave every unit one and the same.
    """
    points = np.array([np.floor(np.asarray(scores, dtype=float) + 0.5) for scores in (a, b)]).astype(int)  # (2, units)
    if np.any((points < LOWEST) | (points > HIGHEST)):
        raise ValueError(f"a score is outside {LOWEST} to {HIGHEST}")
    scale = np.arange(LOWEST, HIGHEST + 1)
    shares = (points[:, :, None] == scale).mean(axis=1) if points.size else np.zeros((2, len(scale)))  # (2, scale)
    # The disagreement of two raters who keep their shares of each score and rate independently of each other.
    by_chance = shares[0] @ (scale[:, None] - scale) ** 2 @ shares[1]
    if by_chance == 0:
        return None
    return float(1 - np.mean((points[0] - points[1]) ** 2) / by_chance)


def spearman(
    a: Sequence[float], b: Sequence[float], items: Sequence[int], resamples: int = RESAMPLES, seed: int = 0
) -> Estimate | None:
    """Rank correlation of the scores of two judges, plan by plan, with a bootstrap interval over `items`: the plans of
    an item are drawn together, as they hang together (a cluster bootstrap, as in leap/judge/summary.py). None
    for fewer than three plans or a judge who gave all the same.
    """
    if len(a) < 3:  # two always correlate by 1 or -1
        return None
    sides = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    (correlation,) = _weighted_spearman(*sides, np.ones((1, len(a))))
    if np.isnan(correlation):
        return None
    names, item_of = np.unique(np.asarray(items), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = []
    at_once = max(1, _MOST_VALUES // len(a))
    for start in range(0, resamples, at_once):
        times = times_drawn(rng, min(at_once, resamples - start), len(names))
        drawn.append(_weighted_spearman(*sides, times[:, item_of]))
    return estimate_of_few(float(correlation), np.concatenate(drawn), len(names)).within(-1, 1)


def _weighted_spearman(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's correlation with plan i there weights[:, i] times: (resamples,), NaN where one side is constant.

    It is Pearson's correlation of mid-ranks. Weights in place of repeated plans rank all resamples at once: the rank of
    a value follows from how many plans are below it, which is a running sum over the sorted values.
    """
    total = weights.sum(axis=1, keepdims=True)
    centred = []
    for values in (a, b):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        starts = np.cumsum(counts) - counts
        in_order = weights[:, np.argsort(values, kind="stable")]
        counts_drawn = np.add.reduceat(in_order, starts, axis=1)  # (resamples, distinct values)
        ranks = np.cumsum(counts_drawn, axis=1) - counts_drawn / 2  # mid-ranks, less 1/2
        ranks = ranks[:, place]  # (resamples, plans)
        centred.append(ranks - (weights * ranks).sum(axis=1, keepdims=True) / total)
    x, y = centred
    spread = np.sqrt((weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (weights * x * y).sum(axis=1) / spread
    return np.where(spread > 1e-9, correlation, np.nan).clip(-1, 1)


def pair_verdict(model_first: str, base_first: str) -> str:
    """The verdict on a pair that was judged in both orders: a side wins only if both orders name it; all else is a tie,
    also where one order names a side and the other says tie.

    Language models prefer what stands first (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot
    Arena", section 3.4, from which this rule is).
    """
    return model_first if model_first == base_first else "tie"


def flip_rate(pairs: Iterable[tuple[str, str]]) -> float | None:
    """The share of pairs whose two orders contradict each other: one names the model, the other the base.

    `pairs` are the verdicts with the model first and with the base first. A side in one order and a tie in the other
    are no flip: nothing was taken back. None without pairs. A judge who always prefers what stands first has 1.
    """
    flips = [is_flip(*pair) for pair in pairs]
    return sum(flips) / len(flips) if flips else None


def is_flip(model_first: str, base_first: str) -> bool:
    """Whether the verdicts of the two orders name different sides."""
    return {model_first, base_first} == {"model", "base"}
