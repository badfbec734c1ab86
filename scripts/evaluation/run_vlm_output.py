#!/usr/bin/env python3
"""Have models write plans for the rows of a blind review, data/blind_10.jsonl or any planning rows.

    python scripts/evaluation/run_vlm_output.py                              # the base and all of output/, greedily
    python scripts/evaluation/run_vlm_output.py --checkpoint output/checkpoint-200 output/lora/checkpoint-90
    python scripts/evaluation/run_vlm_output.py --temperature 0.7 --top_p 0.9 --seed 1 --suffix T07
    python scripts/evaluation/run_vlm_output.py --planner openai --base_url http://127.0.0.1:8000/v1 --model NAME

Answers are journaled as they come in eva_results/blind_10/outputs.jsonl: a killed run continues with the same command,
and only changed rows and models are asked again. blind10_outputs.csv holds the plans in the original's columns. One
model is in memory at a time unless --max_models says otherwise. Exit status 1, and a list, if rows or models failed or
could not be asked: an earlier plan of theirs stands, else they hold a reason and no plan (--retry_failed asks again).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from configs.config import WorkspaceConfig, next_line, place_flag
from leap.blind.options import OutputOptions
from leap.blind.outputs import OUTPUTS_FILE, Output
from leap.blind.rows import read_blind_rows
from leap.cli import parse_knobs, run
from leap.models.loading import pick_device
from leap.planners import open_planner
from leap.planners.candidates import models_to_ask
from leap.progress import print_some, say


def main() -> int:
    options = parse_knobs(OutputOptions, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    workspace.require_file(options.data_file, "planning rows")
    if options.image_root:
        workspace.require(options.image_root, "folder of the images")
    models = models_to_ask(
        options,
        workspace,
        options.checkpoints_dir,
        with_base=True,
        with_complete=not options.checkpoint,
        max_checkpoints=options.max_checkpoints,
    )
    suffix = f"_{options.suffix}" if options.suffix else ""
    models = [model._replace(name=model.name + suffix) for model in models]
    rows = read_blind_rows(options.data_file, options.image_root, workspace.root)
    if options.planner != "openai":
        pick_device(options.device)

    from leap.blind.run import write_outputs

    review = write_outputs(models, rows, lambda folder: open_planner(options, folder), options)
    return report(review.outputs, review.standing, options.save_dir)


def report(outputs: Sequence[Output], standing: Sequence[str], folder: Path) -> int:
    """Print a line a model, what stands from earlier runs and what failed; the exit status."""
    for name in dict.fromkeys(output.model for output in outputs):
        of_model = [output for output in outputs if output.model == name]
        written, cut = sum(o.text is not None for o in of_model), sum(o.stop == "length" for o in of_model)
        say(f"{name}: {written} of {len(of_model)} rows answered, {cut} cut by --max_new_tokens")
    say(f"-> {folder / OUTPUTS_FILE}")
    if standing:
        say("")
        print_some(standing, OUTPUTS_FILE)
    failed: dict[tuple[str, str], list[str]] = {}
    for output in outputs:
        if output.failure:
            failed.setdefault((output.model, output.failure["reason"]), []).append(str(output.sample))
    if failed:
        say(f"\n{sum(map(len, failed.values()))} outputs failed and hold no plan (--retry_failed asks again):")
        lines = [f"  {name}, row {', '.join(rows)}: {reason}" for (name, reason), rows in failed.items()]
        print_some(lines, OUTPUTS_FILE)
    if failed or standing:
        return 1
    review = place_flag("--review_dir", folder, WorkspaceConfig.from_environment().results / "blind_10")
    say(next_line(f"python scripts/evaluation/analyze_output_results.py --judge reference{review}"))
    return 0


if __name__ == "__main__":
    run(main)
