#!/usr/bin/env python3
"""Say whether one model is better than another, over the examples that both answered.

    python scripts/evaluation/compare_models.py baseline checkpoint-200
    python scripts/evaluation/compare_models.py baseline checkpoint-200 --metric plan_success entity_match_score

The names of the two models come first; differences are the second less the first, by dimension, macro and micro, with
95 % intervals and paired tests. Reads eva_results/, writes eva_results/comparisons/<A>_vs_<B>/.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.progress import say


@dataclass(frozen=True)
class Options:
    models: list[str] = knob([], "the two models; the flag may be left out where they come first")
    metric: list[str] = knob([], "metrics, as in grounded.plan_success or plan_success (default: both total scores)")
    results: Path = knob(Path("eva_results"), "folder of the results", flags=("--results_dir",))


def main() -> None:
    names = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    options = parse_knobs(Options, (["--models", *names] if names else []) + sys.argv[1 + len(names) :], __doc__)
    if len(options.models) != 2:
        raise UserError(
            f"two models are compared, {len(options.models)} named. As in: "
            "python scripts/evaluation/compare_models.py baseline checkpoint-200"
        )

    from leap.vlabench.compare import compare, comparison_tables, metrics_named, write_comparison

    comparison = compare(options.results, *options.models, metrics_named(options.metric))
    say(comparison_tables(comparison))
    print(f"\n-> {write_comparison(options.results, comparison)}")


if __name__ == "__main__":
    run(main)
