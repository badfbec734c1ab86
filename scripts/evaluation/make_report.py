#!/usr/bin/env python3
"""Make one HTML page of evaluation results: tables, figures, and every example with each model's plan beside the truth.

    python scripts/evaluation/make_report.py
    python scripts/evaluation/make_report.py --models baseline checkpoint-200 --output report.html --title "Step 200"
    python scripts/evaluation/make_report.py --images-folder      # full pictures in a folder beside the page

Reads eva_results/<dimension>/<model>/, the benchmark and, if there is one, the blind review in eva_results/blind_10/;
writes eva_results/report.html. The page needs nothing but the file: open it in a browser, send it, put it on a server.
It never asks the network for anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.progress import say


@dataclass(frozen=True)
class Options:
    results: Path = knob(Path("eva_results"), "folder of the results")
    data_path: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the benchmark")
    models: list[str] = knob([], "names of the models to show; none means all that have results")
    output: Path | None = knob(None, "the page (default: report.html in the results folder)")
    review_dir: Path = knob(Path("eva_results/blind_10"), "folder of a blind review to show too, if it is there")
    image_root: Path | None = knob(None, "folder below which the review's pictures lie, if not beside its rows")
    title: str = knob("LEAP evaluation report", "title of the page")
    max_megabytes: float = knob(60.0, "largest size of the page (10^6 bytes); pictures shrink to fit", check="> 0")
    images_folder: bool = knob(
        False, "put the full pictures into <output>_images/ beside the page, linked or copied, none into it"
    )


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    output = options.output or options.results / "report.html"
    if output.is_dir():
        raise UserError(f"--output must be a file: {output} is a folder")

    from leap.report.review import collect_review, has_review
    from leap.vlabench.folder import models_in

    present = models_in(options.results)
    reviewed = has_review(options.review_dir)
    if not present and not reviewed:
        raise UserError(
            f"no results in {options.results}. Make some with: python scripts/evaluation/run_vlm_evaluation.py"
        )
    unknown = [name for name in options.models if name not in present]
    if unknown:
        raise UserError(f"no results for {unknown[0]!r} in {options.results}; there: {', '.join(present) or 'none'}")

    from leap.report.build import build_report

    models = list(dict.fromkeys(options.models)) or present
    workspace = WorkspaceConfig.from_environment().root
    review = collect_review(options.review_dir, models, options.image_root, workspace) if reviewed else None
    notes = build_report(
        options.results,
        models,
        options.data_path,
        output,
        options.title,
        options.max_megabytes,
        options.images_folder,
        review,
    )
    for note in notes:
        say(f"note: {note}")
    say(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
