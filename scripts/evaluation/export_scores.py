#!/usr/bin/env python3
"""Write the scores of every example as one CSV and one Parquet table, which `datasets` and pandas load.

    python scripts/evaluation/export_scores.py
    python scripts/evaluation/export_scores.py --models baseline checkpoint-200 --dimension Spatial --output_dir tables

Reads eva_results/, writes example_scores.csv and example_scores.parquet there or to --output_dir.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import dimensions_named
from leap.cli import knob, parse_knobs, run
from leap.progress import say
from leap.text import plural


@dataclass(frozen=True)
class Options:
    results: Path = knob(Path("eva_results"), "folder of the results")
    models: list[str] = knob([], "models to take (default: all)")
    dimension: list[str] = knob(["all"], "dimensions to take, or all")
    output_dir: Path | None = knob(None, "folder to write to (default: that of the results)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    from leap.vlabench.score_table import example_rows, write_tables

    rows = example_rows(options.results, options.models, dimensions_named(options.dimension))
    csv_file, parquet_file = write_tables(rows, options.output_dir or options.results)
    say(f"{plural(len(rows), 'row')}: {csv_file}, {parquet_file}")
    say(f'load: datasets.load_dataset("parquet", data_files="{parquet_file}", split="train")')


if __name__ == "__main__":
    run(main)
