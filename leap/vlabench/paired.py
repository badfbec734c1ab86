"""How much better a model is than another on the same examples: a paired bootstrap, stratified by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.config import DIMENSIONS
from leap.files import read_json
from leap.statistics import Estimate, estimates, stratified_means
from leap.vlabench.results import SCORE_FILES

# The score of each example of a dimension: {(task, example number as text): score}.
ExampleScores = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Difference:
    """The mean difference of two models over the examples that both answered, by dimension, in points.

    `macro` is the mean of the six dimensions, None where one is missing. `unpaired` counts the examples that only one
    of the two answered, of the dimensions that both have.
    """

    dimensions: dict[str, Estimate]
    macro: Estimate | None
    examples: int
    unpaired: int


def example_scores(results: Path, model: str, scorer: str, metric: str = "total_score") -> dict[str, ExampleScores]:
    """Per-example scores of a model by dimension, as far as it has results."""
    found = {}
    for dimension in DIMENSIONS:
        path = results / dimension / model / SCORE_FILES[scorer]
        by_task = read_json(path) if path.is_file() else {}
        scores = {
            (task, number): float(entry[metric])
            for task, examples in by_task.items()
            if task != "benchmeatinfo"  # VLABench's own extra
            for number, entry in examples.items()
        }
        if scores:
            found[dimension] = scores
    return found


def differences_from(
    results: Path, models: Sequence[str], base: str, scorer: str, metric: str = "total_score"
) -> dict[str, Difference]:
    """The difference of each model (but `base`) from `base`. A model that shares no example with it is left out."""
    origin = example_scores(results, base, scorer, metric)
    scores = {name: example_scores(results, name, scorer, metric) for name in models if name != base}
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {name: {} for name in scores}
    paired, unpaired = dict.fromkeys(scores, 0), dict.fromkeys(scores, 0)
    for seed, dimension in enumerate(DIMENSIONS):
        # Models with the same examples share one resampling, which is what costs time.
        alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for name, of_model in scores.items():
            here, there = origin.get(dimension, {}).keys(), of_model.get(dimension, {}).keys()
            both = here & there
            paired[name] += len(both)
            unpaired[name] += len(here ^ there) if here and there else 0
            if both:
                alike.setdefault(tuple(sorted(both)), []).append(name)
        for keys, names in alike.items():
            strata: dict[str, list[list[float]]] = {}
            for key in keys:
                row = [scores[name][dimension][key] - origin[dimension][key] for name in names]
                strata.setdefault(key[0], []).append(row)
            # A seed a dimension, so that the draws of the dimensions are independent.
            mean, drawn = stratified_means([np.array(rows) for rows in strata.values()], seed=seed)
            for i, name in enumerate(names):
                found[name][dimension] = (mean[i : i + 1], drawn[:, i : i + 1])
    differences = {}
    for name, by_dimension in found.items():
        if by_dimension:
            differences[name] = Difference(
                {dimension: estimates(*of)[0] for dimension, of in by_dimension.items()},
                _macro(by_dimension),
                paired[name],
                unpaired[name],
            )
    return differences


def _macro(by_dimension: dict[str, tuple[np.ndarray, np.ndarray]]) -> Estimate | None:
    if len(by_dimension) < len(DIMENSIONS):
        return None
    means, draws = zip(*by_dimension.values(), strict=True)
    return estimates(np.mean(means, axis=0), np.mean(draws, axis=0))[0]
