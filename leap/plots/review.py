"""Figures of a blind review, out of its summary.json (leap/judge/summary.py): scores, differences from the base, pairs.

A line a model and a panel a judge, so that one checkpoint or dozens, one judge or several fit.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from leap.judge.judgements import FINAL, HIGHEST, LOWEST, REFERENCE_JUDGE, SCALES, ReviewSummary
from leap.models.names import base_suffix, curves_in
from leap.plots.curves import STEP_0, step_curves
from leap.plots.labels import short_names
from leap.plots.marks import (
    EstimateTable,
    around,
    by_family,
    dots,
    family,
    family_styles,
    panels_of_lines,
    show_whole,
    write_missing,
)
from leap.plots.style import COLORS, SIZE, Style, clean, finish, model_styles, note_on_counts, plt, styles_of
from leap.statistics import Estimate

MOST_STYLES = len(COLORS) - 1  # models that differ by colour in a scatter; more are told apart by run

_SCALE = (LOWEST, HIGHEST)
_MISSING = "n/a: no judgements."
_HOLLOW = "Hollow: the interval holds {}."
_WIDEST_NAME = 40  # characters of a judge's name
_PANELS_A_LINE = 3


def review_figures(summary: ReviewSummary) -> dict[str, Callable[[], Figure] | None]:
    """What makes each figure of a review, by file name; None where the judgements do not allow it."""
    judges = summary["judges"].values()
    scored = any(record["scores"] for judge in judges for record in judge["models"].values())
    compared = any(record["over_base"] for judge in judges for record in judge["models"].values())
    paired = any(record["win_rate"] for judge in judges for record in (judge["pairwise"] or {}).values())
    beside = any(judge["with"].get(REFERENCE_JUDGE, {}).get("plans") for judge in judges)
    has_curve = any(len(steps) > 1 for steps in curves_in(summary["models"]).values())
    possible: dict[str, tuple[Callable[[], Figure], bool]] = {
        "models_final_score": (lambda: models_final_score(summary), scored),
        "models_final_score_by_step": (lambda: models_final_score_by_step(summary), scored and has_curve),
        "models_dimension_scores": (lambda: models_dimension_scores(summary), scored),
        "models_improvement_vs_baseline": (lambda: models_improvement_vs_baseline(summary), compared),
        "judge_vs_reference": (lambda: judge_vs_reference(summary), beside),
        "win_rates": (lambda: win_rates(summary), paired),
    }
    return {f"blind10_{name}": make if allowed else None for name, (make, allowed) in possible.items()}


def models_final_score(summary: ReviewSummary) -> Figure:
    """The mean final score of each model, a panel a judge."""
    rows, columns = _final_by_judge(summary, "scores")
    figure = dots("final score (1 to 5)", columns, rows, _SCALE, whole=True, inches=_inches(columns))
    figure.axes[0].set_xticks(range(LOWEST, HIGHEST + 1))
    return _finish(figure, f"Mean final score by judge, {_of_items(summary)}", {}, _notes(summary, rows, columns))


def models_final_score_by_step(summary: ReviewSummary) -> Figure:
    """The mean final score over optimiser steps, a panel a judge, a curve a run."""
    rows, columns = _final_by_judge(summary, "scores")
    figure, entries, left_out = step_curves(
        rows, columns, lambda name: max((value.mean for value in rows[name].values()), default=0.0)
    )
    for axes in figure.axes:
        axes.set_ylim(LOWEST - 0.1, HIGHEST + 0.1)
        axes.set_yticks(range(LOWEST, HIGHEST + 1))
    figure.supylabel("final score (1 to 5)", fontsize=9)
    notes = _warnings(summary)
    if any(base_suffix(name) == curve.suffix for name in rows for curve in curves_in(rows)):
        notes.append(STEP_0)
    if left_out:
        notes.append(f"{left_out} models that are no checkpoints are left out.")
    return _finish(figure, f"Final score over training by judge, {_of_items(summary)}", entries, notes)


def models_dimension_scores(summary: ReviewSummary) -> Figure:
    """The mean of each model on the four scales, a panel a scale; several judges are marks on the line of a model."""
    judges = [
        name
        for name, judge in summary["judges"].items()
        if any(record["scores"] for record in judge["models"].values())
    ]
    by_judge = {
        judge: {
            model: {_words(scale): Estimate(**record["scores"][scale]) for scale in SCALES} if record["scores"] else {}
            for model, record in summary["judges"][judge]["models"].items()
        }
        for judge in judges
    }
    columns = [_words(scale) for scale in SCALES]
    title = f"The four scales, {_of_items(summary)}"
    if len(judges) == 1:
        (rows,) = by_judge.values()
        figure = dots("score (1 to 5)", columns, rows, _SCALE, whole=True, inches=1.6)
        figure.axes[0].set_xticks(range(LOWEST, HIGHEST + 1))
        counts = note_on_counts(_items(summary["judges"][judges[0]]["models"], "scores"), "items.")
        return _finish(figure, f"{title}, by {judges[0]}", {}, [*counts, *_notes(summary, rows, columns)])
    figure, entries = _marks_by_judge(columns, by_judge)
    for judge, label in zip(judges, list(entries), strict=True):
        (count,) = note_on_counts(_items(summary["judges"][judge]["models"], "scores"), "items")
        entries[f"{label}, {count}"] = entries.pop(label)
    missing = [] if all(values for rows in by_judge.values() for values in rows.values()) else [_MISSING]
    return _finish(figure, title, entries, [*_warnings(summary), *_silent(summary), *missing])


def models_improvement_vs_baseline(summary: ReviewSummary) -> Figure:
    """Each model's mean final score less the base's over the same items, in points of the scale, a panel a judge."""
    base = summary["base"]
    rows, columns = _final_by_judge(summary, "over_base")
    rows = {name: values for name, values in rows.items() if name != base}
    ends = [abs(end) for values in rows.values() for value in values.values() for end in value.ends]
    limit = float(max(1, *ends))
    base_label = short_names(summary["models"])[base]
    figure = dots(
        f"points over {base_label}", columns, rows, (-limit, limit), level=0, whole=True, inches=_inches(columns)
    )
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(2 if len(columns) > 2 else 4))
    notes = [_HOLLOW.format("zero"), *_notes(summary, rows, columns)]
    return _finish(figure, f"Final score over {base_label} on the same items, {_of_items(summary)}", {}, notes)


def win_rates(summary: ReviewSummary) -> Figure:
    """Each model's win rate against the base in percent, a tie counting half, a panel a judge of pairs."""
    base = summary["base"]
    records_by_judge = {
        name: {model: record for model, record in (judge["pairwise"] or {}).items() if record["win_rate"]}
        for name, judge in summary["judges"].items()
    }
    titles = _titles({judge: _items(records, "win_rate") for judge, records in records_by_judge.items() if records})
    rows: dict[str, dict[str, Estimate]] = {name: {} for name in summary["models"] if name != base}
    for judge, title in titles.items():
        for model, record in records_by_judge[judge].items():
            rows[model][title] = Estimate(*(100 * record["win_rate"][end] for end in ("mean", "low", "high")))
    columns = list(titles.values())
    base_label = short_names(summary["models"])[base]
    axis = f"win rate against {base_label} (%)"
    figure = dots(axis, columns, rows, (0, 100), level=50, whole=True, inches=_inches(columns))
    figure.axes[0].set_xticks((0, 50, 100) if len(columns) > 2 else (0, 25, 50, 75, 100))
    notes = ["A pair is won if both orders say so, else a tie; a tie counts half.", _HOLLOW.format("50 %")]
    title = f"Pairs with {base_label}, judged in both orders, {_of_items(summary)}"
    return _finish(figure, title, {}, [" ".join(notes), *_notes(summary, rows, columns)])


def judge_vs_reference(summary: ReviewSummary) -> Figure:
    """The final score of each plan by each judge over that by the reference judge, with their rank correlation."""
    judges = [
        name for name, record in summary["judges"].items() if record["with"].get(REFERENCE_JUDGE, {}).get("plans")
    ]
    titles, models = _titles(dict.fromkeys(judges, ())), summary["models"]
    groups = {name: name if len(models) <= MOST_STYLES else family(name) for name in models}
    styles = model_styles(models) if len(models) <= MOST_STYLES else family_styles(models)
    labels = short_names(dict.fromkeys(groups.values()))
    per_line = min(len(judges), _PANELS_A_LINE)
    lines = -(-len(judges) // per_line)
    size = (max(SIZE[1], 3.1 * per_line + 0.4), 3.3 * lines + 1.3)
    figure, grid = plt.subplots(lines, per_line, figsize=size, squeeze=False, layout="constrained")
    entries: dict[str, Artist] = {}
    for axes, judge in zip(grid.flat, judges, strict=False):
        points: dict[str, list[tuple[float, float]]] = {}
        for model, group in groups.items():
            by_reference, by_judge = (_final_by_row(summary, name, model) for name in (REFERENCE_JUDGE, judge))
            common_rows = [row for row in by_judge if row in by_reference]
            points.setdefault(group, []).extend((by_reference[row], by_judge[row]) for row in common_rows)
        for group in dict.fromkeys(groups.values()):
            if points[group]:
                style = styles[group]
                xs, ys = zip(*points[group], strict=True)
                axes.plot(xs, ys, style.marker, color=style.color, mec="black", mew=0.4, ms=5, alpha=0.65, ls="none")
                entries[labels[group]] = Line2D(
                    [], [], color=style.color, marker=style.marker, mec="black", mew=0.4, ms=5, ls="none"
                )
        axes.plot(_SCALE, _SCALE, color="0.8", linewidth=0.8, zorder=0)
        _square(axes)
        axes.set_title(
            f"{titles[judge]}\n{_correlation(summary['judges'][judge]['with'][REFERENCE_JUDGE])}", fontsize=9
        )
    for axes in grid.flat[len(judges) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("final score by the judge", fontsize=9)
    for axes in grid.flat[max(0, len(judges) - per_line) : len(judges)]:
        axes.set_xlabel("by the reference judge", fontsize=9)
    title = f"Final scores of plans by judge and by the reference judge, {_of_items(summary)}"
    return _finish(figure, title, entries, _warnings(summary))


def _final_by_row(summary: ReviewSummary, judge: str, model: str) -> Mapping[str, float]:
    return summary["judges"][judge]["models"][model]["final_by_row"]


def _finish(
    figure: Figure, title: str, entries: Mapping[str, Artist | tuple[Artist, ...]], notes: Sequence[str]
) -> Figure:
    """Title, legend and notes, with room for them: the panels stay as high as they are, whatever is written around."""
    width, height = figure.get_size_inches()
    per_line = width * 72 / 5
    lines = sum(len(textwrap.wrap(note, int(per_line))) for note in notes) + len(entries) / 2
    above = max((axes.get_title().count("\n") for axes in figure.axes), default=0)
    figure.set_size_inches(width, height + 0.16 * (lines + above))
    return finish(figure, title, entries, notes)


def _square(axes: plt.Axes) -> None:
    for limits, ticks in ((axes.set_xlim, axes.set_xticks), (axes.set_ylim, axes.set_yticks)):
        limits(LOWEST - 0.15, HIGHEST + 0.15)
        ticks(range(LOWEST, HIGHEST + 1))
    axes.set_box_aspect(1)
    axes.tick_params(labelsize=8)
    clean(axes, "both")


def _correlation(agreement: ReviewSummary) -> str:
    if agreement["spearman"] is None:
        return f"Spearman n/a, {agreement['plans']} plans"
    interval = f"[{agreement['low']:.2f}, {agreement['high']:.2f}]"
    return f"Spearman {agreement['spearman']:.2f} {interval}, {agreement['plans']} plans"


def _marks_by_judge(columns: Sequence[str], by_judge: Mapping[str, EstimateTable]) -> tuple[Figure, dict[str, Line2D]]:
    """A panel a column, a line a model, on it a mark with interval a judge; and the legend's entries."""
    models = list(by_family(next(iter(by_judge.values()))))
    line_inches = 0.1 * len(by_judge) + 0.1
    figure, panels = panels_of_lines(columns, models, [], inches=1.75, line_inches=line_inches)
    show_whole(panels[0], _SCALE)
    panels[0].set_xticks(range(LOWEST, HIGHEST + 1))
    styles, labels = styles_of(by_judge), short_names(by_judge)
    entries = {labels[judge]: _mark(style) for judge, style in styles.items()}
    step = 0.84 / len(by_judge)
    for axes, column in zip(panels, columns, strict=True):
        for i, (judge, rows) in enumerate(by_judge.items()):
            ys = {model: y - 0.42 + (i + 0.5) * step for y, model in enumerate(models)}
            points = [(ys[model], rows[model][column]) for model in models if column in rows[model]]
            if points:
                means, errors = [value.mean for _, value in points], np.hstack([around(value) for _, value in points])
                style = styles[judge]
                axes.errorbar(
                    means,
                    [y for y, _ in points],
                    xerr=errors,
                    fmt=style.marker,
                    color=style.color,
                    elinewidth=0.9,
                    ms=3.2,
                    mec="black",
                    mew=0.3,
                    zorder=5,
                )
            write_missing(axes, [ys[model] for model in models if column not in rows[model]], LOWEST)
    panels[len(panels) // 2].set_xlabel("score (1 to 5)", fontsize=9)
    return figure, entries


def _mark(style: Style) -> Line2D:
    return Line2D([], [], color=style.color, marker=style.marker, ms=4.5, mec="black", mew=0.3)


def _final_by_judge(summary: ReviewSummary, part: str) -> tuple[dict[str, dict[str, Estimate]], list[str]]:
    """The final scores in a `part` of the judges' records ("scores", "over_base"), by model and title of the judge, and
    the titles; judges who have none for any model are left out."""
    records_by_judge = {
        judge: {name: record for name, record in judge_record["models"].items() if record[part]}
        for judge, judge_record in summary["judges"].items()
    }
    titles = _titles({judge: _items(records, part) for judge, records in records_by_judge.items() if records})
    rows = {
        name: {
            title: Estimate(**records_by_judge[judge][name][part][FINAL])
            for judge, title in titles.items()
            if name in records_by_judge[judge]
        }
        for name in summary["models"]
    }
    return rows, list(titles.values())


def _items(records: Mapping[str, ReviewSummary], part: str) -> list[int]:
    """Over how many items the means in a `part` of a judge's records are; differences have a number of their own."""
    return [record[part].get("items", record["items"]) for record in records.values() if record[part]]


def _titles(items_by_judge: Mapping[str, Collection[int]]) -> dict[str, str]:
    """The judges' names as titles of panels, all different, long ones on several lines, and below over how many items
    their means are (none: the panel has no means)."""
    labels = short_names(items_by_judge, _WIDEST_NAME)
    return {
        judge: "\n".join([*textwrap.wrap(labels[judge], 22), *note_on_counts(items, "items")])
        for judge, items in items_by_judge.items()
    }


def _inches(columns: Sequence[str]) -> float:
    return 3.4 if len(columns) == 1 else 2.0 if len(columns) < 5 else 1.7


def _of_items(summary: ReviewSummary) -> str:
    items = summary["items"]
    return f"{items} item{'' if items == 1 else 's'}, 95 % bootstrap intervals over items"


def _words(scale: str) -> str:
    return scale.replace("_", " ").replace("hallucination redundancy", "hallucination,\nredundancy (5: none)")


def _warnings(summary: ReviewSummary) -> list[str]:
    """Which judges a reader must not trust, and how many judgements are of something else."""
    judges, warnings = summary["judges"].items(), []
    names = [
        name for name, judge in judges if any(control["at_bottom"] is False for control in judge["controls"].values())
    ]
    if names:
        listed = ", ".join(short_names(names, _WIDEST_NAME).values())
        warnings.append(f"Not to be trusted, as plans that no model wrote are not at the bottom: {listed}.")
    if summary["left_out"]:
        warnings.append(
            f"{summary['left_out']} judgements of other rows, models, bases, plans or pictures are left out."
        )
    return warnings


def _notes(summary: ReviewSummary, rows: EstimateTable, columns: Sequence[str]) -> list[str]:
    missing = any(column not in values for values in rows.values() for column in columns)
    return [*_warnings(summary), *_silent(summary), *([_MISSING] if missing else [])]


def _silent(summary: ReviewSummary) -> list[str]:
    """Which judges have no panel because all their ratings failed."""
    names = [
        name
        for name, judge in summary["judges"].items()
        if not any(record["scores"] for record in judge["models"].values())
        and any(record["failed"] for record in judge["models"].values())
    ]
    return [f"All ratings failed: {', '.join(short_names(names, _WIDEST_NAME).values())}."] if names else []
