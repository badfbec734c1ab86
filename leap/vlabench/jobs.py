"""An evaluation as jobs: each model on each dimension is a command of its own, on a GPU of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from configs.config import REPOSITORY
from leap.cli import as_words
from leap.planners.candidates import Candidate
from leap.runs.command_queue import SECONDS_TO_SAVE, CommandJob, run_command
from leap.runs.jobs import JobKnobs, list_folder, run_jobs
from leap.runs.workers import Failure
from leap.vlabench.folder import ResultFolder, Summary
from leap.vlabench.options import EvaluationOptions, name_suffix

# What of a command's options says which models it asks, and where; a job asks one.
_OF_THE_LIST = ("all_checkpoints", "max_checkpoints", "skip_baseline", "report_to", "list_jobs")


def evaluation_jobs(
    options: EvaluationOptions, models: Sequence[Candidate], dimensions: Sequence[str], logs: Path
) -> list[CommandJob]:
    """A job for each model and dimension: the command that does just that, with its log in the folder of the list."""
    defaults = EvaluationOptions()
    left_out = [*_OF_THE_LIST, *(field.name for field in fields(JobKnobs))]
    alone = replace(options, **{name: getattr(defaults, name) for name in left_out})
    script = str(REPOSITORY / "scripts/evaluation/run_vlm_evaluation.py")
    commands: dict[str, tuple[str, ...]] = {}
    for folder, name in models:
        for dimension in dimensions:
            job_options = replace(alone, checkpoint=[folder] if folder else [], dimension=[dimension])
            commands[f"{name}{name_suffix(options)}/{dimension}"] = (sys.executable, script, *as_words(job_options))
    place = list_folder(logs, "evaluation", list(commands.values()))
    return [CommandJob(name, command, place / name / "output.log") for name, command in commands.items()]


def evaluate_as_jobs(
    jobs: Sequence[CommandJob], options: EvaluationOptions, logs: Path
) -> Iterator[tuple[CommandJob, Summary | None, str | None]]:
    """(job, its summary or how it failed), as they end. A command that leaves examples out has not failed."""
    folder = list_folder(logs, "evaluation", [job.command for job in jobs])
    for job, result in run_jobs(run_command, jobs, options, folder, SECONDS_TO_SAVE):
        if isinstance(result, Failure):
            yield job, None, result.reason
            continue
        model, _, dimension = job.name.rpartition("/")
        summary = ResultFolder(options.output_dir / dimension / model).summary
        # Status 1 is a traceback's too, and that of a full disk: then the summary is of an earlier run.
        finished = summary and (summary.provenance.get("time") or "") >= result.begun
        if result.status == 0 or (result.status == 1 and finished):
            yield job, summary, None
        else:
            yield job, None, result.text(job.log)
