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

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.blind.options import OutputOptions
from leap.blind.outputs import OUTPUTS_FILE, Output
from leap.blind.rows import read_blind_rows
from leap.cli import parse_knobs, run
from leap.models.checkpoints import step_of
from leap.models.loading import pick_device
from leap.models.names import BASE_NAME
from leap.planners import Planner, open_planner
from leap.planners.candidates import Candidate, complete_checkpoints, named_checkpoint, served_model
from leap.progress import print_some


def main() -> int:
    options = parse_knobs(OutputOptions, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    how = options.drawing
    workspace.require_file(options.data_file, "planning rows")
    if options.image_root:
        workspace.require(options.image_root, "folder of the images")
    models = models_to_ask(options, workspace)
    rows = read_blind_rows(options.data_file, options.image_root, workspace.root)
    if options.planner != "openai":
        pick_device(options.device)

    from leap.blind.run import write_outputs

    def open_model(folder: Path | None) -> Planner:
        return open_planner(options, folder)

    written = write_outputs(
        models, rows, open_model, options.save_dir, how, options.max_models, options.overwrite, options.retry_failed
    )
    return report(written.outputs, written.standing, options.save_dir)


def models_to_ask(options: OutputOptions, workspace: WorkspaceConfig) -> list[Candidate]:
    """The base first. UserError if a folder that the user named is not there, or two models have one name."""
    if options.planner == "openai":
        if options.checkpoint:
            raise UserError("--planner openai asks the model that the endpoint serves; leave out --checkpoint")
        found = [served_model(options)]
    else:
        base = workspace.require(options.base_model or workspace.base_model, "base model")
        found = [Candidate(base, BASE_NAME), *checkpoints_to_ask(options, base, workspace)]
    found = list(dict.fromkeys(Candidate(folder, name + suffix(options)) for folder, name in found))
    names = Counter(model.name for model in found)
    for model in found:
        if names[model.name] > 1:
            raise UserError(f"two models would be called {model.name}; ask them one at a time, with --suffix")
    return found


def checkpoints_to_ask(options: OutputOptions, base: Path, workspace: WorkspaceConfig) -> list[Candidate]:
    """Those that the user named, the base not among them, else the complete ones in the folder of checkpoints."""
    for folder in options.checkpoint:
        workspace.require(folder, "checkpoint")
    if options.checkpoint:
        named = [named_checkpoint(folder, base, options.checkpoints_dir) for folder in options.checkpoint]
        found = [model for model in named if model.name != BASE_NAME]
    else:
        found = complete_checkpoints(options.checkpoints_dir)
    if options.max_checkpoints is None:
        return found
    first = sorted(found, key=lambda model: (step_of(model.folder) is None, step_of(model.folder) or 0))
    return [model for model in found if model in first[: options.max_checkpoints]]


def suffix(options: OutputOptions) -> str:
    return f"_{options.suffix}" if options.suffix else ""


def report(outputs: Sequence[Output], standing: Sequence[str], folder: Path) -> int:
    """Print a line a model, what stands from earlier runs and what failed; the exit status."""
    for name in dict.fromkeys(output.model for output in outputs):
        mine = [output for output in outputs if output.model == name]
        written, cut = sum(o.text is not None for o in mine), sum(o.stop == "length" for o in mine)
        print(f"{name}: {written} of {len(mine)} rows answered, {cut} cut by --max_new_tokens")
    print(f"-> {folder / OUTPUTS_FILE}")
    if standing:
        print()
        print_some(standing, OUTPUTS_FILE)
    failed: dict[tuple[str, str], list[str]] = {}
    for output in outputs:
        if output.failure:
            failed.setdefault((output.model, output.failure["reason"]), []).append(str(output.sample))
    if failed:
        print(f"\n{sum(map(len, failed.values()))} outputs failed and hold no plan (--retry_failed asks again):")
        lines = [f"  {name}, row {', '.join(rows)}: {reason}" for (name, reason), rows in failed.items()]
        print_some(lines, OUTPUTS_FILE)
    return 1 if failed or standing else 0


if __name__ == "__main__":
    run(main)
