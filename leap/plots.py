"""Figures of evaluation results, as PNG and SVG: readable in print and by the colour-blind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_MISSING = "n/a"

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
    columns = [*DIMENSIONS, "macro"]
    figure, axes = plt.subplots(figsize=(9.5, 4.2), layout="constrained")
    series = {
        name: [*(found.dimensions.get(d, {}).get("total_score") for d in DIMENSIONS), found.macro["total_score"]]
        for name, found in models.items()
    }
    _bars(axes, columns, series)
    axes.axvline(len(DIMENSIONS) - 0.5, color="0.7", linewidth=0.8)
    top = 80 if scorer == "official" else 100
    axes.set_ylim(0, top)
    axes.set_ylabel(f"total score, {scorer} (0 to {top})")
    axes.set_title(f"Total score by dimension, {scorer} rules, bars: 95 % bootstrap interval")
    return figure


def metrics_overall(models: Mapping[str, Overall]) -> Figure:
    """What the grounded score is made of: mean over dimensions of each metric, with intervals."""
    figure, axes = plt.subplots(figsize=(9.5, 4.2), layout="constrained")
    series = {name: [found.macro[metric] for metric in METRIC_TITLES] for name, found in models.items()}
    _bars(axes, list(METRIC_TITLES.values()), series)
    axes.set_ylim(0, 100)
    axes.set_ylabel("macro mean (0 to 100)")
    axes.set_title("Grounded metrics, mean of dimensions, bars: 95 % bootstrap interval")
    return figure


def improvement(base: Overall, models: Mapping[str, Overall], scorer: str) -> Figure:
    """Difference of each model's total score to the base, in points; no interval, since pairs are not used here."""
    figure, axes = plt.subplots(figsize=(9.5, 4.2), layout="constrained")
    columns = [*DIMENSIONS, "macro"]
    series: dict[str, list[Estimate | None]] = {}
    for name, found in models.items():
        pairs = [(found.dimensions.get(d), base.dimensions.get(d)) for d in DIMENSIONS] + [(found.macro, base.macro)]
        differences = [a["total_score"].mean - b["total_score"].mean if a and b else None for a, b in pairs]
        series[name] = [None if value is None else Estimate(value, value, value) for value in differences]
    _bars(axes, columns, series)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"points over the base, {scorer}")
    axes.set_title(f"Total score over the base model, {scorer} rules")
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png (150 dpi) and `name`.svg into `folder` and close the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)
    return paths


def _bars(axes: plt.Axes, columns: Sequence[str], series: Mapping[str, Sequence[Estimate | None]]) -> None:
    width = 0.84 / max(len(series), 1)
    for i, (name, values) in enumerate(series.items()):
        color, hatch = _STYLES[i % len(_STYLES)]
        places = np.arange(len(columns)) - 0.42 + (i + 0.5) * width
        there = [(x, value) for x, value in zip(places, values, strict=True) if value is not None]
        heights = [value.mean for _, value in there]
        errors = [[v.mean - v.low for _, v in there], [v.high - v.mean for _, v in there]]
        axes.bar([x for x, _ in there], heights, width * 0.94, label=name, color=color, hatch=hatch, edgecolor="white")
        if np.any(errors):
            axes.errorbar(
                [x for x, _ in there],
                heights,
                np.clip(errors, 0, None),
                fmt="none",
                ecolor="black",
                elinewidth=0.9,
                capsize=2,
            )
        for x, value in zip(places, values, strict=True):
            if value is None:
                axes.annotate(
                    _MISSING,
                    (x, 0),
                    xytext=(0, 3),
                    textcoords="offset points",
                    rotation=90,
                    ha="center",
                    fontsize=7,
                    color="0.4",
                )
    axes.set_xticks(range(len(columns)), columns)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=min(4, max(1, len(series))), fontsize=8, loc="upper right")
