"""Models side by side: totals, metrics, what a total is made of, and the improvement over the base.

Up to six models are grouped bars; more are lines of dots, a panel a column, which stay readable for dozens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from configs.config import DIMENSIONS
from leap.plans.scoring import TOPS, WEIGHTS
from leap.plots.labels import short_names
from leap.plots.marks import (
    Rows,
    by_family,
    dots,
    draw_intervals,
    draw_published,
    grouped_bars,
    panels_of_lines,
    write,
    write_missing,
)
from leap.plots.style import (
    COLORS,
    HATCHES,
    MACRO,
    SIZE,
    Look,
    Published,
    clean_published,
    columns_with_results,
    finish,
    model_looks,
    notes_on_missing,
    plt,
    totals,
)
from leap.vlabench.compare import Improvement
from leap.vlabench.tables import Overall

MOST_BARS = 6  # in a group

METRIC_TITLES = {
    "skill_match_score": "skills",
    "entity_match_score": "entities",
    "skill_with_entity_match_score": "skill with entity",
    "exact_match_score": "exact sub-tasks",
    "plan_success": "whole plan",
    "edit_similarity": "edit similarity",
    "precision": "precision",
}

# What the total is the sum of, by the rules of leap.plans.scoring: the official sum stops after two.
_TERMS = tuple(WEIGHTS.items())
TERMS = {"official": _TERMS[:2], "grounded": _TERMS}


def totals_by_dimension(models: Mapping[str, Overall], scorer: str, published: Published | None = None) -> Figure:
    """Total score of each model in each dimension with its interval; what a model lacks is marked, not zero."""
    rows = {name: totals(found) for name, found in models.items()}
    columns = columns_with_results(rows)
    top = TOPS[scorer]
    return _bars_or_dots(
        f"Total score by dimension, {scorer} rules, with 95 % bootstrap intervals",
        f"total score, {scorer} (0 to {top})",
        rows,
        columns,
        (0, top),
        model_looks(models),
        notes_on_missing(rows, columns),
        published,
    )


def metrics_overall(models: Mapping[str, Overall]) -> Figure:
    """Each grounded metric with its interval: mean of the dimensions, or if no model has all, in the dimension that
    most have."""
    where = _common_ground(models)
    rows: dict[str, dict] = {}
    for name, found in models.items():
        metrics = found.dimensions.get(where, {}) if where != MACRO else found.macro if found.complete else {}
        rows[name] = {title: metrics[metric] for metric, title in METRIC_TITLES.items() if metric in metrics}
    what = "mean of dimensions" if where == MACRO else where
    notes = []
    if not all(rows.values()):
        needs = "all six dimensions under the same settings" if where == MACRO else where
        notes.append(f"n/a: has no results in {needs}.")
    return _bars_or_dots(
        f"Grounded metrics, {what}, with 95 % bootstrap intervals",
        f"score, {what} (0 to 100)",
        rows,
        list(METRIC_TITLES.values()),
        (0, 100),
        model_looks(models),
        notes,
    )


def improvement(
    models: Mapping[str, Overall], differences: Mapping[str, Improvement], base: str, scorer: str
) -> Figure:
    """Each model's total score less that of `base` over the same examples, with its paired interval, in points."""
    rows: dict[str, dict] = {}
    for name, found in models.items():
        if name != base:
            difference = differences.get(name)
            rows[name] = dict(difference.dimensions) if difference else {}
            if difference and difference.macro and found.complete and models[base].complete:
                rows[name][MACRO] = difference.macro
    columns = columns_with_results(rows)
    shown = short_names(models)
    notes = []
    partly = [(name, d) for name, d in differences.items() if d.unpaired and name in rows]
    if partly:
        cases = ", ".join(f"{shown[name]} {d.examples} ({d.unpaired} left out)" for name, d in partly[:3])
        more = f", and {len(partly) - 3} models more" if len(partly) > 3 else ""
        notes.append(f"Only examples that both answered count: {cases}{more}.")
    return _bars_or_dots(
        f"Total score over {shown[base]}, {scorer} rules: same examples, 95 % paired bootstrap intervals",
        f"points over {shown[base]}, {scorer}",
        rows,
        columns,
        None,
        model_looks(models),
        [*notes, *notes_on_missing(rows, columns)],
    )


def stacked_terms(models: Mapping[str, Overall], scorer: str, published: Published | None = None) -> Figure:
    """The weighted terms of the total score, stacked to the total with its interval; a panel a dimension."""
    rows = {name: totals(found) for name, found in models.items()}
    published = clean_published(published)
    columns = columns_with_results(rows)
    top, terms = TOPS[scorer], TERMS[scorer]
    rows = by_family(rows)
    figure, panels = panels_of_lines(columns, list(rows), list(published), inches=1.25)
    for axes, column in zip(panels, columns, strict=True):
        there = {name: (y, values[column]) for y, (name, values) in enumerate(rows.items()) if column in values}
        ys = [y for y, _ in there.values()]
        metrics = [models[name].macro if column == MACRO else models[name].dimensions[column] for name in there]
        left = np.zeros(len(there))
        for (metric, weight), color, hatch in zip(terms, COLORS, HATCHES, strict=False):
            widths = np.array([weight * of[metric].mean for of in metrics])
            axes.barh(ys, widths, 0.76, left, color=color, hatch=hatch, edgecolor="white", linewidth=0.5)
            left = left + widths
        draw_intervals(axes, there.values())
        for y, total in there.values():
            write(axes, f"{total.mean:.1f}", (total.high, y), (3, 0), va="center", fontsize=7, color="black")
        write_missing(axes, [y for y, name in enumerate(rows) if name not in there])
        draw_published(axes, column, published, len(rows), with_number=True)
        axes.set_xlim(0, top * 1.35)
        axes.set_xticks([0, top // 2, top])
    entries = {
        f"{weight:g} x {METRIC_TITLES[metric]}": Patch(facecolor=color, hatch=hatch, edgecolor="white")
        for (metric, weight), color, hatch in zip(terms, COLORS, HATCHES, strict=False)
    }
    title = f"Terms of the total score, {scorer} rules (at most {top}), with 95 % bootstrap intervals"
    return finish(figure, title, entries, notes_on_missing(rows, columns), bool(published))


def _bars_or_dots(
    title: str,
    axis: str,
    rows: Rows,
    columns: Sequence[str],
    limits: tuple[float, float] | None,
    styles: Mapping[str, Look],
    notes: Sequence[str],
    published: Published | None = None,
) -> Figure:
    """`limits` of the values, or None for differences around zero."""
    published = clean_published(published)
    if len(rows) > MOST_BARS:
        figure = dots(axis, columns, rows, limits, published)
        if limits is None:
            notes = ["Hollow: the interval holds zero.", *notes]
        return finish(figure, title, {}, notes, bool(published))
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
    shown = short_names(bars)
    return finish(figure, title, {shown[name]: mark for name, mark in bars.items()}, notes, bool(published))


def _common_ground(models: Mapping[str, Overall]) -> str:
    """Where models compare: the mean of all dimensions if any has it, else the dimension that most of them have."""
    if any(found.complete for found in models.values()):
        return MACRO
    counts = {dimension: sum(dimension in found.dimensions for found in models.values()) for dimension in DIMENSIONS}
    return max(counts, key=lambda dimension: counts[dimension])
