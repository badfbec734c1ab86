"""The profile of each model over the six dimensions: a heat map with the numbers in it, a radar of a few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.projections.polar import PolarAxes

from configs.config import DIMENSIONS
from leap.models.names import base_suffix, curves_in
from leap.plans.scoring import TOPS
from leap.plots.labels import short_names
from leap.plots.marks import by_family, family
from leap.plots.style import (
    COLUMNS,
    FAINT,
    MACRO,
    PublishedTotals,
    clean_published,
    column_title,
    finish,
    hollow,
    model_styles,
    note_on_examples,
    notes_on_missing,
    plt,
    published_markers,
    totals,
)
from leap.statistics import Estimate
from leap.vlabench.tables import Overall

MOST_POLYGONS = 5


def heat_map(models: Mapping[str, Overall], scorer: str, published: PublishedTotals | None = None) -> Figure:
    """Total scores with intervals and numbers of examples, models by dimensions, written into their cells; darker is
    better, the best of a column is bold."""
    rows = by_family({name: totals(scores) for name, scores in models.items()})
    cited = clean_published(published)
    names = [*rows, *cited]
    numbers = {name: {column: value.mean for column, value in values.items()} for name, values in rows.items()} | cited
    labels = short_names(names)
    width = max(map(len, labels.values()), default=0) * 0.065 + 7.4
    figure, axes = plt.subplots(figsize=(width, 1.5 + 0.36 * max(len(names), 3)), layout="constrained")
    best = {column: max((numbers[name].get(column, -1) for name in rows), default=None) for column in COLUMNS}
    top, colors = TOPS[scorer], plt.get_cmap("Blues")
    size = 8 if len(names) <= 20 else 7
    for y, name in enumerate(names):
        for x, column in enumerate(COLUMNS):
            left = x - 0.5 + 0.15 * (column == MACRO)
            value = numbers[name].get(column)
            if value is None:
                cell = Rectangle((left, y - 0.5), 1, 1, facecolor="white", edgecolor="0.8", hatch="////", linewidth=0)
                style: dict[str, Any] = {"color": FAINT, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
            else:
                shade = 0.85 * value / top
                cell = Rectangle((left, y - 0.5), 1, 1, facecolor=colors(shade), edgecolor="white", linewidth=0.6)
                style = {"color": "black" if _luminance(colors(shade)) > 0.18 else "white"}
                if name in rows and value == best[column] and len(rows) > 1:
                    style["fontweight"] = "bold"
                if name in cited:
                    style["fontstyle"] = "italic"
            axes.add_patch(cell)
            text = "n/a" if value is None else f"{value:.{2 if name in cited else 1}f}"
            below = (
                _below_mean(rows[name][column], _count(models[name], column)) if column in rows.get(name, {}) else ""
            )
            lines = [(text, -0.16 if below else 0, size, style)]
            if below:
                lines.append((below, 0.24, size - 2, {"color": style["color"]}))
            for line, down, points, look in lines:
                written = axes.text(
                    left + 0.5, y + down, line, ha="center", va="center_baseline", fontsize=points, **look
                )
                written.set_in_layout(False)  # it is inside, and measuring hundreds takes seconds
    families = [*map(family, rows), *[None] * len(cited)]
    for y in range(1, len(names)):
        if y == len(rows) or (families[y] != families[y - 1] and max(map(families.count, families[y - 1 : y + 1])) > 1):
            axes.axhline(y - 0.5, color="black", linewidth=1.4 if y == len(rows) else 0.5)
    axes.set_xlim(-0.5, len(COLUMNS) - 0.35)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks([*range(len(DIMENSIONS)), len(DIMENSIONS) + 0.15], list(map(column_title, COLUMNS)), fontsize=8.5)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(names)), [labels[name] for name in names], fontsize=size)
    for label in axes.get_yticklabels()[len(rows) :]:
        label.set_fontstyle("italic")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    notes = [
        "Below each mean: its 95 % interval and over how many examples it is.",
        *note_on_examples(models),
        *notes_on_missing(rows, COLUMNS),
    ]
    if cited:
        notes.append("In italics: published by others, not measured here; n/a: not published.")
    return finish(figure, f"Total score, {scorer} rules (0 to {top})", {}, notes)


def radar(models: Mapping[str, Overall], scorer: str, published: PublishedTotals | None = None) -> Figure:
    """The six totals of a few models as polygons. A missing dimension leaves a gap and is named in the legend."""
    chosen = representatives(models, MOST_POLYGONS)
    # Colours are those of the other figures, unless there are more models than colours.
    styles = model_styles(models if len(chosen) == len(models) else chosen)
    cited = clean_published(published)
    markers = published_markers(cited)
    cited = {label: values for label, values in cited.items() if any(d in values for d in DIMENSIONS)}
    labels = short_names([*models, *cited])
    top = TOPS[scorer]
    angles = np.linspace(0, 2 * np.pi, len(DIMENSIONS), endpoint=False)
    figure, axes = plt.subplots(figsize=(7, 6.2), subplot_kw={"projection": "polar"}, layout="constrained")
    assert isinstance(axes, PolarAxes)
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    entries: dict[str, Artist] = {}
    for name in chosen:
        scores, style = totals(models[name]), styles[name]
        _polygon(
            axes,
            angles,
            [scores[d].mean if d in scores else np.nan for d in DIMENSIONS],
            color=style.color,
            linestyle=style.line,
            linewidth=1.6,
            marker=style.marker,
            markeredgecolor="black",
            markeredgewidth=0.5,
        )
        entries[_with_gaps(labels[name], scores)] = Line2D(
            [], [], color=style.color, linestyle=style.line, marker=style.marker, mec="black", mew=0.5
        )
    for label, values in cited.items():
        heights = [values.get(d, np.nan) for d in DIMENSIONS]
        marks = {"marker": markers[label], "mfc": "white", "mec": "black"}
        _polygon(axes, angles, heights, color="0.3", linestyle=":", linewidth=0.9, **marks)
        entries[_with_gaps(labels[label], values)] = hollow(markers[label])
    _rings(axes, angles, top)
    axes.grid(color="0.85")
    axes.spines["polar"].set_color("0.7")
    notes = note_on_examples(models)
    if len(chosen) < len(models):
        notes.append(
            f"{len(chosen)} of {len(models)} models, out of the base, the best and last checkpoints of runs, and "
            "controls. The heat map has all, with intervals."
        )
    return finish(
        figure, f"Total score by dimension, {scorer} rules (0 to {top})", entries, notes, published=bool(cited)
    )


def _count(scores: Overall, column: str) -> int | None:
    return scores.examples if column == MACRO else scores.counts.get(column)


def _below_mean(value: Estimate, count: int | None) -> str:
    """As in "29 to 32, n = 100"; what is not known is left out."""
    interval = "" if value.low is None or value.high is None else f"{value.low:.0f} to {value.high:.0f}"
    return ", ".join(filter(None, (interval, f"n = {count:,}" if count else "")))


def representatives(models: Mapping[str, Overall], most: int) -> list[str]:
    """All models if there are at most `most`; else the base, the best checkpoint of each run (better runs first), what
    is no checkpoint, the last checkpoint of each run, as many as there is room for; in the order of `models`."""
    if len(models) <= most:
        return list(models)
    base = [name for name in models if base_suffix(name) is not None]
    runs = [list(steps.values()) for steps in curves_in(models).values()]
    best = sorted((max(run, key=lambda name: rank(models[name])) for run in runs), key=lambda name: rank(models[name]))
    others = [name for name in models if name not in base and not any(name in run for run in runs)]
    chosen = dict.fromkeys([*base[:1], *reversed(best), *others, *(run[-1] for run in runs)])
    return [name for name in models if name in list(chosen)[:most]]


def rank(scores: Overall) -> tuple[int, float]:
    """How good a model is among those of its run: one with more dimensions first, then by mean total."""
    totals_by_dimension = [metrics["total_score"].mean for metrics in scores.dimensions.values()]
    return len(totals_by_dimension), float(np.mean(totals_by_dimension))


def _luminance(color: tuple[float, float, float, float]) -> float:
    """Relative luminance, 0 to 1; above 0.18 black has more contrast than white (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def _polygon(axes: plt.Axes, angles: np.ndarray, heights: list[float], **style: Any) -> None:
    axes.plot([*angles, angles[0]], [*heights, heights[0]], markersize=5.5, clip_on=False, **style)


def _rings(axes: PolarAxes, angles: np.ndarray, top: float) -> None:
    """Rings at round values up to the first above the data, and the names of the dimensions outside."""
    drawn = [height for line in axes.lines for height in np.asarray(line.get_ydata()).tolist() if height == height]
    highest = max(drawn, default=top)
    ring = next(step for step in (5, 10, 20, top / 4) if step * 4 >= highest or step == top / 4)
    limit = min(top, ring * max(np.ceil(highest / ring), 1))
    axes.set_ylim(0, limit)
    axes.set_rgrids(np.arange(ring, limit + ring / 2, ring), fontsize=7, color=FAINT)
    axes.set_rlabel_position(30)
    _, texts = axes.set_thetagrids(np.degrees(angles), list(map(column_title, DIMENSIONS)), fontsize=9)
    for text, angle in zip(texts, angles, strict=True):
        side = np.sin(angle)
        text.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axes.tick_params(axis="x", pad=4)


def _with_gaps(label: str, values: Mapping[str, object]) -> str:
    gaps = [column_title(dimension) for dimension in DIMENSIONS if dimension not in values]
    return f"{label} (n/a: {', '.join(gaps)})" if gaps else label
