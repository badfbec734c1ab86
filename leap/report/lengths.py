"""Scores by the length of the ground truth, with their intervals: of one model, over all dimensions and in each.

    {"" (all dimensions) or dimension: {steps: {"examples": n, metric of METRICS_BY_LENGTH: [mean, low, high]}}}

Low and high are null where there is no interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from leap.plans.measures import MEASURES
from leap.report.headline import rounded
from leap.vlabench.folder import ExampleKey
from leap.vlabench.sampling import Origin, sample_of

METRICS_BY_LENGTH = ("total_score", "plan_success")  # grounded

Scores = Mapping[ExampleKey, Mapping[str, float]]


def scores_by_length(
    scores: Mapping[str, Mapping[int, Scores]], origins: Mapping[str, Mapping[ExampleKey, Origin]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """The form above, out of a model's grounded scores by dimension and length, and origins by dimension."""
    scopes = {"": list(scores)} | {dimension: [dimension] for dimension in scores}
    by_scope = {}
    for scope, dimensions in scopes.items():
        by_length: dict[int, dict[str, Scores]] = defaultdict(dict)
        for dimension in dimensions:
            for length, of_length in scores[dimension].items():
                by_length[length][dimension] = of_length
        by_scope[scope] = {str(length): _estimates(by_length[length], origins) for length in sorted(by_length)}
    return by_scope


def _estimates(
    scores: Mapping[str, Scores], origins: Mapping[str, Mapping[ExampleKey, Origin]]
) -> dict[str, int | list[float | None]]:
    sample = sample_of(scores, origins)
    values = sample.values(
        {
            dimension: {key: [entry[name] for name in METRICS_BY_LENGTH] for key, entry in entries.items()}
            for dimension, entries in scores.items()
        }
    )
    highest = np.array([MEASURES[f"grounded.{name}"].best for name in METRICS_BY_LENGTH], dtype=float)
    estimates = sample.estimates(values, 0 * highest, highest)
    return {"examples": len(values), **dict(zip(METRICS_BY_LENGTH, map(rounded, estimates), strict=True))}
