"""Means of a model over dimensions, and the table of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from configs.config import DIMENSIONS
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS, SCORER_VERSIONS
from leap.statistics import Estimate, estimates, stratified_means
from leap.text import markdown_table
from leap.vlabench.folder import ResultFolder, result_folders
from leap.vlabench.published import Published, published_notes, published_rows


@dataclass(frozen=True)
class Overall:
    """A model over all dimensions it has: macro is the mean of dimensions, micro the mean of examples, by metric."""

    macro: dict[str, Estimate]
    micro: dict[str, Estimate]
    dimensions: dict[str, dict[str, Estimate]]
    examples: int
    mixed: bool = False  # whether dimensions were answered by different weights or under different settings
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the first dimension; {} where they are not known
    scorer_version: int = 0  # the earliest one of the dimensions

    @property
    def complete(self) -> bool:
        """Whether all six dimensions are there under the same settings; other means are not comparable."""
        return len(self.dimensions) == len(DIMENSIONS) and not self.mixed


def overall(results: Path, model: str, scorer: str) -> Overall | None:
    """Means and intervals over the dimensions a model has (missing ones are left out), or None if it has no scores."""
    names = METRICS[scorer]
    means, draws, strata, by_dimension, settings, versions = [], [], [], {}, [], []
    for seed, folder in enumerate(result_folders(results, model).values()):
        tasks = _scores_by_task(folder, scorer)
        if not tasks:
            continue
        # A seed of its own, so that the draws of the dimensions are independent and their mean has the right width.
        mean, drawn = stratified_means(tasks, seed=seed)
        means.append(mean)
        draws.append(drawn)
        strata += tasks
        by_dimension[folder.dimension] = dict(zip(names, estimates(mean, drawn), strict=True))
        settings += [folder.settings] if folder.settings else []
        versions.append(folder.scorers.get(scorer, 1))
    if not means:
        return None
    macro = estimates(np.mean(means, axis=0), np.mean(draws, axis=0))
    micro = estimates(*stratified_means(strata))
    return Overall(
        dict(zip(names, macro, strict=True)),
        dict(zip(names, micro, strict=True)),
        by_dimension,
        sum(map(len, strata)),
        mixed=any(other != settings[0] for other in settings),
        settings=settings[0] if settings else {},
        scorer_version=min(versions),
    )


def _scores_by_task(folder: ResultFolder, scorer: str) -> list[np.ndarray]:
    """An array (examples, metrics) a task."""
    rows: dict[str, list[list[float]]] = {}
    for (task, _), entry in folder.scores(scorer).items():
        rows.setdefault(task, []).append([entry[name] for name in METRICS[scorer]])
    return [np.array(values, dtype=float) for values in rows.values()]


# The scores of the results table.
_TABLE = (
    "official.total_score",
    "grounded.total_score",
    "grounded.skill_match_score",
    "grounded.entity_match_score",
    "grounded.plan_success",
)


def results_table(results: Path, models: Sequence[str], published: Sequence[Published] = ()) -> str:
    """Markdown: one row a model and score, dimensions as columns (missing: "-"), macro and micro with intervals.

    Numbers of others (`published`) come below the measured ones of the same score, marked, or behind all rows if their
    score is not in this table; what is known of them stands below the table.
    """
    rows = [["score", "model", *DIMENSIONS, "macro (95 %)", "micro (95 %)", "n"]]
    means = {(scorer, model): overall(results, model, scorer) for scorer in METRICS for model in models}
    for key in dict.fromkeys([*_TABLE, *(score.score for entry in published for score in entry.scores)]):
        title = MEASURES[key].label if key in MEASURES else key
        if key in _TABLE:
            scorer, metric = key.split(".")
            rows += [[title, model, *_cells(means[scorer, model], metric)] for model in models]
        rows += [[title, *cells] for cells in published_rows(published, key)]
    return "\n\n".join(filter(None, (markdown_table(rows), _scorer_notes(means), published_notes(published))))


def _scorer_notes(means: Mapping[tuple[str, str], Overall | None]) -> str:
    """Which versions of the scorers made the numbers, and which models an earlier one scored."""
    versions = " and ".join(f"{scorer} version {version}" for scorer, version in SCORER_VERSIONS.items())
    earlier = [
        f"{model} ({scorer} version {scores.scorer_version})"
        for (scorer, model), scores in means.items()
        if scores and scores.scorer_version != SCORER_VERSIONS[scorer]
    ]
    if not earlier:
        return f"Scored by {versions}."
    return (
        f"Scored by {versions}, but {', '.join(earlier)}: these numbers do not compare. Score all again: "
        "python scripts/evaluation/rescore.py"
    )


def _cells(means: Overall | None, metric: str) -> list[str]:
    """A row of the results table, behind score and model."""
    if means is None:
        return [*["-"] * (len(DIMENSIONS) + 2), "0"]
    cells = [f"{means.dimensions[d][metric].mean:.1f}" if d in means.dimensions else "-" for d in DIMENSIONS]
    spans = [f"{e.mean:.1f} ({e.low:.1f} to {e.high:.1f})" for e in (means.macro[metric], means.micro[metric])]
    if len(means.dimensions) < len(DIMENSIONS):
        spans = [f"{span} over {len(means.dimensions)} of {len(DIMENSIONS)}" for span in spans]
    if means.mixed:
        spans = ["not one model"] * 2
    return [*cells, *spans, str(means.examples)]
