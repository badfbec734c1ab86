#!/usr/bin/env python3
"""Check a planning file as training would: every row parsed, every picture's header read, every length known.

    python scripts/training/validate_data.py
    python scripts/training/validate_data.py --rows data/my_rows.jsonl --rejected bad_rows.jsonl

Takes the same recipe and flags as run-finetuning.py. Prints a report, each defect with file:line (the first 20) and one
decoded sample that shows what is supervised. Exit status 1 if any row cannot train.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import REPOSITORY, WorkspaceConfig
from leap.cli import knob, parse_knobs, run
from leap.progress import say
from leap.rows.sources import require_source, sources_in
from leap.training.recipes import TrainingRecipe


@dataclass(frozen=True)
class Options(TrainingRecipe):
    workers: int | None = knob(None, "processes (default: one a core)", check="> 0")
    rejected: Path | None = knob(None, "write the rows that cannot train, with their reasons, to this JSONL file")


def main() -> int:
    options = parse_knobs(Options, None, __doc__, recipe=REPOSITORY / "configs/training/full.yaml")
    workspace = WorkspaceConfig.from_environment()
    workspace.require(options.model_name_or_path, "base model")
    for source in sources_in(options.train_file):
        require_source(workspace, source.path, "training file")

    from leap.models.image_budget import bound_where_possible
    from leap.models.loading import load_processor
    from leap.training.batching import describe_plan, plan_batches, total_steps
    from leap.training.preflight import check_file, joined, refuse_same_ids, refuse_tested, write_rejected
    from leap.training.resources import DiskNeed, describe_memory, geometry_of, gpu_bytes, largest_step
    from leap.training.supervision import PlanningCollator
    from leap.training.turns import render

    processor = load_processor(options.model_name_or_path)
    if unbound := bound_where_possible(processor, options.image_tokens_min, options.image_tokens_max):
        say(unbound)
    collator = PlanningCollator(
        processor,
        options.image_root,
        workspace.root,
        video_tokens=options.video_tokens_max,
        supervise=options.supervise,
    )
    shrink = options.overlong == "shrink"
    reports = [
        check_file(source.path, collator, options.model_max_length, options.workers, shrink, options.max_train_samples)
        for source in sources_in(options.train_file)
    ]
    say("\n".join(report.text() for report in reports))
    refuse_same_ids(reports)
    refuse_tested(reports, collator, workspace.benchmark, workspace.logs)
    report = joined(reports)
    if all(report.rows for report in reports):
        plan = plan_batches(options, report.lengths, 1, [len(report.rows) for report in reports])
        say(f"  {describe_plan(options, plan, devices=1)}")
        if geometry := geometry_of(options.model_name_or_path):
            largest = largest_step(geometry, options, plan.batches(0), report.lengths)
            say(f"  {describe_memory(geometry, options, largest, gpu_bytes())}")
            say(f"  {DiskNeed(geometry, options).text(total_steps(options, len(plan)))}")
        prompt, answer = render(processor, report.rows[0])
        say(f"one row, not supervised:\n{prompt}\nsupervised:\n{answer}")
    for checked in report.rejected[:20]:
        say(checked.defect)
    if len(report.rejected) > 20:
        say(f"... and {len(report.rejected) - 20} more")
    if options.rejected:
        write_rejected(report, options.rejected)
        say(f"written: {options.rejected}")
    return 1 if report.rejected else 0


if __name__ == "__main__":
    run(main)
