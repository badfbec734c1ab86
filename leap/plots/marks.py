"""Grouped bars, and rows of panels with a line a model: what several figures draw values with."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from leap.models.names import base_suffix, curve_and_step
from leap.plots.labels import short_names
from leap.plots.style import (
    FAINT,
    MACRO,
    PublishedTotals,
    Style,
    clean,
    column_title,
    hollow,
    plt,
    published_markers,
    styles_of,
)
from leap.statistics import Estimate

# {model: {column: value}}; a missing value has no key.
EstimateTable = Mapping[str, Mapping[str, Estimate]]


def grouped_bars(
    axes: plt.Axes,
    columns: Sequence[str],
    rows: EstimateTable,
    styles: Mapping[str, Style],
    published: PublishedTotals | None = None,
) -> dict[str, Artist]:
    """Bars with intervals, a group a column, and hollow marks for `published`. A missing value is written as such, a
    measured zero as 0. Returns the legend's entries by name."""
    published = published or {}
    cited = {column: [name for name, values in published.items() if column in values] for column in columns}
    slots = len(rows) + max(map(len, cited.values()), default=0)
    width = 0.84 / max(slots, 1)
    entries: dict[str, Artist] = {}
    for i, (name, values) in enumerate(rows.items()):
        places = dict(zip(columns, np.arange(len(columns)) - 0.42 + (i + 0.5) * width, strict=True))
        drawn = [values[column] for column in columns if column in values]
        xs = [places[column] for column in columns if column in values]
        heights = [value.mean for value in drawn]
        style = styles[name]
        axes.bar(xs, heights, width * 0.94, color=style.color, hatch=style.hatch, edgecolor="white", label=name)
        entries[name] = Patch(facecolor=style.color, hatch=style.hatch, edgecolor="white")
        if any(value.ends[0] < value.ends[1] for value in drawn):
            errors = np.hstack([around(value) for value in drawn])
            axes.errorbar(xs, heights, errors, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
        for column, x in places.items():
            if column not in values:
                rotation = 90 if slots > 3 else 0
                write(axes, "n/a", (x, 0), (0, 3), ha="center", va="bottom", fontsize=7, rotation=rotation)
            elif values[column].mean == 0:
                write(axes, "0", (x, 0), (0, 3), ha="center", va="bottom", fontsize=7)
    markers = published_markers(published)
    for x, column in enumerate(columns):
        for i, name in enumerate(cited[column], len(rows)):
            place, value = x - 0.42 + (i + 0.5) * width, published[name][column]
            axes.vlines(place, 0, value, color="0.6", linewidth=0.8, linestyle=":")
            axes.plot(place, value, markers[name], mfc="white", mec="black", ms=6)
    entries |= {name: hollow(marker) for name, marker in markers.items()}
    titles = ["\n".join(textwrap.wrap(column_title(column), 14, break_on_hyphens=False)) for column in columns]
    axes.set_xticks(range(len(columns)), titles)
    clean(axes)
    return entries


def dots(
    axis: str,
    columns: Sequence[str],
    rows: EstimateTable,
    limits: tuple[float, float] | None,
    published: PublishedTotals | None = None,
    level: float | None = None,
    *,
    whole: bool = False,
    inches: float = 1.15,
) -> Figure:
    """A panel a column, a line a model: its value (of what, `axis` says) with interval, or "n/a". `limits` are those of
    the values, shown up to the highest or as a `whole`; without, they are differences around zero. `level` is the value
    of no difference: marks are hollow where the interval holds it."""
    rows, published = by_family(rows), published or {}
    figure, panels = panels_of_lines(columns, list(rows), list(published), inches=inches)
    styles = family_styles(rows)
    left = 0.0
    if limits and whole:
        left = limits[0]
        show_whole(panels[0], limits)
    elif limits:
        highs = [value.ends[1] for values in rows.values() for value in values.values()]
        highs += [value for values in published.values() for value in values.values()]
        highest = min(limits[1], max(highs)) or limits[1]
        panels[0].set_xlim(limits[0] - 0.04 * highest, highest * 1.04)
    else:
        level = 0
    for axes, column in zip(panels, columns, strict=True):
        if level is not None:
            axes.axvline(level, color="black", linewidth=0.8)
        values_by_model = {
            name: (y, values[column]) for y, (name, values) in enumerate(rows.items()) if column in values
        }
        draw_intervals(axes, values_by_model.values())
        marks: dict[tuple[str, bool], list[tuple[float, int]]] = {}
        for name, (y, value) in values_by_model.items():
            unclear = level is not None and (
                value.low is None or value.high is None or value.low <= level <= value.high
            )
            marks.setdefault((family(name), unclear), []).append((value.mean, y))
        for (family_name, unclear), places in marks.items():
            style = styles[family_name]
            face = "white" if unclear else style.color
            axes.plot(*zip(*places, strict=True), style.marker, mfc=face, mec=style.color, mew=0.7, ms=3, zorder=5)
        write_missing(axes, [y for y, name in enumerate(rows) if name not in values_by_model], left)
        draw_published(axes, column, published, len(rows))
    panels[len(columns) // 2].set_xlabel(axis, fontsize=9)
    return figure


def show_whole(axes: plt.Axes, limits: tuple[float, float]) -> None:
    """Let the axis of values show all that is possible, with room for the marks at its ends."""
    room = 0.05 * (limits[1] - limits[0])
    axes.set_xlim(limits[0] - room, limits[1] + room)


def panels_of_lines(
    columns: Sequence[str],
    models: Sequence[str],
    published: Collection[str],
    inches: float,
    line_inches: float = 0.0,
) -> tuple[Figure, list[plt.Axes]]:
    """One panel a column, `inches` wide, that share their lines: one a model (y = 0, 1, ...), then one a `published`
    label, `line_inches` high at least. Runs are set apart."""
    names = [*models, *published]
    labels = short_names(names)
    label_width = max(map(len, labels.values()), default=0) * 0.062 + 0.4
    height = 1.5 + max(len(names), 2) * max(line_inches, 0.2 if len(names) > 12 else 0.3)
    size = (max(label_width + len(columns) * inches, 6), height)
    figure, grid = plt.subplots(
        1, max(len(columns), 1), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    layout: Any = figure.get_layout_engine()
    layout.set(wspace=0.02, w_pad=0.02)
    panels = list(grid[0])
    families = [*map(family, models), *[None] * len(published)]
    for axes, column in zip(panels, columns, strict=False):
        axes.set_title(column_title(column), fontsize=9, fontweight="bold" if column == MACRO else "normal")
        for y in range(1, len(names)):
            if y % 2:
                axes.axhspan(y - 0.5, y + 0.5, color="0.96", zorder=0)
            neighbours = families[y - 1], families[y]
            if neighbours[0] != neighbours[1] and max(map(families.count, neighbours)) > 1:
                axes.axhline(y - 0.5, color="0.6", linewidth=0.6)
        clean(axes, "x")
        axes.spines["left"].set_visible(axes is panels[0])
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=7.5)
    panels[0].set_yticks(range(len(names)), [labels[name] for name in names], fontsize=7.5)
    for label in panels[0].get_yticklabels()[len(models) :]:
        label.set_fontstyle("italic")
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, panels


def draw_published(
    axes: plt.Axes, column: str, published: PublishedTotals, first: int, *, with_number: bool = False
) -> None:
    """A hollow mark on the line of each label (from y = `first`) that has a value in `column`."""
    markers = published_markers(published)
    for y, (name, values) in enumerate(published.items(), first):
        if column in values:
            value = values[column]
            axes.plot(value, y, markers[name], mfc="white", mec="black", ms=5)
            if with_number:
                write(axes, f"{value:.2f}", (value, y), (5, 0), va="center", fontsize=7, color="black")


def draw_intervals(axes: plt.Axes, values: Collection[tuple[int, Estimate]]) -> None:
    """Horizontal error bars on the lines (y, value)."""
    if values:
        errors = np.hstack([around(value) for _, value in values])
        means, ys = [value.mean for _, value in values], [y for y, _ in values]
        axes.errorbar(means, ys, xerr=errors, fmt="none", ecolor="black", elinewidth=0.8, capsize=2.2, zorder=4)


def family(name: str) -> str:
    """The run and settings that a checkpoint belongs to; any other model is a family of its own."""
    curve = curve_and_step(name)
    return curve[0].title if curve else name


def by_family(rows: EstimateTable) -> EstimateTable:
    """The same rows, those of a family next to each other where its first one was."""
    first = {family_name: i for i, family_name in reversed(list(enumerate(map(family, rows))))}
    return {name: rows[name] for name in sorted(rows, key=lambda name: first[family(name)])}


def family_styles(names: Collection[str]) -> dict[str, Style]:
    """A style for each family among the models, grey for the base."""
    families = list(dict.fromkeys(map(family, names)))
    return styles_of(families, next((name for name in families if base_suffix(name) is not None), None))


def around(value: Estimate) -> np.ndarray:
    """The interval as matplotlib's error bars take it, (2, 1)."""
    low, high = value.ends
    return np.array([[value.mean - low], [high - value.mean]]).clip(min=0)


def write_missing(axes: plt.Axes, ys: Iterable[float], x: float = 0.0) -> None:
    """Mark lines of a panel as without value."""
    for y in ys:
        write(axes, "n/a", (x, y), (3, 0), va="center", fontsize=6.5)


def write(axes: plt.Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    note = axes.annotate(text, place, xytext=offset, textcoords="offset points", **{"color": FAINT, **style})
    note.set_in_layout(False)  # it is inside, and measuring hundreds takes seconds
