"""AgiBot data from start to end: which archives to read, rows of annotated episodes, and what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.agibot.jobs import ArchiveJob, TaskOutcome, chosen_jobs, jobs_of_folder
from leap.agibot.rows import AnnotatedRows, prepare_rows
from leap.cli import knob
from leap.data.split_files import SplitKnobs
from leap.downloads.access import choose_host
from leap.progress import say
from leap.runs.workers import WORKERS


@dataclass(frozen=True)
class Preparation:
    repo_id: str = knob("EvanSirius/LOVE-Agibot-Beta", "data set on the Hub with image/task_<id>.tar.gz")
    revision: str | None = knob(None, "branch, tag or commit of it (default: its main branch)")
    source: Path | None = knob(None, "folder with the archives instead, in it or in its image/; they stay there")
    tasks: list[str] = knob([], "task ids, as 327 352 (default: all)")
    max_tasks: int | None = knob(None, "tasks at most, the lowest ids first", check="> 0")
    workers: int | None = knob(None, f"archives at once (default: {WORKERS}; on a cluster one a core)", check="> 0")
    ray: str | None = knob(
        None,
        "Ray cluster that does the work: its address, or auto; the workspace must be on a disk all machines share",
        flags=("--cluster",),
        free=True,
    )
    keep_archives: bool = knob(False, "keep what was fetched, in data/agibot/archives")
    verify: bool = knob(False, "compare the frames that are there with their hashes, and do anew what is damaged")
    annotations: list[Path] = knob([], "JSON or JSONL files, or folders of them, to make planning rows of")
    output: Path | None = knob(None, "planning file to write (default: data/agibot_all.jsonl)")
    split: bool = knob(False, "split the rows; the flags of split_dataset.py tell how")


@dataclass(frozen=True)
class PreparationKnobs(SplitKnobs, Preparation):
    """The knobs of the preparation, then those of the split."""


def planning_file(knobs: Preparation, data: Path) -> Path:
    """Where the rows go."""
    return knobs.output or data / "agibot_all.jsonl"


def split_place(knobs: Preparation, data: Path) -> tuple[Path, str]:
    """The folder of the split's files, and what their names begin with."""
    output = planning_file(knobs, data)
    return output.parent, output.stem.removesuffix("_all")


def jobs_to_consider(knobs: Preparation, data: Path) -> list[ArchiveJob]:
    """The jobs of the chosen tasks, from a folder or the Hub. Annotations on the Hub are fetched at once: they are
    small."""
    if knobs.source:
        return chosen_jobs(jobs_of_folder(knobs.source, data), knobs.tasks, knobs.max_tasks)

    from leap.agibot.hub import fetch_annotations, jobs_of_listing, list_repository

    choose_host(mirror=False)
    listing = list_repository(knobs.repo_id, knobs.revision)
    jobs = jobs_of_listing(listing, knobs.repo_id, data, knobs.keep_archives)
    jobs = chosen_jobs(jobs, knobs.tasks, knobs.max_tasks)
    annotations = fetch_annotations(listing, knobs.repo_id, {job.task_id for job in jobs}, data)
    if annotations:
        say(f"{len(annotations)} files of annotations in {annotations[0].parent}")
    return jobs


def annotated_rows(knobs: Preparation, data: Path) -> AnnotatedRows:
    """Rows of the annotated episodes whose first frames are there; UserError if no entry is about the chosen tasks."""
    prepared = prepare_rows(knobs.annotations, data, knobs.tasks, knobs.workers or WORKERS)
    if not (prepared.rows or prepared.quarantined):
        of_tasks = f" of the tasks {' '.join(knobs.tasks)}" if knobs.tasks else ""
        raise UserError(f"no entry{of_tasks} in {' '.join(map(str, knobs.annotations))}")
    return prepared


def rows_text(prepared: AnnotatedRows) -> str:
    """What became of the annotations."""
    lines = [f"{len(prepared.rows)} rows, {len(prepared.quarantined)} entries quarantined"]
    lines += [f"  {count} x {reason}" for reason, count in sorted(prepared.reasons().items())]
    if prepared.unannotated:
        lines.append(f"{prepared.unannotated} first frames have no usable annotation")
    return "\n".join(lines)


def outcomes_text(outcomes: Sequence[TaskOutcome]) -> str:
    """What became of the archives, but for those that failed."""
    frames, quarantined, others = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("frames", "quarantined", "others")
    )
    completed = sum(outcome.problem is None for outcome in outcomes)
    text = f"tasks done: {completed}, first frames: {frames}, episodes quarantined: {quarantined}"
    if others:
        text += f"\n{others} of the frames' places held another picture, which stays; delete one to get its frame"
    return text


def next_command(knobs: PreparationKnobs, data: Path) -> str | None:
    """What to run after the frames or the rows; None if there are no annotations where they are fetched to or beside
    the archives."""
    if knobs.annotations and knobs.split:
        folder, name = split_place(knobs, data)
        return f"python scripts/training/validate_data.py --rows {shlex.quote(str(folder / f'{name}_train.jsonl'))}"
    if knobs.annotations:
        return f"python scripts/utils/split_dataset.py --rows {shlex.quote(str(planning_file(knobs, data)))}"
    source = knobs.source
    folders = [source / "json", source / "task_info"] if source else [data / "agibot" / "json"]
    annotations = next((folder for folder in folders if any(folder.glob("*.json*"))), None)
    if annotations is None:
        return None
    tasks = f" --tasks {shlex.join(knobs.tasks)}" if knobs.tasks else ""
    return f"python scripts/utils/prepare_love_agibot.py --annotations {shlex.quote(str(annotations))}{tasks} --split"
