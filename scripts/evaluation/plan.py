#!/usr/bin/env python3
r"""Ask a planner for a plan for your own picture.

    python scripts/evaluation/plan.py --image photo.jpg "Put the cup on the shelf"               # the base model
    python scripts/evaluation/plan.py --checkpoint output/checkpoint-200 --image photo.jpg "Put the cup on the shelf"
    python scripts/evaluation/plan.py --image photo.jpg --tag 120,80 --tag 300,200 "Put the cup on the shelf"
    python scripts/evaluation/plan.py --image photo.jpg --format json --drawing plan.png "Put the cup on the shelf"
    python scripts/evaluation/plan.py --image photo.jpg --temperature 0.7 --num_samples 3 "Put the cup on the shelf"
    python scripts/evaluation/plan.py --rows photos.jsonl --drawing plans/
    python scripts/evaluation/plan.py --planner openai --base_url http://127.0.0.1:8000/v1 --model NAME \
        --image photo.jpg "Put the cup on the shelf"

Without tags it asks for numbered steps. With tags (--tag numbers an object at a pixel, --tagged_image is the same
picture with numbers on it) it asks for skills over them, as the benchmark does. Give --image several times to show
several pictures, --checkpoint to ask several models. Plans of --rows are journaled in eva_results/plans/<model>/: a
killed run goes on with the same command. Exit status 1 if there is no plan because the machine or a picture failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import parse_knobs, run
from leap.models.loading import free_memory
from leap.planners import MachineFailure
from leap.planners.candidates import Candidate
from leap.planning.batch import PLANS_FILE, write_plans
from leap.planning.options import PlanOptions
from leap.planning.photos import PhotoPlan, PhotoPlanner, planning_models
from leap.planning.requests import PlanRequest, read_requests
from leap.planning.tags import tags_in
from leap.progress import print_some, say


def main(argv: list[str] | None = None) -> int:
    options = parse_knobs(PlanOptions, argv, __doc__)
    if options.rows is None:
        request = request_of(options)
        return plans_for(request, planning_models(options), options)
    if options.image or options.tag or options.tagged_image or options.instruction:
        raise UserError("--rows holds instructions and pictures; leave out --image, --tag and the instruction")
    workspace = WorkspaceConfig.from_environment()
    requests = read_requests(workspace.require_file(options.rows, "rows"), options.image_root, workspace.root)
    return batches_for(requests, planning_models(options), options)


def request_of(options: PlanOptions) -> PlanRequest:
    """What the command line asks. UserError for what is missing or not there."""
    words = options.instruction.strip()
    if not words:
        raise UserError('say what the robot should do, as in: --image photo.jpg "Put the cup on the shelf"')
    if Path(words).is_file():
        raise UserError(f"{words} is a file and no instruction; name each picture with an --image of its own")
    if not options.image:
        raise UserError('name a picture, as in: --image photo.jpg "Put the cup on the shelf"; or many with --rows')
    workspace = WorkspaceConfig.from_environment()
    for path in [*options.image, *([options.tagged_image] if options.tagged_image else [])]:
        workspace.require_file(path, "picture")
    return PlanRequest(words, tuple(options.image), options.tagged_image, tags_in(options.tag))


def plans_for(request: PlanRequest, models: Sequence[Candidate], options: PlanOptions) -> int:
    """Print, and draw, the plan of each model; the exit status."""
    failed = False
    for model in models:
        planner = PhotoPlanner(options, model)
        try:
            plans = planner.answers(request, options.num_samples)
        except MachineFailure as failure:
            say(f"error: no plan of {model.name}: {failure!s}", sys.stderr)
            failed = True
            continue
        for note in planner.notes if model.folder else ():  # those of an endpoint are about scores
            say(f"warning: {note}", sys.stderr)
        if len(models) > 1 and options.format == "text":
            say(f"\n{model.name}")
        for number, plan in enumerate(plans, 1):
            if len(plans) > 1 and options.format == "text":
                say(f"\nplan {number} of {len(plans)}")
            show(plan, options.format)
            if options.drawing:
                path, ending = options.drawing, f"-{model.name}" if len(models) > 1 else ""
                ending += f"-{number}" if len(plans) > 1 else ""
                path = path.with_stem(f"{path.stem}{ending}")
                draw(plan, path)
                say(f"-> {path}", sys.stderr)
        del planner
        free_memory()
    return 1 if failed else 0


def show(plan: PhotoPlan, form: str) -> None:
    """Print a plan, with what is wrong with it on stderr."""
    if form == "json":
        say(json.dumps(plan.record()))
    else:
        for number, step in enumerate(plan.steps, 1):
            say(f"{number}. {step}")
        if not plan.steps:
            say(plan.text or "(the model wrote nothing)")
    for problem in plan.problems():
        say(f"warning: {problem}", sys.stderr)


def draw(plan: PhotoPlan, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plan.drawing().save(path, format="PNG")


def batches_for(requests: Sequence[PlanRequest], models: Sequence[Candidate], options: PlanOptions) -> int:
    """Have each model plan for all rows; the exit status."""
    failures: list[str] = []
    for model in models:
        name = model.name + options.name_suffix
        folder = options.output_dir / name
        batch = write_plans(requests, model._replace(name=name), options, folder)
        if options.drawing:
            home = options.drawing / name if len(models) > 1 else options.drawing
            for place, plan in batch.plans.items():
                number = "" if place.sample is None else f"-{place.sample + 1}"
                draw(plan, home / f"{place.row:04d}{number}.png")
        cut = sum(plan.stop == "length" for plan in batch.plans.values())
        rows = len({place.row for place in batch.plans})
        drawn = f", {len(batch.plans)} plans drawn" if options.num_samples > 1 else ""
        say(f"{name}: {rows} of {len(requests)} rows have a plan{drawn}, {cut} cut  -> {folder / PLANS_FILE}")
        failures += [f"  {name}, row {place.row}: {reason}" for place, reason in sorted(batch.failures.items())]
        free_memory()
    if failures:
        say(f"\n{len(failures)} plans are missing (--retry_failed asks again):")
        print_some(failures, "failures.jsonl of each model")
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
