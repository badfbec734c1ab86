"""How the examples of a benchmark were drawn, and the interval of every mean over them, computed here alone.

Tasks are strata: a score is of these tasks, and how they differ does not widen its interval. Examples of a task that
share the words of their instruction (case, digits and blanks aside), and examples that share a scene (the same
picture), are one unit, as they fail together; what all examples of a task share is part of the task and makes no unit.
Examples are taken in the order of task and number, whoever asks.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leap.files import sha256_file
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS
from leap.statistics import Estimate, bounded_means
from leap.vlabench.examples import Example
from leap.vlabench.folder import ORIGIN_KINDS, ExampleKey

Origin = Mapping[str, str]  # "template" and "scene": hashes of what an example may share with others


def origin_of(example: Example) -> dict[str, str]:
    """The hashes of an example's instruction and of its plain picture, as far as these files are there."""
    origin = {}
    if example.instruction_file.is_file():
        words = re.sub(r"\d+", "#", " ".join(example.instruction().casefold().split()))
        origin["template"] = hashlib.sha256(words.encode()).hexdigest()[:12]
    if example.plain_image.is_file():
        origin["scene"] = sha256_file(example.plain_image)[:12]
    return origin


@dataclass(frozen=True)
class Sample:
    """Examples in their order; of each (examples,) the number of its stratum, of its unit and of its dimension."""

    places: list[tuple[str, ExampleKey]]
    strata: np.ndarray
    units: np.ndarray
    dimensions: np.ndarray

    def values(self, scores: Mapping[str, Mapping[ExampleKey, Sequence[float]]]) -> np.ndarray:
        """The scores (examples, columns) out of those by dimension and example."""
        return np.array([scores[dimension][key] for dimension, key in self.places], dtype=float)

    @property
    def macro_weights(self) -> np.ndarray:
        """What each example weighs, (examples,), where each dimension weighs the same."""
        return 1 / np.bincount(self.dimensions)[self.dimensions]

    def score_estimates(self, values: np.ndarray, scorer: str, *, macro: bool = False) -> dict[str, Estimate]:
        """The mean of each metric of `values` (examples, metrics) with its interval: over examples, or with `macro`
        over dimensions."""
        highest = np.array([MEASURES[f"{scorer}.{name}"].best for name in METRICS[scorer]], dtype=float)
        return dict(zip(METRICS[scorer], self.estimates(values, 0 * highest, highest, macro=macro), strict=True))

    def difference_estimate(self, gains: np.ndarray, largest: float, *, macro: bool = False) -> Estimate:
        """The same for differences (examples,), which are at most `largest` either way."""
        highest = np.array([float(largest)])
        return self.estimates(gains[:, None], -highest, highest, macro=macro)[0]

    def estimates(
        self, values: np.ndarray, lowest: np.ndarray, highest: np.ndarray, *, macro: bool = False
    ) -> list[Estimate]:
        """The mean of each column of `values` (examples, columns), which `lowest` and `highest` (columns,) bound."""
        weights = self.macro_weights if macro else None
        return bounded_means(values, self.strata, self.units, lowest, highest, weights)

    def unit_sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of `values` (examples,) over each unit, (units,): what a paired test may flip as a whole."""
        return np.bincount(self.units, values)[np.unique(self.units)]


def sample_of(keys: Mapping[str, Iterable[ExampleKey]], origins: Mapping[str, Mapping[ExampleKey, Origin]]) -> Sample:
    """The examples named by dimension; one without an origin shares nothing with others."""
    places = [(dimension, key) for dimension in keys for key in sorted(keys[dimension])]
    tasks = {place: i for i, place in enumerate(dict.fromkeys((dimension, key[0]) for dimension, key in places))}
    strata = np.array([tasks[dimension, key[0]] for dimension, key in places], dtype=int)
    units = _units(strata, [origins.get(dimension, {}).get(key, {}) for dimension, key in places])
    present = list(dict.fromkeys(dimension for dimension, _ in places))
    return Sample(places, strata, units, np.array([present.index(dimension) for dimension, _ in places], dtype=int))


def dimension_estimates(
    dimension: str,
    scores: Mapping[ExampleKey, Mapping[str, float]],
    origins: Mapping[ExampleKey, Origin],
    scorer: str,
) -> dict[str, Estimate]:
    """The means of one dimension by metric, with their intervals; {} without scores."""
    if not scores:
        return {}
    sample = sample_of({dimension: scores}, {dimension: origins})
    return sample.score_estimates(sample.values({dimension: metric_rows(scores, scorer)}), scorer)


def metric_rows(scores: Mapping[ExampleKey, Mapping[str, float]], scorer: str) -> dict[ExampleKey, list[float]]:
    """An example's scores in the order of METRICS."""
    return {key: [entry[name] for name in METRICS[scorer]] for key, entry in scores.items()}


def _units(strata: np.ndarray, origins: Sequence[Origin]) -> np.ndarray:
    """The number of each example's unit, (examples,): examples linked by a template of their task or by a scene."""
    strata_numbers = strata.tolist()  # Python's numbers, which are hashed faster
    parents = list(range(len(origins)))

    def root(i: int) -> int:
        while parents[i] != i:
            i = parents[i]
        return i

    for kind in ORIGIN_KINDS:
        first: dict[tuple, int] = {}
        values = [origin.get(kind) for origin in origins]
        shared: dict[int, set[str | None]] = defaultdict(set)
        for stratum, value in zip(strata_numbers, values, strict=True):
            shared[stratum].add(value)
        for i, (stratum, value) in enumerate(zip(strata_numbers, values, strict=True)):
            if value is not None and len(shared[stratum]) > 1:
                linked = first.setdefault((value, stratum if kind == "template" else None), i)
                if linked != i:
                    parents[root(i)] = root(linked)
    return np.array([root(i) for i in range(len(origins))], dtype=int)
