"""Means with intervals: bootstrap over examples, Student t over seeds. Paired tests, corrected for many.

- percentile bootstrap: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13
- resampling inside strata (tasks) and of whole clusters (items): Davison and Hinkley 1997, sections 3.2 and 3.8
- paired permutation test by random signs: Fisher 1935; p = (b + 1) / (m + 1): Phipson and Smyth 2010
- many tests: Holm 1979
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000  # of them, 50 lie beyond each bound: enough for a bound to move by little with the seed
PERMUTATIONS = 9999  # with the observed signs 10,000, so that p-values end after four digits
CONFIDENCE = 0.95

_MOST_DRAWS = 50_000  # at once: what fits into a processor's cache


@dataclass(frozen=True)
class Estimate:
    """A mean with its percentile-bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    def within(self, lowest: float, highest: float) -> Estimate:
        """The same with its interval cut to what the values can be."""
        return Estimate(self.mean, max(self.low, lowest), min(self.high, highest))


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
            part += times_drawn(rng, len(part), len(values)) @ values
    return mean, drawn / total


def times_drawn(rng: np.random.Generator, resamples: int, n: int) -> np.ndarray:
    """How often each of n values is drawn in n draws with replacement: (resamples, n)."""
    # Each resample counts in a range of numbers of its own, so that one bincount does for all.
    drawn = rng.integers(n, size=(resamples, n), dtype=np.uint32) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)


def clustered_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each column over the rows where it has a value, and its bootstrap distribution with whole rows resampled.

    `values` are (items, columns), NaN where there is none; a row holds all that hangs together because it is about one
    item, so that columns and their differences are paired. Returns (columns,) and (resamples, columns), NaN in
    resamples that drew no value.
    """
    has_value = ~np.isnan(values)
    sums, drawn = stratified_means([np.hstack([np.where(has_value, values, 0), has_value])], resamples, seed)
    # A mean is a ratio of two sums, of values and of how many there are; each resample has both of its own.
    columns = values.shape[1]
    with np.errstate(invalid="ignore"):
        return sums[:columns] / sums[columns:], drawn[:, :columns] / drawn[:, columns:]


def estimates(mean: np.ndarray, drawn: np.ndarray) -> list[Estimate]:
    """One Estimate a metric from a mean (metrics,) and its bootstrap distribution (resamples, metrics)."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return [Estimate(float(m), float(a), float(b)) for m, a, b in zip(mean, low, high, strict=True)]


def estimate_of_few(mean: float, drawn: np.ndarray, items: int) -> Estimate:
    """An Estimate of a mean over few `items` from its bootstrap distribution (resamples,), NaN left out.

    Percentiles of few values are too narrow: these are further out by as much as Student's t with its unbiased variance
    is wider than the normal (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", expanded percentile).
    One item bounds nothing: its interval is infinite.
    """
    if items < 2:
        return Estimate(float(mean), -np.inf, np.inf)
    from scipy.stats import norm, t

    tail = 100 * float(norm.cdf(t.ppf((1 - CONFIDENCE) / 2, items - 1) * np.sqrt(items / (items - 1))))
    # Rounded, as a bound that is zero but for rounding would tell a difference from zero.
    low, high = np.nanpercentile(drawn, [tail, 100 - tail]).round(12)
    return Estimate(float(mean), float(low), float(high))


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of independent runs with its Student t interval. ValueError for fewer than two: they have none."""
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError("an interval over seeds needs two at least")
    mean = float(np.mean(values))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)


def paired_p_value(differences: Sequence[float] | np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """Two-sided p-value of a paired permutation test: the sum of the differences against those under random signs.

    Exact where there are no more sign patterns than `permutations`. Otherwise p = (b + 1) / (m + 1), as the observed
    signs count as one of the drawn: b / m would be 0 where no draw reaches the sum, and p-values that can be 0 reject
    too often (Phipson and Smyth 2010). Differences of zero change no sum and are left out. ValueError without any.
    As scipy.stats.permutation_test(permutation_type="samples"), which takes minutes for thousands of examples.
    """
    values = np.asarray(differences, dtype=float)
    if not len(values):
        raise ValueError("nothing to compare")
    values = values[values != 0]
    # Sums that are equal but for rounding count as equal.
    reached = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    n = len(values)
    if n < 64 and 2**n <= permutations:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1  # (2^n, n): 1 for plus, 0 for minus
        # The sum under signs s is that of (2 s - 1) times the values.
        return float(np.mean(np.abs(patterns @ (2 * values) - values.sum()) >= reached))
    rng = np.random.default_rng(seed)
    hits, at_once = 1, max(1, _MOST_DRAWS // n)
    for start in range(0, permutations, at_once):
        rows = min(at_once, permutations - start)
        bits = rng.integers(256, size=(rows, -(-n // 8)), dtype=np.uint8)
        patterns = np.unpackbits(bits, axis=1, count=n).astype(float)
        hits += int(np.sum(np.abs(patterns @ (2 * values) - values.sum()) >= reached))
    return hits / (permutations + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several tests (Holm 1979), in the order given: each bounds the family-wise error."""
    # The smallest of k p-values is multiplied by k, the next by k - 1, ...; none may be below the one before it.
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted.tolist()
