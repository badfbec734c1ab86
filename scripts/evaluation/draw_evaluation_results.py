#!/usr/bin/env python3
"""Draw the results of run_vlm_evaluation.py: figures as PNG, SVG and PDF, and the table as Markdown.

    python scripts/evaluation/draw_evaluation_results.py
    python scripts/evaluation/draw_evaluation_results.py --models baseline checkpoint-200
    python scripts/evaluation/draw_evaluation_results.py --base checkpoint-200 --published

For each scorer: totals by dimension, the metrics that they are made of, the improvement over the base (over the same
examples), a heat map, curves over checkpoint steps, and in appendix/ a radar.
Reads eva_results/<dimension>/<model>/, writes eva_results/figures/ and removes figures there that these models do not
allow.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.files import write_text
from leap.models.names import BASE_NAME
from leap.progress import Progress, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from leap.plots.style import PublishedTotals
    from leap.vlabench.tables import Overall


@dataclass(frozen=True)
class Options:
    results: Path = knob(Path("eva_results"), "folder of the results")
    models: list[str] = knob([], "names of the models to draw; none means all that have results")
    base: str = knob(BASE_NAME, "the model that improvements are over")
    published: bool = knob(False, "show configs/published_results.yaml beside, marked as not measured here")
    relative: bool = knob(False, "the table shows improvements over the base in per cent beside points")
    output_dir: Path | None = knob(None, "folder of the figures (default: figures/ in the results folder)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    from leap.plans.scoring import METRICS
    from leap.vlabench.folder import models_in
    from leap.vlabench.published import load_published
    from leap.vlabench.tables import overall, results_table

    present = models_in(options.results)
    if not present:
        raise UserError(
            f"no results in {options.results}. Make some with: python scripts/evaluation/run_vlm_evaluation.py"
        )
    for name in [*options.models, *([] if options.base == BASE_NAME else [options.base])]:
        if name not in present:
            raise UserError(f"no results for {name!r} in {options.results}; there: {', '.join(present)}")
    names = options.models or present
    drawn = list(dict.fromkeys([*names, *([options.base] if options.base in present else [])]))

    folder = options.output_dir or options.results / "figures"
    means: dict[str, dict[str, Overall]] = {}
    # Standard output names the files and nothing else.
    with contextlib.redirect_stdout(sys.stderr), Progress("scores", len(METRICS) * len(drawn), "model") as progress:
        for scorer in METRICS:
            means[scorer] = {}
            for name in drawn:
                if scores := overall(options.results, name, scorer):
                    means[scorer][name] = scores
                progress.advance()
    published = load_published() if options.published else []
    written = draw(options, names, means, folder, {p.model: t for p in published if (t := p.totals())})
    table = folder / "results_table.md"
    relative_to = options.base if options.relative else None
    write_text(table, results_table(options.results, names, published, relative_to) + "\n")
    for path in [*written, table]:
        say(path)


def draw(
    options: Options, names: list[str], means: dict[str, dict[str, Overall]], folder: Path, published: PublishedTotals
) -> list[Path]:
    """Draw what the results allow, and remove what they do not from `folder`: it would show other results. What is
    `published` are official totals."""
    from leap.plots.style import remove, save

    written = []
    makers: dict[str, Callable[[], Figure] | None] = {}
    for scorer, by_model in means.items():
        makers |= figures(options, names, scorer, by_model, published if scorer == "official" else {})
    with contextlib.redirect_stdout(sys.stderr), Progress("figures", len(makers), "figure") as progress:
        for name, make in makers.items():
            if make:
                written += save(make(), folder, name)
            else:
                remove(folder, name)
            progress.advance()
    for scorer in means:
        for name in ("radar", "stacked"):
            remove(folder, f"{name}_{scorer}")  # which earlier versions wrote
    return written


def figures(
    options: Options, names: list[str], scorer: str, means: dict[str, Overall], published: PublishedTotals
) -> dict[str, Callable[[], Figure] | None]:
    """What makes each figure of a scorer, by file name; None where the results do not allow it."""
    from leap.models.names import curves_in
    from leap.plots import comparison, profiles
    from leap.plots.curves import checkpoint_curves
    from leap.plots.style import APPENDIX
    from leap.vlabench.compare import improvements

    models = {name: means[name] for name in names if name in means}
    base = options.base
    compared = {base: means[base], **models} if base in means else {}
    most_dimensions = max((len(scores.dimensions) for scores in models.values()), default=0)

    def improvement() -> Figure:
        return comparison.improvement(
            compared, improvements(options.results, list(compared), base, scorer), base, scorer
        )

    possible: dict[str, tuple[Callable[[], Figure], bool]] = {
        f"total_by_dimension_{scorer}": (
            lambda: comparison.totals_by_dimension(models, scorer, published),
            bool(models),
        ),
        f"metrics_{scorer}": (lambda: comparison.metrics_overall(models, scorer), bool(models)),
        f"heat_map_{scorer}": (lambda: profiles.heat_map(models, scorer, published), bool(models)),
        f"{APPENDIX}/radar_{scorer}": (lambda: profiles.radar(models, scorer, published), most_dimensions > 2),
        f"improvement_{scorer}": (improvement, len(compared) > 1),
        f"curves_{scorer}": (
            lambda: checkpoint_curves(models, scorer, published),
            any(len(steps) > 1 for steps in curves_in(models).values()),
        ),
    }
    return {name: make if allowed else None for name, (make, allowed) in possible.items()}


if __name__ == "__main__":
    run(main)
