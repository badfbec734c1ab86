"""Means with intervals: bootstrap over examples, Student t over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its percentile-bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def stratified_means(
    strata: Sequence[np.ndarray], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over all examples of all strata, and its bootstrap distribution with resampling inside each stratum.

    `strata` are arrays (examples, metrics); a stratum is a task. Returns (metrics,) and (resamples, metrics).
    """
    rng = np.random.default_rng(seed)
    total = sum(len(values) for values in strata)
    if total == 0:
        raise ValueError("no values to average")
    mean = sum(values.sum(axis=0) for values in strata) / total
    drawn = np.zeros((resamples, strata[0].shape[1]))
    for values in strata:
        n = len(values)
        drawn += rng.multinomial(n, np.full(n, 1 / n), size=resamples) @ values
    return mean, drawn / total


def estimates(mean: np.ndarray, drawn: np.ndarray) -> list[Estimate]:
    """One Estimate a metric from a mean (metrics,) and its bootstrap distribution (resamples, metrics)."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return [Estimate(float(m), float(a), float(b)) for m, a, b in zip(mean, low, high, strict=True)]


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of independent runs with its Student t interval. ValueError for fewer than two: they have none."""
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError("an interval over seeds needs two at least")
    mean = float(np.mean(values))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)
