"""Figures of trainings: the loss of one, the presets of an ablation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from configs.config import DIMENSIONS
from leap.plans.measures import Measure
from leap.plots.marks import around, grouped_bars
from leap.plots.style import COLORS, COLUMNS, MARKERS, SIZE, clean, finish, plt, scale, styles_of
from leap.statistics import Estimate


def ablation(
    scores: Mapping[str, Sequence[Estimate | None]], sizes: Mapping[str, float], base: str, measure: Measure
) -> Figure:
    """Scores of each preset beside the base's by dimension and macro (`scores`, in that order), and the macro over the
    trainable parameters (`sizes`, of the presets that have them)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8), width_ratios=(2.2, 1), layout="constrained")
    rows = {
        name: {column: value for column, value in zip(COLUMNS, values, strict=True) if value is not None}
        for name, values in scores.items()
    }
    styles = styles_of(scores, base)
    entries = grouped_bars(left, COLUMNS, rows, styles)
    left.axvline(len(DIMENSIONS) - 0.5, color="0.7", linewidth=0.8)
    left.set_ylim(0, measure.best * 1.03)
    left.set_ylabel(scale(measure))
    left.set_title("By dimension, bars: 95 % interval over seeds (over examples where there is one)", fontsize=10)
    macros = {name: values[-1] for name, values in scores.items()}
    for i, (name, size) in enumerate(sizes.items()):
        macro = macros.get(name)
        if macro:
            marker = MARKERS[i % len(MARKERS)]
            right.errorbar(
                size,
                macro.mean,
                around(macro),
                fmt=marker,
                color=styles[name].color,
                ecolor="black",
                markersize=9,
                capsize=3,
            )
            right.annotate(
                name,
                (size, min(macro.ends[1], measure.best * 0.95)),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    untrained = macros.get(base)
    if untrained:
        right.axhspan(*untrained.ends, color="0.88")
        right.axhline(untrained.mean, color="0.4", linestyle="--", linewidth=1)
        right.annotate(
            base, (0.01, untrained.mean), xycoords=("axes fraction", "data"), fontsize=8, va="bottom", color="0.3"
        )
    if not sizes:
        right.annotate("n/a", (0.5, 0.5), xycoords="axes fraction", ha="center", color="0.4")
    right.set_xscale("log")
    right.set_ylim(0, measure.best * 1.03)
    right.margins(x=0.25)
    right.set_xlabel("trainable parameters")
    right.set_ylabel(f"{scale(measure)}, macro")
    right.set_title("By trainable parameters", fontsize=10)
    clean(right, "both")
    return finish(figure, "", entries)


def loss_curve(records: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation loss over steps, from the lines of a run's train.jsonl."""
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    for (key, label), color in zip((("loss", "training"), ("eval_loss", "validation")), COLORS, strict=False):
        points = sorted({record["step"]: record[key] for record in records if key in record}.items())
        if points:
            axes.plot(*zip(*points, strict=True), color=color, label=label, marker="o" if key == "eval_loss" else None)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss per supervised token (nats)")
    axes.set_yscale("log")
    clean(axes, "both")
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def reward_against_success(paths: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """What held-out plans are worth (of 100) over the reward in training (of 1), along each run from its first
    validation, empty, to its last, filled: up and to the right is learning, down and to the right is hacking."""
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    for (name, path), color in zip(paths.items(), itertools.cycle(COLORS), strict=False):
        rewards, successes = zip(*path, strict=True)
        axes.plot(rewards, successes, color=color, linewidth=1, alpha=0.7)
        axes.plot(rewards[:1], successes[:1], color=color, marker="o", markerfacecolor="white", linestyle="none")
        axes.plot(rewards[-1:], successes[-1:], color=color, marker="o", linestyle="none", label=name)
    axes.set_xlabel("reward of completions in training (of 1)")
    axes.set_ylabel("held-out plans right (of 100)")
    clean(axes, "both")
    axes.legend(frameon=False)
    return figure


def reward_curve(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Reward of completions and of held-out plans, and what held-out plans are worth by themselves, over steps, from
    the lines of a run's train.jsonl: a reward that rises while plans get worse shows at a glance."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(SIZE[0], SIZE[1] * 1.4), sharex=True, layout="constrained")
    rewards = {"reward": "training", "eval_reward": "held out, greedy", "frac_reward_zero_std": "groups without spread"}
    plans = {
        "eval_grounded_plan_success": "whole plans",
        "eval_grounded_entity": "objects",
        "eval_plan_step_f1": "steps",
    }
    for axes, curves in ((above, rewards), (below, plans)):
        for (key, label), color in zip(curves.items(), COLORS, strict=False):
            points = {record["step"]: record[key] for record in records if record.get(key) is not None}
            if points:
                best = 100 if key == "eval_plan_step_f1" else 1
                steps, values = zip(*sorted(points.items()), strict=True)
                axes.plot(
                    steps,
                    [value * best for value in values],
                    color=color,
                    label=label,
                    marker="o" if key.startswith("eval_") else None,
                )
        clean(axes, "both")
        if axes.lines:
            axes.legend(frameon=False)
    above.set_ylim(0, 1.03)
    above.set_ylabel("reward (of 1)")
    below.set_ylim(0, 103)
    below.set_ylabel("held-out plans right (of 100)")
    below.set_xlabel("optimiser step")
    return figure
