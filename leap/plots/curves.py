"""Scores over checkpoint steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from leap.models.names import Curve, base_suffix, curves_in
from leap.plans.measures import MEASURES
from leap.plans.scoring import TOPS
from leap.plots.labels import short_names
from leap.plots.marks import EstimateTable, around
from leap.plots.profiles import rank
from leap.plots.style import (
    MACRO,
    PublishedTotals,
    Style,
    clean,
    clean_published,
    column_title,
    columns_with_results,
    finish,
    hollow,
    note_on_examples,
    notes_on_missing,
    plt,
    published_markers,
    scale,
    styles_of,
    totals,
)
from leap.statistics import Estimate
from leap.vlabench.folder import differing_settings
from leap.vlabench.tables import Overall

MOST_CURVES = 6  # in colour, each with a legend entry
MOST_LEVELS = 4  # models that are no checkpoints

STEP_0 = "Step 0 is the base."

_BAND, _BASE_INK, _LEVEL_INK = "0.87", "0.35", "0.2"
_BACKGROUND = Style("0.72", "", ".", "-")
_DASHES = ("--", (0, (8, 2)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1.2)))

LegendEntries = dict[str, Artist | tuple[Artist, ...]]


def checkpoint_curves(models: Mapping[str, Overall], scorer: str, published: PublishedTotals | None = None) -> Figure:
    """Total score over optimiser steps with interval bands, a panel a dimension and a large one for macro.

    Each run under each way of asking is a curve, which starts at the base (step 0) whose name in results says the same
    way; a note says whether the settings were the same. The base under the usual settings is a level with a band,
    controls and other models are dashed levels, `published` scores dotted ones. A line breaks at a checkpoint without
    results, and a cross marks its step.
    """
    rows = {name: totals(scores) for name, scores in models.items()}
    columns = columns_with_results(rows)
    top = TOPS[scorer]
    cited = clean_published(published)
    highs = [value.ends[1] for values in rows.values() for value in values.values()]
    highs += [value for values in cited.values() for value in values.values()]
    figure, entries, left_out = step_curves(rows, columns, lambda name: rank(models[name]), cited)
    for axes in figure.axes:
        axes.set_ylim(0, min(top * 1.03, max(highs) * 1.08) or top)
    figure.supylabel(scale(MEASURES[f"{scorer}.total_score"]), fontsize=9)
    notes = notes_on_missing(rows, columns, written=False)
    notes[:0] = [*_step_0_notes(models), *note_on_examples(models)]
    if left_out:
        notes.append(f"{left_out} models that are no checkpoints are left out; the heat map has them.")
    title = f"Total score over training, {scorer} rules, with 95 % intervals"
    return finish(figure, title, entries, [" ".join(notes)] if notes else [], published=bool(cited))


def step_curves(
    rows: EstimateTable, columns: Sequence[str], rank: Callable[[str], Any], cited: PublishedTotals | None = None
) -> tuple[Figure, LegendEntries, int]:
    """Curves over steps, a panel a column, all on one scale; more than MOST_CURVES in colour by the `rank` of the best
    model of each. Returns the legend's entries too, and how many models that are no checkpoints found no room."""
    cited = cited or {}
    curves = _curves(rows, rank)
    styles = styles_of(curves[:MOST_CURVES])
    labels = short_names([curve.title for curve in curves], 60)
    base, levels = _levels(rows)
    entries: LegendEntries = {}
    for curve, style in styles.items():
        entries[labels[curve.title]] = Line2D(
            [], [], color=style.color, linestyle=style.line, marker=style.marker, ms=4.5
        )
    figure, panels = _grid(columns)
    gaps = False
    for column, axes in panels.items():
        _draw_levels(axes, column, rows, base, levels[:MOST_LEVELS], entries)
        _draw_published(axes, column, cited, entries)
        for curve in reversed(curves):  # the best on top
            points = _points(curve, rows, column)
            gaps |= _draw_curve(axes, points, styles.get(curve, _BACKGROUND), banded=curve in styles)
    if len(curves) > len(styles):
        others = len(curves) - len(styles)
        label = f"{others} other runs" if others > 1 else labels[curves[-1].title]
        entries[label] = Line2D([], [], color=_BACKGROUND.color, marker=_BACKGROUND.marker)
    if gaps:
        entries["no results at this step"] = Line2D([], [], color="0.3", linestyle="none", marker="x", ms=4)
    return figure, entries, max(0, len(levels) - MOST_LEVELS)


def _step_0_notes(models: Mapping[str, Overall]) -> list[str]:
    """What step 0 of the curves is, and whether the bases there were asked as the checkpoints were."""
    pairs = [
        (models[base].settings, models[name].settings)
        for curve, names in curves_in(models).items()
        for base in models
        if base_suffix(base) == curve.suffix
        for name in names.values()
    ]
    if not pairs:
        return []
    differing = sorted({key for pair in pairs for key in differing_settings(*pair)})
    if differing:
        return [f"{STEP_0} It was asked under other settings: {', '.join(differing)}."]
    return [f"{STEP_0[:-1]}, asked in the same way." if all(map(all, pairs)) else STEP_0]


def _curves(models: Iterable[str], rank: Callable[[str], Any]) -> list[Curve]:
    """In order of appearance as long as all can be coloured, else the best first."""
    curves = curves_in(models)
    if len(curves) <= MOST_CURVES:
        return list(curves)
    return sorted(curves, key=lambda curve: max(rank(name) for name in curves[curve].values()), reverse=True)


def _levels(models: Collection[str]) -> tuple[str | None, list[str]]:
    """The base under the usual settings (or else the first there is), and what else is no part of a curve."""
    curves = curves_in(models)
    starts = {curve.suffix for curve in curves}
    bases = [name for name in models if base_suffix(name) is not None]
    base = min(bases, key=lambda name: base_suffix(name) != "", default=None)
    checkpoints = {name for steps in curves.values() for name in steps.values()}
    return base, [n for n in models if n not in checkpoints and n != base and base_suffix(n) not in starts]


def _points(curve: Curve, rows: EstimateTable, column: str) -> dict[int, Estimate | None]:
    """The values of a curve by step, None where there is none; step 0 is the base."""
    start = [(0, name) for name in rows if base_suffix(name) == curve.suffix]
    return {step: rows[name].get(column) for step, name in [*start, *curves_in(rows)[curve].items()]}


def _draw_levels(
    axes: plt.Axes, column: str, rows: EstimateTable, base: str | None, levels: Sequence[str], entries: LegendEntries
) -> None:
    labels = short_names([*([base] if base else []), *levels])
    if base and column in rows[base]:
        level = rows[base][column]
        axes.axhspan(*level.ends, color=_BAND, linewidth=0, zorder=0.5)
        line = axes.axhline(level.mean, color=_BASE_INK, linewidth=1.2, zorder=1)
        entries[labels[base]] = (Patch(facecolor=_BAND), line)
    for name, dashes in zip(levels, _DASHES, strict=False):
        if column in rows[name]:
            entries[labels[name]] = axes.axhline(
                rows[name][column].mean, color=_LEVEL_INK, linewidth=1, linestyle=dashes, zorder=1
            )


def _draw_published(axes: plt.Axes, column: str, cited: PublishedTotals, entries: LegendEntries) -> None:
    labels = short_names(cited)
    right = axes.get_yaxis_transform()  # x as a share of the axes' width
    for label, marker in published_markers(cited).items():
        if column in cited[label]:
            value = cited[label][column]
            axes.axhline(value, color="0.5", linewidth=0.9, linestyle=":", zorder=1)
            axes.plot(1, value, marker, mfc="white", mec="black", ms=5, clip_on=False, zorder=5, transform=right)
            entries[labels[label]] = hollow(marker)


def _draw_curve(axes: plt.Axes, points: Mapping[int, Estimate | None], style: Style, *, banded: bool) -> bool:
    """Draw one curve. Returns whether it has gaps here (one that has nothing here is not there)."""
    steps = np.array(list(points))
    has_value = np.array([value is not None for value in points.values()])
    if not has_value.any():
        return False
    gap = Estimate(np.nan, np.nan, np.nan)
    values = [value or gap for value in points.values()]
    axes.plot(
        steps,
        [value.mean for value in values],
        color=style.color,
        linestyle=style.line,
        linewidth=1.5 if banded else 0.8,
        marker=style.marker,
        markersize=4.5 if len(steps) <= 8 else 3,
        zorder=3 if banded else 2,
    )
    if banded:
        lows, highs = zip(*(value.ends for value in values), strict=True)
        axes.fill_between(steps, lows, highs, color=style.color, alpha=0.2, linewidth=0, zorder=2)
        padded = np.pad(has_value, 1)
        for i in np.flatnonzero(has_value & ~padded[:-2] & ~padded[2:]):  # a band needs a neighbour
            axes.errorbar(
                steps[i], values[i].mean, around(values[i]), fmt="none", ecolor=style.color, capsize=2, zorder=3
            )
    bottom = axes.get_xaxis_transform()  # y as a share of the axes' height
    axes.plot(
        steps[~has_value], np.full((~has_value).sum(), 0.03), "x", color=style.color, ms=4, zorder=4, transform=bottom
    )
    return not has_value.all()


def _grid(columns: Sequence[str]) -> tuple[Figure, dict[str, plt.Axes]]:
    """Panels by column, all on one scale: a large one for macro right of the six, or as many as there are."""
    if MACRO in columns:
        six = [column for column in columns if column != MACRO]
        mosaic: list[Any] = [[*six[:3], MACRO, MACRO], [*six[3:], MACRO, MACRO]]
        size = (11.0, 5.6)
    else:
        per_line = len(columns) if len(columns) <= 3 else -(-len(columns) // 2)
        padded = [*columns, *["."] * (-len(columns) % per_line)]
        mosaic = [padded[i : i + per_line] for i in range(0, len(padded), per_line)]
        size = (max(7.0, 2.8 * per_line + 1), 2.6 * len(mosaic) + 1.6)
    lowest = {[name for name in stack if name != "."][-1] for stack in zip(*mosaic, strict=True)}
    figure, panels = plt.subplot_mosaic(mosaic, figsize=size, sharex=True, sharey=True, layout="constrained")
    for column, axes in panels.items():
        large = column == MACRO
        axes.set_title("macro (mean of dimensions)" if large else column_title(column), fontsize=10 if large else 9)
        axes.tick_params(labelsize=8, labelleft=large or column in [line[0] for line in mosaic])
        if column in lowest:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("optimiser step", fontsize=8.5)
        clean(axes, "both")
    return figure, panels
