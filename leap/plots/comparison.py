"""Models side by side: totals, the metrics that they are made of, and the improvement over the base.

Up to six models are grouped bars; more are lines of dots, a panel a column, which stay readable for dozens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from configs.config import DIMENSIONS
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS, TOPS, WEIGHTS
from leap.plots.labels import short_names
from leap.plots.marks import (
    EstimateTable,
    dots,
    grouped_bars,
)
from leap.plots.style import (
    MACRO,
    SIZE,
    PublishedTotals,
    Style,
    clean_published,
    column_title,
    columns_with_results,
    finish,
    model_styles,
    note_on_counts,
    note_on_examples,
    notes_on_missing,
    plt,
    scale,
    totals,
)
from leap.vlabench.compare import Improvement
from leap.vlabench.tables import Overall

MOST_BARS = 6  # in a group

# What the total is the sum of, by the rules of leap.plans.scoring: the official sum stops after two.
_TERMS = tuple(WEIGHTS.items())
TERMS = {"official": _TERMS[:2], "grounded": _TERMS}


def totals_by_dimension(models: Mapping[str, Overall], scorer: str, published: PublishedTotals | None = None) -> Figure:
    """Total score of each model in each dimension with its interval; what a model lacks is marked, not zero."""
    rows = {name: totals(scores) for name, scores in models.items()}
    columns = columns_with_results(rows)
    top = TOPS[scorer]
    return _bars_or_dots(
        f"Total score by dimension, {scorer} rules, with 95 % intervals",
        scale(MEASURES[f"{scorer}.total_score"]),
        rows,
        columns,
        (0, top),
        model_styles(models),
        [*note_on_examples(models), *notes_on_missing(rows, columns)],
        published,
    )


def metrics_overall(models: Mapping[str, Overall], scorer: str) -> Figure:
    """Each metric but the total with its interval: mean of the dimensions, or if no model has all, in the dimension
    that most have. A note says which of them the total is the sum of."""
    scope = _common_ground(models)
    titles = {metric: MEASURES[f"{scorer}.{metric}"].short for metric in METRICS[scorer] if metric != "total_score"}
    rows: dict[str, dict] = {}
    for name, scores in models.items():
        metrics = scores.dimensions.get(scope, {}) if scope != MACRO else scores.macro if scores.complete else {}
        rows[name] = {title: metrics[metric] for metric, title in titles.items() if metric in metrics}
    scope_title = "mean of dimensions" if scope == MACRO else column_title(scope)
    terms = " + ".join(f"{weight:g} x {titles[metric]}" for metric, weight in TERMS[scorer])
    notes = [f"The total score is {terms}.", *note_on_examples(models)]
    if not all(rows.values()):
        needs = "all six dimensions under the same settings" if scope == MACRO else scope_title
        notes.append(f"n/a: has no results in {needs}.")
    return _bars_or_dots(
        f"{scorer.capitalize()} metrics, {scope_title}, with 95 % intervals",
        f"score, {scope_title} (0 to 100)",
        rows,
        list(titles.values()),
        (0, 100),
        model_styles(models),
        notes,
    )


def improvement(
    models: Mapping[str, Overall], differences: Mapping[str, Improvement], base: str, scorer: str
) -> Figure:
    """Each model's total score less that of `base` over the same examples, with its paired interval, in points."""
    rows: dict[str, dict] = {}
    for name, scores in models.items():
        if name != base:
            difference = differences.get(name)
            rows[name] = dict(difference.dimensions) if difference else {}
            if difference and difference.macro and scores.complete and models[base].complete:
                rows[name][MACRO] = difference.macro
    columns = columns_with_results(rows)
    labels = short_names(models)
    notes = note_on_counts([d.examples for name, d in differences.items() if name in rows], "pairs of answers.")
    partly = [(name, d) for name, d in differences.items() if d.unpaired and name in rows]
    if partly:
        cases = ", ".join(f"{labels[name]} {d.examples} ({d.unpaired} left out)" for name, d in partly[:3])
        more = f", and {len(partly) - 3} models more" if len(partly) > 3 else ""
        notes.append(f"Only examples that both answered count: {cases}{more}.")
    return _bars_or_dots(
        f"Total score over {labels[base]}, {scorer} rules: same examples, 95 % paired intervals",
        f"points over {labels[base]}, {scorer}",
        rows,
        columns,
        None,
        model_styles(models),
        [*notes, *notes_on_missing(rows, columns)],
    )


def _bars_or_dots(
    title: str,
    axis: str,
    rows: EstimateTable,
    columns: Sequence[str],
    limits: tuple[float, float] | None,
    styles: Mapping[str, Style],
    notes: Sequence[str],
    published: PublishedTotals | None = None,
) -> Figure:
    """`limits` of the values, or None for differences around zero."""
    published = clean_published(published)
    if len(rows) > MOST_BARS:
        figure = dots(axis, columns, rows, limits, published)
        if limits is None:
            notes = ["Hollow: the interval holds zero.", *notes]
        return finish(figure, title, {}, notes, published=bool(published))
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    bars = grouped_bars(axes, columns, rows, styles, published)
    if MACRO in columns:
        axes.axvline(columns.index(MACRO) - 0.5, color="0.7", linewidth=0.8)
    if len(columns) < 3:
        axes.set_xlim(-1.2, len(columns) + 0.2)  # bars as wide as usual
    if limits:
        axes.set_ylim(limits[0], limits[1] * 1.03)
    else:
        axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(axis)
    labels = short_names(bars)
    return finish(figure, title, {labels[name]: mark for name, mark in bars.items()}, notes, published=bool(published))


def _common_ground(models: Mapping[str, Overall]) -> str:
    """Where models compare: the mean of all dimensions if any has it, else the dimension that most of them have."""
    if any(scores.complete for scores in models.values()):
        return MACRO
    counts = {dimension: sum(dimension in scores.dimensions for scores in models.values()) for dimension in DIMENSIONS}
    return max(counts, key=lambda dimension: counts[dimension])
