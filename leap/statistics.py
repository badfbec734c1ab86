"""Means with intervals: bootstrap over examples, Student t over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95

_MOST_DRAWS = 50_000  # at once: what fits into a processor's cache


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
        at_once = max(1, _MOST_DRAWS // len(values))
        for start in range(0, resamples, at_once):
            part = drawn[start : start + at_once]
            part += _times_drawn(rng, len(part), len(values)) @ values
    return mean, drawn / total


def _times_drawn(rng: np.random.Generator, resamples: int, n: int) -> np.ndarray:
    """How often each of n values is drawn in n draws with replacement: (resamples, n)."""
    drawn = rng.integers(n, size=(resamples, n), dtype=np.uint32) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)


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
