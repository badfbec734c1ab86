"""Means of a model over dimensions, and the table of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS, SCORER_VERSIONS
from leap.statistics import Estimate
from leap.text import markdown_table
from leap.vlabench.compare import percent_text
from leap.vlabench.draws import draw_notes
from leap.vlabench.folder import result_folders
from leap.vlabench.published import Published, published_notes, published_rows
from leap.vlabench.sampling import dimension_estimates, metric_rows, sample_of


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
    counts: Mapping[str, int] = field(default_factory=dict)  # examples by dimension

    @property
    def complete(self) -> bool:
        """Whether all six dimensions are there under the same settings; other means are not comparable."""
        return len(self.dimensions) == len(DIMENSIONS) and not self.mixed


def overall(results: Path, model: str, scorer: str) -> Overall | None:
    """Means and intervals over the dimensions a model has (missing ones are left out), or None if it has no scores."""
    folders = [folder for folder in result_folders(results, model).values() if folder.scores(scorer)]
    if not folders:
        return None
    scores = {folder.dimension: metric_rows(folder.scores(scorer), scorer) for folder in folders}
    sample = sample_of(scores, {folder.dimension: folder.origins for folder in folders})
    values = sample.values(scores)
    settings = [folder.settings for folder in folders if folder.settings]
    return Overall(
        sample.score_estimates(values, scorer, macro=True),
        sample.score_estimates(values, scorer),
        {
            folder.dimension: dimension_estimates(folder.dimension, folder.scores(scorer), folder.origins, scorer)
            for folder in folders
        },
        len(values),
        mixed=any(other != settings[0] for other in settings),
        settings=settings[0] if settings else {},
        scorer_version=min(folder.scorers.get(scorer, 1) for folder in folders),
        counts={dimension: len(rows) for dimension, rows in scores.items()},
    )


def overalls_of(results: Path, models: Iterable[str]) -> dict[str, dict[str, Overall | None]]:
    """`overall` of each model by each scorer."""
    return {model: {scorer: overall(results, model, scorer) for scorer in METRICS} for model in models}


# The scores of the results table.
_TABLE = (
    "official.total_score",
    "grounded.total_score",
    "grounded.skill_match_score",
    "grounded.entity_match_score",
    "grounded.plan_success",
)


def results_table(
    results: Path, models: Sequence[str], published: Sequence[Published] = (), relative_to: str | None = None
) -> str:
    """Markdown: one row a model and score, dimensions as columns (missing: "-"), macro and micro with intervals; with
    `relative_to` also how far the macro mean is above that of this model, in points and per cent.

    Numbers of others (`published`) come below the measured ones of the same score, marked, or behind all rows if their
    score is not in this table; what is known of them stands below the table.
    """
    over = [f"macro over {relative_to}"] if relative_to else []
    rows = [["score", "model", *DIMENSIONS, "macro (95 %)", "micro (95 %)", "n", *over]]
    means = overalls_of(results, models)
    base = overalls_of(results, [relative_to])[relative_to] if relative_to else {}
    for key in dict.fromkeys([*_TABLE, *(score.score for entry in published for score in entry.scores)]):
        title = MEASURES[key].label if key in MEASURES else key
        if key in _TABLE:
            scorer, metric = key.split(".")
            for model in models:
                gain = [_gain_text(base[scorer], means[model][scorer], metric)] if relative_to else []
                rows.append([title, model, *_cells(means[model][scorer], metric), *gain])
        rows += [[title, *cells, *([""] if relative_to else [])] for cells in published_rows(published, key)]
    drawn = "\n".join(draw_notes(results, models))
    return "\n\n".join(filter(None, (markdown_table(rows), drawn, _scorer_notes(means), published_notes(published))))


def _gain_text(base: Overall | None, means: Overall | None, metric: str) -> str:
    """How far a model's macro mean is above the base's, where both have the same dimensions, as in "+3.2 (+8 %)"."""
    if base is None or means is None or base.dimensions.keys() != means.dimensions.keys():
        return "-"
    a, b = base.macro[metric].mean, means.macro[metric].mean
    return f"{b - a:+.1f} ({percent_text(a, b)})"


def _scorer_notes(means: Mapping[str, Mapping[str, Overall | None]]) -> str:
    """Which versions of the scorers made the numbers, and which models an earlier one scored."""
    versions = " and ".join(f"{scorer} version {version}" for scorer, version in SCORER_VERSIONS.items())
    earlier = [
        f"{model} ({scorer} version {scores.scorer_version})"
        for scorer in METRICS
        for model, by_scorer in means.items()
        if (scores := by_scorer[scorer]) and scores.scorer_version != SCORER_VERSIONS[scorer]
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
    spans = [means.macro[metric].text(), means.micro[metric].text()]
    if len(means.dimensions) < len(DIMENSIONS):
        spans = [f"{span} over {len(means.dimensions)} of {len(DIMENSIONS)}" for span in spans]
    if means.mixed:
        spans = ["not one model"] * 2
    return [*cells, *spans, str(means.examples)]
