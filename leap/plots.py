"""Figures of evaluation results, as PNG and SVG: readable in print and by the colour-blind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from configs.config import DIMENSIONS
from leap.statistics import Estimate
from leap.vlabench.results import Overall

# Okabe-Ito colours with a hatch each, so that neither hue nor print quality is needed to tell bars apart.
_STYLES = (
    ("#0072B2", ""),
    ("#E69F00", "///"),
    ("#009E73", "..."),
    ("#CC79A7", "xxx"),
    ("#56B4E9", "\\\\\\"),
    ("#D55E00", "+++"),
    ("#F0E442", "ooo"),
    ("#999999", "--"),
)

_MARKERS = "osD^vP*X"

_SIZE = (9.5, 4.6)  # inches
_COLUMNS = (*DIMENSIONS, "macro")

METRIC_TITLES = {
    "skill_match_score": "skills",
    "entity_match_score": "entities",
    "skill_with_entity_match_score": "skill with entity",
    "exact_match_score": "exact sub-tasks",
    "plan_success": "whole plan",
    "edit_similarity": "edit similarity",
    "precision": "precision",
}


def totals_by_dimension(models: Mapping[str, Overall], scorer: str) -> Figure:
    """Total score of each model in each dimension with its interval; a dimension a model lacks is marked, not zero."""
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    series = {name: _totals(found) for name, found in models.items()}
    _bars(figure, axes, _COLUMNS, series, _styles(models))
    axes.axvline(len(DIMENSIONS) - 0.5, color="0.7", linewidth=0.8)
    top = 80 if scorer == "official" else 100
    axes.set_ylim(0, top * 1.03)
    axes.set_ylabel(f"total score, {scorer} (0 to {top})")
    axes.set_title(f"Total score by dimension, {scorer} rules, bars: 95 % bootstrap interval")
    return figure


def metrics_overall(models: Mapping[str, Overall]) -> Figure:
    """What the grounded score is made of: mean over dimensions of each metric, with intervals."""
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    series = {
        name: [found.macro[metric] if found.complete else None for metric in METRIC_TITLES]
        for name, found in models.items()
    }
    _bars(figure, axes, list(METRIC_TITLES.values()), series, _styles(models))
    axes.set_ylim(0, 103)
    axes.set_ylabel("macro mean (0 to 100)")
    axes.set_title("Grounded metrics, mean of dimensions, bars: 95 % bootstrap interval")
    return figure


def improvement(models: Mapping[str, Overall], base: str, scorer: str) -> Figure:
    """Each model's total score less that of `base`, in points; no interval, since the examples are not paired here."""
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    origin = _totals(models[base])
    series: dict[str, list[Estimate | None]] = {}
    for name, found in models.items():
        pairs = zip(_totals(found), origin, strict=True)
        differences = [a.mean - b.mean if a and b else None for a, b in pairs]
        series[name] = [None if value is None else Estimate(value, value, value) for value in differences]
    styles = _styles(models)
    del series[base]
    _bars(figure, axes, _COLUMNS, series, styles)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"points over {base}, {scorer}")
    axes.set_title(f"Total score over {base}, {scorer} rules")
    return figure


def ablation(
    scores: Mapping[str, Sequence[Estimate | None]], sizes: Mapping[str, float], base: str, what: str, top: float
) -> Figure:
    """Scores of each preset beside the base's by dimension and macro (`scores`, in that order), and the macro over the
    trainable parameters (`sizes`, of the presets that have them)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8), width_ratios=(2.2, 1), layout="constrained")
    styles = _styles(scores)
    _bars(figure, left, _COLUMNS, scores, styles)
    left.axvline(len(DIMENSIONS) - 0.5, color="0.7", linewidth=0.8)
    left.set_ylim(0, top * 1.03)
    left.set_ylabel(f"{what} (0 to {top:g})")
    left.set_title("By dimension, bars: 95 % interval over seeds (over examples where there is one)")
    macros = {name: values[-1] for name, values in scores.items()}
    for i, (name, size) in enumerate(sizes.items()):
        found = macros.get(name)
        if found:
            errors = np.array([[found.mean - found.low], [found.high - found.mean]]).clip(min=0)
            marker = _MARKERS[i % len(_MARKERS)]
            right.errorbar(
                size, found.mean, errors, fmt=marker, color=styles[name][0], ecolor="black", markersize=9, capsize=3
            )
            right.annotate(
                name,
                (size, min(found.high, top * 0.95)),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    untrained = macros.get(base)
    if untrained:
        right.axhspan(untrained.low, untrained.high, color="0.88")
        right.axhline(untrained.mean, color="0.4", linestyle="--", linewidth=1)
        right.annotate(
            base, (0.01, untrained.mean), xycoords=("axes fraction", "data"), fontsize=8, va="bottom", color="0.3"
        )
    if not sizes:
        right.annotate("n/a", (0.5, 0.5), xycoords="axes fraction", ha="center", color="0.4")
    right.set_xscale("log")
    right.set_ylim(0, top * 1.03)
    right.margins(x=0.25)
    right.set_xlabel("trainable parameters")
    right.set_ylabel(f"{what}, macro (0 to {top:g})")
    right.set_title("By trainable parameters")
    right.spines[["top", "right"]].set_visible(False)
    right.grid(color="0.9")
    right.set_axisbelow(True)
    return figure


def loss_curve(records: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation loss over steps, from the lines of a run's train.jsonl."""
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    for (key, label), (color, _) in zip((("loss", "training"), ("eval_loss", "validation")), _STYLES, strict=False):
        points = sorted({record["step"]: record[key] for record in records if key in record}.items())
        if points:
            axes.plot(*zip(*points, strict=True), color=color, label=label, marker="o" if key == "eval_loss" else None)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss per supervised token (nats)")
    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9")
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png (150 dpi) and `name`.svg into `folder` and close the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)
    return paths


def _totals(found: Overall) -> list[Estimate | None]:
    """Total scores in the order of _COLUMNS; None for a dimension that is missing, and then for the mean of all."""
    by_dimension = [found.dimensions.get(dimension, {}).get("total_score") for dimension in DIMENSIONS]
    return [*by_dimension, found.macro["total_score"] if found.complete else None]


def _styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and hatch a model, the same in every figure of the same models."""
    return {name: _STYLES[i % len(_STYLES)] for i, name in enumerate(names)}


def _bars(
    figure: Figure,
    axes: plt.Axes,
    columns: Sequence[str],
    series: Mapping[str, Sequence[Estimate | None]],
    styles: Mapping[str, tuple[str, str]],
) -> None:
    """Grouped bars with intervals. A missing value is written as such, a measured zero as 0."""
    width = 0.84 / max(len(series), 1)
    for i, (name, values) in enumerate(series.items()):
        color, hatch = styles[name]
        places = np.arange(len(columns)) - 0.42 + (i + 0.5) * width
        there = [(x, value) for x, value in zip(places, values, strict=True) if value is not None]
        xs, heights = [x for x, _ in there], [value.mean for _, value in there]
        errors = np.array([[v.mean - v.low for _, v in there], [v.high - v.mean for _, v in there]])
        axes.bar(xs, heights, width * 0.94, label=name, color=color, hatch=hatch, edgecolor="white")
        if errors.any():
            axes.errorbar(xs, heights, errors.clip(min=0), fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
        for x, value in zip(places, values, strict=True):
            if value is None or value.mean == 0:
                axes.annotate(
                    "n/a" if value is None else "0",
                    (x, 0),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                    color="0.4",
                )
    axes.set_xticks(range(len(columns)), columns)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", frameon=False, ncols=min(5, max(1, len(series))), fontsize=8)
