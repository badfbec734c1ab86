"""Means with intervals: over examples, over the items of a review, over seeds. Paired tests, corrected for many.

- means of bounded values: Bayesian bootstrap (Rubin 1981) with one more value that was not seen, as Gaffke 2005 puts it
  at the bound (see Learned-Miller and Thomas 2019, arXiv:1905.06208); for rates that is Clopper and Pearson 1934
- strata (tasks) and units (what was drawn together): Cochran 1977, Sampling Techniques, sections 5A.12 and 11.4
- paired permutation test by random signs: Fisher 1935; p = (b + 1) / (m + 1): Phipson and Smyth 2010
- many tests: Holm 1979

The seed of all draws is SEED: the same values give the same interval wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REACH = 1 / 3  # of the way to the bound: see `bounded_means`
RESAMPLES = 2000  # of them, 50 lie beyond each bound: enough for a bound to move by little with the seed
PERMUTATIONS = 9999  # with the observed signs 10,000, so that p-values end after four digits
CONFIDENCE = 0.95
SEED = 0

_TAIL = (1 - CONFIDENCE) / 2
_ROUNDING = 1e-9
_MOST_DRAWS = 50_000  # at once: what fits into a processor's cache


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, in the unit of the values; without one (None) where nothing tells its width."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """What a figure draws: the interval, of no length where there is none."""
        return (self.mean, self.mean) if self.low is None or self.high is None else (self.low, self.high)

    def text(self, form: str = ".1f") -> str:
        """As in "76.0 (75.3 to 76.8)"."""
        if self.low is None or self.high is None:
            return f"{self.mean:{form}} (no interval)"
        return f"{self.mean:{form}} ({self.low:{form}} to {self.high:{form}})"

    def within(self, lowest: float, highest: float) -> Estimate:
        """The same with its interval cut to what the values can be."""
        return Estimate(self.mean, max(self.ends[0], lowest), min(self.ends[1], highest))


def bounded_means(
    values: np.ndarray,
    strata: np.ndarray,
    units: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
    weights: np.ndarray | None = None,
) -> list[Estimate]:
    """The mean of each column of `values` (examples, columns) with its interval, by `weights` (examples,) or plainly.

    `strata` (examples,) number the tasks, whose differences do not widen the interval; `units` (examples,) what was
    drawn at once: examples of one unit count as one observation. `lowest` and `highest` (columns,) bound the values.
    Where no stratum has two units, nothing tells how examples vary, and there is no interval. ValueError for no values.

    1. Each unit's deviation is the sum of those of its examples from the mean of their stratum, times sqrt(k / (k - 1))
       for the k units there, so that the variance of the mean is the unbiased one, and further out by as much as
       Student's t is than the normal, for that variance is an estimate.
    2. A draw weighs the units, and one unit more that was not seen, by exponential numbers. That unit is as far from
       the mean as the farthest one seen, and a third of the way to the bound at least; where all agree, it is at the
       bound: 40 right of 40 is 91 to 100, not 100 to 100.
    3. The low end is the 2.5 % point of the draws with that unit below the mean, the high end the 97.5 % point with it
       above.

    With the unit always at the bound (Gaffke) no values of that range can fool the interval, but eight instructions
    whose scores are 62 to 75 get 40 to 82. A third is the least with which the coverage of docs/evaluation.md holds.
    """
    if not len(values):
        raise ValueError("no values to average")
    values = np.asarray(values, dtype=float)
    # Rounded, so that weights of 1/3 do not make 79.99999999999999 of 80.
    mean = values.mean(axis=0) if weights is None else np.average(values, axis=0, weights=weights).round(12)
    weights = np.ones(len(values)) if weights is None else weights
    weights = weights / weights.sum()
    units = np.unique(units, return_inverse=True)[1]
    joined = _joined_strata(strata, units)
    if joined is None:
        return [Estimate(float(value)) for value in mean]
    if units.max() + 1 == len(values) and np.ptp(weights) == 0:
        is_rate = ((values == lowest) | (values == highest)).all(axis=0)
    else:
        is_rate = np.zeros(len(mean), dtype=bool)
    ends = _drawn_ends(mean, values, joined, units, weights, lowest, highest)
    ends = np.where(is_rate, _rate_ends(mean, len(values), lowest, highest), ends)
    low, high = np.clip(ends[0], lowest, mean), np.clip(ends[1], mean, highest)
    return [Estimate(float(m), float(a), float(b)) for m, a, b in zip(mean, low, high, strict=True)]


def _joined_strata(strata: np.ndarray, units: np.ndarray) -> np.ndarray | None:
    """Strata as numbers, those of one unit joined (a "collapsed" stratum, which errs to the wide side), if need be with
    the smallest other one; None if each has one unit only."""
    strata = np.unique(strata, return_inverse=True)[1]
    counts = _units_of_strata(strata, units)
    if counts.max() < 2:
        return None
    alone = np.flatnonzero(counts == 1)
    if len(alone) == 1:
        alone = np.append(alone, np.argmin(np.where(counts > 1, counts, np.inf)))
    joined = np.where(np.isin(strata, alone), -1, strata)
    return np.unique(joined, return_inverse=True)[1]


def _units_of_strata(strata: np.ndarray, units: np.ndarray) -> np.ndarray:
    """How many units have examples in each stratum: (strata,)."""
    return np.bincount(np.unique(np.stack([strata, units]), axis=1)[0])


def _drawn_ends(
    mean: np.ndarray,
    values: np.ndarray,
    strata: np.ndarray,
    units: np.ndarray,
    weights: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
) -> np.ndarray:
    """Both ends of each column's interval, (2, columns), by steps 1 to 3 of `bounded_means`."""
    counts = _units_of_strata(strata, units)
    in_stratum = np.zeros((len(counts), values.shape[1]))
    np.add.at(in_stratum, strata, weights[:, None] * values)
    in_stratum /= np.bincount(strata, weights)[:, None]
    # Strata of one unit that lies in others too (a scene of two tasks) deviate by nothing.
    spread = np.sqrt(counts / np.maximum(counts - 1, 1)) * _further_by_t((counts - 1).sum())
    deviations = np.zeros((units.max() + 1, values.shape[1]))  # (units, columns)
    np.add.at(deviations, units, (weights * spread[strata])[:, None] * (values - in_stratum[strata]))
    sizes = np.bincount(units, weights)
    farthest = np.abs(deviations / sizes[:, None]).max(axis=0)  # (columns,)
    farthest[farthest < _ROUNDING * (highest - lowest)] = np.inf
    below = np.maximum(mean - np.maximum(farthest, REACH * (mean - lowest)), lowest)
    above = np.minimum(mean + np.maximum(farthest, REACH * (highest - mean)), highest)
    draws = _exponentials(len(sizes) + 1)
    size = (sizes @ draws[1:])[:, None]  # (resamples, 1)
    total = size * mean + (deviations.T @ draws[1:]).T  # (resamples, columns)
    # As large as the unit that a random example lies in.
    unseen = (draws[0] * (sizes @ sizes))[:, None]
    low = np.quantile((total + unseen * below) / (size + unseen), _TAIL, axis=0)
    high = np.quantile((total + unseen * above) / (size + unseen), 1 - _TAIL, axis=0)
    return np.stack([low, high])


def _further_by_t(freedom: int) -> float:
    """How much further out a bound of Student's t with so many degrees of freedom is than one of the normal."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(freedom, 1 - _TAIL) / ndtri(1 - _TAIL))


_weights: list[np.ndarray] = []  # the most rows drawn so far: fewer are the first of them


def _exponentials(count: int) -> np.ndarray:
    """(count, resamples) weights of a Bayesian bootstrap."""
    if not _weights or len(_weights[0]) < count:
        draws = np.random.default_rng(SEED).standard_exponential((count, RESAMPLES))
        draws.setflags(write=False)
        _weights[:] = [draws]
    return _weights[0][:count]


def _rate_ends(mean: np.ndarray, n: int, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Both ends, (2, columns), of n independent values that are each `lowest` or `highest` (Clopper and Pearson 1934).
    It errs to the wide side where strata have different rates (Hoeffding 1956)."""
    from scipy.special import betaincinv

    hits = np.clip(np.round(n * (mean - lowest) / (highest - lowest)), 0, n)
    low = np.where(hits == 0, 0, betaincinv(np.maximum(hits, 1), n - hits + 1, _TAIL))
    high = np.where(hits == n, 1, betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - _TAIL))
    return lowest + np.stack([low, high]) * (highest - lowest)


def times_drawn(rng: np.random.Generator, resamples: int, n: int) -> np.ndarray:
    """How often each of n values is drawn in n draws with replacement: (resamples, n)."""
    # Each resample counts in a range of numbers of its own, so that one bincount does for all.
    drawn = rng.integers(n, size=(resamples, n), dtype=np.uint32) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)


def estimate_of_few(mean: float, drawn: np.ndarray, items: int) -> Estimate:
    """An Estimate of a statistic over few `items` from its bootstrap distribution (resamples,), NaN left out.

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


def paired_p_value(
    differences: Sequence[float] | np.ndarray, permutations: int = PERMUTATIONS, seed: int = SEED
) -> float:
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
