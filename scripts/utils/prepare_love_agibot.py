#!/usr/bin/env python3
"""Prepare AgiBot data: the first frame of every episode out of its archives, and planning rows out of annotations.

    python scripts/utils/prepare_love_agibot.py --tasks 327 352
    python scripts/utils/prepare_love_agibot.py --source /data/LOVE-Agibot-Beta --workers 8
    python scripts/utils/prepare_love_agibot.py --annotations data/agibot/json --split --blind 10

Frames go to data/images/<task>-<episode>.png, with a manifest of each task in data/agibot/. An archive is fetched, read
as a stream and deleted; the same command continues after a kill and does only what is missing. With --annotations
nothing is fetched: rows are made for the frames that are there (those of --source too, if it is given), the annotations
being AgiBotWorld's task_info/*.json, LOVE-Agibot's json/output_<id>.json or rows with task_general and task_detail.
--split writes agibot_train, agibot_test and agibot_blind_<n> as split_dataset.py does. Exit status 1 if a task failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from configs.config import WorkspaceConfig, next_line
from configs.errors import UserError
from leap.agibot.jobs import disk_need, prepare_all, remove_leftovers, still_to_do
from leap.agibot.prepare import (
    PreparationKnobs,
    annotated_rows,
    jobs_to_consider,
    next_command,
    outcomes_text,
    planning_file,
    rows_text,
    split_place,
)
from leap.agibot.rows import write_rows
from leap.cli import parse_knobs, run
from leap.data.split_files import check_split, split_files
from leap.files import free_bytes
from leap.progress import say
from leap.runs.workers import WORKERS


def main() -> int:
    options = parse_knobs(PreparationKnobs, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    data = workspace.data
    if options.split and not options.annotations:
        raise UserError("--split needs rows: name their --annotations, or split a file with split_dataset.py")
    if options.split:
        check_split(options, *split_place(options, data))
    status = prepare_frames(options, workspace) if options.source or not options.annotations else 0
    if options.annotations:
        make_rows(options, data)
    if options.annotations or status == 0:
        command = next_command(options, data)
        if command:
            say(next_line(command))
    return status


def prepare_frames(options: PreparationKnobs, workspace: WorkspaceConfig) -> int:
    """Take the first frames of the chosen tasks; 1 if one failed."""
    data = workspace.data
    jobs = jobs_to_consider(options, data)
    remove_leftovers(data, jobs)
    left = still_to_do(jobs, options.verify)
    say(f"{len(jobs)} tasks, {len(jobs) - len(left)} done; to read: {sum(job.bytes for job in left):,} bytes")
    if not left:
        return 0
    need = disk_need(left, options.workers or WORKERS)
    if free_bytes(data) < need and options.ray is None:
        say(f"the disk of {data} may fill: {need:,} bytes may be needed at once, {free_bytes(data):,} are free")
    outcomes = prepare_all(left, data, workspace.logs, options.workers, options.ray)
    say(outcomes_text(outcomes))
    failed = [outcome for outcome in outcomes if outcome.problem]
    for outcome in failed:
        say(f"failed: task {outcome.task_id}: {outcome.problem}", file=sys.stderr)
    if failed:
        say(f"{len(failed)} tasks failed; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


def make_rows(options: PreparationKnobs, data: Path) -> None:
    """Planning rows of the annotated episodes whose first frames are there, and the files of their split."""
    output = planning_file(options, data)
    prepared = annotated_rows(options, data)
    for path in write_rows(prepared, data, output):
        say(f"written: {path}")
    say(rows_text(prepared))
    if not prepared.rows:
        raise UserError(f"no rows, so none are written; the reasons are in {data / 'agibot' / 'quarantine.jsonl'}")
    if options.split:
        folder, name = split_place(options, data)
        split_files(options, [output], folder, name, blind_name=f"{name}_blind")


if __name__ == "__main__":
    run(main)
