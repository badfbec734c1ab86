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

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.agibot.jobs import (
    ArchiveJob,
    Outcome,
    chosen,
    disk_need,
    free_bytes,
    jobs_of_folder,
    prepare_all,
    remove_leftovers,
    still_to_do,
)
from leap.cli import knob, parse_knobs, run
from leap.data.split_files import SplitKnobs, check_split, split_files
from leap.downloads.access import choose_host
from leap.runs.workers import WORKERS


@dataclass(frozen=True)
class Preparation:
    repo_id: str = knob("EvanSirius/LOVE-Agibot-Beta", "data set on the Hub with image/task_<id>.tar.gz")
    revision: str | None = knob(None, "branch, tag or commit of it (default: its main branch)")
    source: Path | None = knob(None, "folder with the archives instead, in it or in its image/; they stay there")
    tasks: list[str] = knob([], "task ids, as 327 352 (default: all)")
    max_tasks: int | None = knob(None, "tasks at most, the lowest ids first", check="> 0")
    workers: int | None = knob(
        None, f"archives at once (default: {WORKERS}; on a cluster one a core)", flags=("--num-workers",), check="> 0"
    )
    cluster: str | None = knob(
        None, "Ray cluster that does the work: its address, or auto; the workspace must be on a disk all machines share"
    )
    keep_archives: bool = knob(False, "keep what was fetched, in data/agibot/archives")
    verify: bool = knob(False, "compare the frames that are there with their hashes, and do anew what is damaged")
    annotations: list[Path] = knob([], "JSON or JSONL files, or folders of them, to make planning rows of")
    output: Path | None = knob(None, "planning file to write (default: data/agibot_all.jsonl)")
    split: bool = knob(False, "split the rows; the flags of split_dataset.py tell how")


@dataclass(frozen=True)
class Options(SplitKnobs, Preparation):
    """The flags of the preparation, then those of the split."""


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    data = WorkspaceConfig.from_environment().data
    if options.split and not options.annotations:
        raise UserError("--split needs rows: name their --annotations, or split a file with split_dataset.py")
    if options.split:
        check_split(options, *split_place(options, data))
    status = prepare_frames(options, data) if options.source or not options.annotations else 0
    if options.annotations:
        make_rows(options, data)
    elif status == 0:
        say_next(options, data)
    return status


def prepare_frames(options: Options, data: Path) -> int:
    """Take the first frames of the chosen tasks; 1 if one failed."""
    jobs = chosen_of_folder(options, data) if options.source else chosen_of_hub(options, data)
    remove_leftovers(data, jobs)
    left = still_to_do(jobs, options.verify)
    print(f"{len(jobs)} tasks, {len(jobs) - len(left)} done; to read: {sum(job.bytes for job in left):,} bytes")
    if not left:
        return 0
    need = disk_need(left, options.workers or WORKERS)
    if free_bytes(data) < need and options.cluster is None:
        print(f"the disk of {data} may fill: {need:,} bytes may be needed at once, {free_bytes(data):,} are free")
    outcomes = prepare_all(left, data, options.workers, options.cluster)
    return report(outcomes)


def make_rows(options: Options, data: Path) -> None:
    """Planning rows of the annotated episodes whose first frames are there, and the files of their split."""
    from leap.agibot.rows import prepare_rows, write_rows

    output = planning_file(options, data)
    prepared = prepare_rows(options.annotations, data, options.tasks, options.workers or WORKERS)
    if not (prepared.rows or prepared.quarantined):
        of_tasks = f" of the tasks {' '.join(options.tasks)}" if options.tasks else ""
        raise UserError(f"no entry{of_tasks} in {' '.join(map(str, options.annotations))}")
    for path in write_rows(prepared, data, output):
        print(f"written: {path}")
    print(f"{len(prepared.rows)} rows, {len(prepared.quarantined)} entries quarantined")
    for reason, count in sorted(prepared.reasons().items()):
        print(f"  {count} x {reason}")
    if prepared.unannotated:
        print(f"{prepared.unannotated} first frames have no usable annotation")
    if not prepared.rows:
        raise UserError(f"no rows, so none are written; the reasons are in {data / 'agibot' / 'quarantine.jsonl'}")
    if options.split:
        folder, name = split_place(options, data)
        split_files(options, [output], folder, name, blind_name=f"{name}_blind")
        train = folder / f"{name}_train.jsonl"
        print(f"next: python scripts/training/validate_data.py --train_file {shlex.quote(str(train))}")
    else:
        print(f"next: python scripts/utils/split_dataset.py --source {shlex.quote(str(output))}")


def planning_file(options: Options, data: Path) -> Path:
    return options.output or data / "agibot_all.jsonl"


def split_place(options: Options, data: Path) -> tuple[Path, str]:
    """The folder of the split's files, and what their names begin with."""
    output = planning_file(options, data)
    return output.parent, output.stem.removesuffix("_all")


def say_next(options: Options, data: Path) -> None:
    """The command that makes rows, if there are annotations where they are fetched to or beside the archives."""
    source = options.source
    folders = [source / "json", source / "task_info"] if source else [data / "agibot" / "json"]
    folder = next((folder for folder in folders if any(folder.glob("*.json*"))), None)
    if folder:
        tasks = f" --tasks {shlex.join(options.tasks)}" if options.tasks else ""
        command = f"--annotations {shlex.quote(str(folder))}{tasks} --split"
        print(f"next: python scripts/utils/prepare_love_agibot.py {command}")


def chosen_of_folder(options: Options, data: Path) -> list[ArchiveJob]:
    return chosen(jobs_of_folder(options.source, data), options.tasks, options.max_tasks)


def chosen_of_hub(options: Options, data: Path) -> list[ArchiveJob]:
    """The jobs of the chosen tasks, whose annotations are fetched at once: they are small."""
    from leap.agibot.hub import fetch_annotations, jobs_of_listing, list_repository

    choose_host(mirror=False)
    listing = list_repository(options.repo_id, options.revision)
    jobs = jobs_of_listing(listing, options.repo_id, data, options.keep_archives)
    jobs = chosen(jobs, options.tasks, options.max_tasks)
    annotations = fetch_annotations(listing, options.repo_id, {job.task_id for job in jobs}, data)
    if annotations:
        print(f"{len(annotations)} files of annotations in {annotations[0].parent}")
    return jobs


def report(outcomes: list[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.problem]
    frames, quarantined = (sum(getattr(one, name) for one in outcomes) for name in ("frames", "quarantined"))
    print(f"tasks done: {len(outcomes) - len(failed)}, first frames: {frames}, episodes quarantined: {quarantined}")
    if others := sum(outcome.others for outcome in outcomes):
        print(f"{others} of the frames' places held another picture, which stays; delete one to get its frame")
    for outcome in failed:
        print(f"failed: task {outcome.task_id}: {outcome.problem}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} tasks failed; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
