#!/usr/bin/env python3
"""Say whether models are better than another, over the examples that both of each pair answered.

    python scripts/evaluation/compare_models.py baseline checkpoint-200
    python scripts/evaluation/compare_models.py baseline checkpoint-200 checkpoint-400 checkpoint-600
    python scripts/evaluation/compare_models.py baseline checkpoint-200 --metric plan_success entity_match_score

The names of the models come first; differences are each later one less the first, by dimension, macro and micro, with
95 % intervals and paired tests, corrected for all models named at once. Reads eva_results/, writes
eva_results/comparisons/<A>_vs_<B>/.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from configs.config import WorkspaceConfig, next_line, place_flag
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.progress import say


@dataclass(frozen=True)
class Options:
    models: list[str] = knob(
        [], "the model to compare with, then the others; the flag may be left out where they come first"
    )
    metric: list[str] = knob([], "metrics, as in grounded.plan_success or plan_success (default: both total scores)")
    relative: bool = knob(False, "show differences in per cent beside points")
    results: Path = knob(Path("eva_results"), "folder of the results")


def main() -> None:
    names = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    options = parse_knobs(Options, (["--models", *names] if names else []) + sys.argv[1 + len(names) :], __doc__)
    if len(options.models) < 2 or len(set(options.models)) < len(options.models):
        raise UserError(
            f"two models or more, each once, are compared; named: {', '.join(options.models) or 'none'}. As in: "
            "python scripts/evaluation/compare_models.py baseline checkpoint-200"
        )

    from leap.vlabench.compare import compare_all, comparison_tables, metrics_named, write_comparison

    base, *others = options.models
    for comparison in compare_all(options.results, base, others, metrics_named(options.metric)):
        say(comparison_tables(comparison, relative=options.relative))
        say(f"\n-> {write_comparison(options.results, comparison)}\n")
    results = place_flag("--results", options.results, WorkspaceConfig.from_environment().results)
    say(next_line(f"python scripts/evaluation/make_report.py{results}"))


if __name__ == "__main__":
    run(main)
