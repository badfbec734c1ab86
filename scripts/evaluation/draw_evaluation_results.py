#!/usr/bin/env python3
"""Draw the results of run_vlm_evaluation.py: figures as PNG and SVG, and the table as Markdown.

    python scripts/evaluation/draw_evaluation_results.py
    python scripts/evaluation/draw_evaluation_results.py --models baseline checkpoint-200

Reads eva_results/<dimension>/<model>/, writes eva_results/figures/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.files import write_text


@dataclass(frozen=True)
class Options:
    results: Path = knob(Path("eva_results"), "folder of the results", flags=("--results_dir",))
    models: list[str] = knob([], "names of the models to draw; none means all that have results")
    output_dir: Path | None = knob(None, "folder of the figures (default: figures/ in the results folder)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    from leap.vlabench.results import METRICS, models_in, overall, results_table

    there = models_in(options.results)
    if not there:
        raise UserError(
            f"no results in {options.results}. Make some with: python scripts/evaluation/run_vlm_evaluation.py"
        )
    unknown = [name for name in options.models if name not in there]
    if unknown:
        raise UserError(f"no results for {unknown[0]!r} in {options.results}; there: {', '.join(there)}")
    names = options.models or there

    from leap import plots

    folder = options.output_dir or options.results / "figures"
    written = []
    for scorer in METRICS:
        found = {name: value for name in names if (value := overall(options.results, name, scorer))}
        written += plots.save(plots.totals_by_dimension(found, scorer), folder, f"total_by_dimension_{scorer}")
        if "baseline" in found and len(found) > 1:
            written += plots.save(plots.improvement(found, "baseline", scorer), folder, f"improvement_{scorer}")
        if scorer == "grounded":
            written += plots.save(plots.metrics_overall(found), folder, "metrics_grounded")
    table = folder / "results_table.md"
    write_text(table, results_table(options.results, names) + "\n")
    for path in [*written, table]:
        print(path)


if __name__ == "__main__":
    run(main)
