"""What all figures share: columns, colours and marks, legends and notes beside the data, files."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from configs.config import DIMENSION_TITLES, DIMENSIONS
from leap.models.names import base_suffix
from leap.pages.palette import COLORS, MARKERS, looks, looks_of_models
from leap.plans.measures import Measure
from leap.statistics import Estimate
from leap.vlabench.tables import Overall

__all__ = ["COLORS", "MARKERS", "plt"]

T = TypeVar("T")

# Results of others: label -> dimension or "macro" -> official total. What was not published has no key.
PublishedTotals = Mapping[str, Mapping[str, float]]

SIZE = (9.5, 4.6)  # inches
MACRO = "macro"
COLUMNS = (*DIMENSIONS, MACRO)
FORMATS = ("png", "svg", "pdf")
APPENDIX = "appendix"  # folder of figures that say again, in another form, what others say

# Each colour has a hatch, marker and line of its own, so that neither hue nor print quality is needed.
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "--")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (3, 1, 1, 1)))
INK = "0.25"  # text and rules beside the data
FAINT = "0.45"

_PUBLISHED_NOTE = "Hollow marks: published by others, not measured here; where there is none, nothing was published."


@dataclass(frozen=True)
class Style:
    """How a model or run is drawn, the same in every figure of the same ones."""

    color: str
    hatch: str
    marker: str
    line: Any


def styles_of(names: Iterable[T], base: str | None = None) -> dict[T, Style]:
    """A style each; grey is kept for `base`."""
    return _styles(looks(names, base), base)


def model_styles(models: Iterable[str]) -> dict[str, Style]:
    """A style a model, grey for the base."""
    models = list(models)
    return _styles(looks_of_models(models), next((name for name in models if base_suffix(name) is not None), None))


def _styles(numbers: Mapping[T, tuple[int, int]], base: str | None) -> dict[T, Style]:
    return {
        name: Style(COLORS[color], HATCHES[color], MARKERS[marker], LINES[1 if name == base else marker % len(LINES)])
        for name, (color, marker) in numbers.items()
    }


def totals(scores: Overall) -> dict[str, Estimate]:
    """Total scores by column, without those that are missing; macro needs all six dimensions."""
    columns = {dimension: metrics["total_score"] for dimension, metrics in scores.dimensions.items()}
    return columns | ({MACRO: scores.macro["total_score"]} if scores.complete else {})


def column_title(column: str) -> str:
    """What people read of a column: the title of a dimension, else the column itself."""
    return DIMENSION_TITLES.get(column, column)


def note_on_examples(models: Mapping[str, Overall]) -> list[str]:
    """Over how many examples the means are."""
    counts = [scores.examples for scores in models.values()]
    return note_on_counts(counts, "examples a model, over all its dimensions.")


def note_on_counts(counts: Collection[int], what: str) -> list[str]:
    """As in "n = 280 examples"; of different counts the smallest and the largest."""
    numbers = " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)})) if counts else ""
    return [f"n = {numbers} {what}"] if numbers else []


def scale(measure: Measure) -> str:
    """What an axis from zero shows, and how far it goes."""
    return f"{measure.name} (0 to {measure.best:g})"


def columns_with_results(rows: Mapping[str, Collection[str]]) -> list[str]:
    """The columns in which any row has a value, in table order."""
    return [column for column in COLUMNS if any(column in row for row in rows.values())]


def notes_on_missing(rows: Mapping[str, Collection[str]], columns: Sequence[str], *, written: bool = True) -> list[str]:
    """What a reader must know about values that are not there; `written`: each is marked "n/a" in the figure."""
    notes = []
    absent = [dimension for dimension in DIMENSIONS if dimension not in columns]
    if absent:
        notes.append(f"No model has results in {', '.join(map(column_title, absent))}.")
    if written and any(column not in row for row in rows.values() for column in columns):
        notes.append("n/a: no results.")
    if any(MACRO not in row for row in rows.values()):
        notes.append("A macro mean needs all six dimensions under the same settings.")
    return [" ".join(notes)] if notes else []


def clean_published(published: PublishedTotals | None) -> dict[str, dict[str, float]]:
    """PublishedTotals totals by column, the labels marked as such; where the six have no mean, that is added."""
    totals_by_label = {}
    for label, values in (published or {}).items():
        totals = {column: float(values[column]) for column in COLUMNS if column in values}
        if MACRO not in totals and len(totals) == len(DIMENSIONS):
            totals[MACRO] = sum(totals.values()) / len(DIMENSIONS)
        totals_by_label[f"{label} (published)"] = totals
    return totals_by_label


def published_markers(labels: Iterable[str]) -> dict[str, str]:
    """A marker a label, drawn hollow."""
    return {label: MARKERS[i % len(MARKERS)] for i, label in enumerate(labels)}


def clean(axes: plt.Axes, grid: Literal["x", "y", "both"] = "y") -> None:
    """No frame above and right, a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.9")
    axes.set_axisbelow(True)


def hollow(marker: str) -> Line2D:
    """A legend entry of what was published."""
    return Line2D([], [], linestyle="none", marker=marker, mfc="white", mec="black", ms=6)


def finish(
    figure: Figure,
    title: str,
    entries: Mapping[str, Artist | tuple[Artist, ...]] | None = None,
    notes: Sequence[str] = (),
    *,
    published: bool = False,
) -> Figure:
    """Title above; legend (`entries` by label) and notes below all axes, where they cover nothing."""
    width = figure.get_size_inches()[0] * 72  # points
    figure.suptitle("\n".join(textwrap.wrap(title, int(width / 5.8))), fontsize=11)
    notes = [*notes, *([_PUBLISHED_NOTE] if published else [])]
    text = "\n".join(line for note in notes for line in textwrap.wrap(note, int(width / 5)))
    entries = entries or {}
    handles: Any = entries.values()  # matplotlib's annotation leaves out tuples, which share a label
    if entries or text:
        widest = max(map(len, entries), default=0) * 4.6 + 42
        legend = figure.legend(
            handles,
            entries.keys(),
            loc="outside lower center",
            frameon=False,
            ncols=max(1, min(len(entries), 6, int(width / widest))),
            fontsize=8,
            title=text or None,
            title_fontsize=7.5,
            handlelength=2.4,
        )
        legend.get_title().set_color(INK)
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png (150 dpi), .svg and .pdf (both with their text as text) into `folder` and close the figure."""
    paths = [folder / f"{name}.{kind}" for kind in FORMATS]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    lay_out(figure)  # once, for all files
    # The same figure gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "leap", "pdf.fonttype": 42}):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
        figure.savefig(paths[2], metadata={"CreationDate": None})
    plt.close(figure)
    return paths


def lay_out(figure: Figure) -> None:
    """Put all parts where they stand in the files of `save`."""
    figure.set_dpi(150)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)


def remove(folder: Path, name: str) -> None:
    """Remove the files of a figure, if there are any."""
    for kind in FORMATS:
        (folder / f"{name}.{kind}").unlink(missing_ok=True)
