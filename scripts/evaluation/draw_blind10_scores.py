#!/usr/bin/env python3
"""Draw what the judges of a blind review said as PNG, SVG and PDF, out of what analyze_output_results.py wrote.

    python scripts/evaluation/draw_blind10_scores.py
    python scripts/evaluation/draw_blind10_scores.py --review_dir eva_results/blind_10 --output_dir figures

Mean final scores and the four scales by model, the difference from the base over the same items, each judge beside the
reference judge plan by plan, win rates of pairs, curves over checkpoint steps. Reads summary.json, writes
blind10_*.png, .svg and .pdf into figures/ and removes those that these judgements do not allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.progress import say

ANALYZE = "python scripts/evaluation/analyze_output_results.py"


@dataclass(frozen=True)
class Options:
    review_dir: Path = knob(Path("eva_results/blind_10"), "folder of the review")
    output_dir: Path | None = knob(None, "folder of the figures (default: figures/ in the review's folder)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    from leap.files import read_json
    from leap.plots.review import review_figures
    from leap.plots.style import remove, save

    path = options.review_dir / "summary.json"
    if not path.is_file():
        raise UserError(f"no summary to draw: {path} is not there. Make it with: {ANALYZE}")
    summary = read_json(path)
    if not isinstance(summary, dict) or not {"judges", "left_out"} <= summary.keys():
        raise UserError(f"{path} is no summary of a review. Make it with: {ANALYZE}")
    figures = review_figures(summary)
    if not any(figures.values()):
        raise UserError(f"{path} holds no judgement that could be drawn. Judge the outputs with: {ANALYZE}")
    folder = options.output_dir or options.review_dir / "figures"
    for name, make in figures.items():
        if make:
            for written in save(make(), folder, name):
                say(written)
        else:
            remove(folder, name)


if __name__ == "__main__":
    run(main)
