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
from leap.vlabench.options import EvaluationOptions

# What of a command's options says which models it asks, and where; a job asks one.
_OF_THE_LIST = ("all_checkpoints", "max_checkpoints", "skip_baseline", "report_to", "list_jobs")


def evaluation_jobs(
    options: EvaluationOptions, models: Sequence[Candidate], dimensions: Sequence[str], logs: Path
) -> list[CommandJob]:
    """A job for each model and dimension: the command that does just that. Outputs go to logs/evaluation/."""
    defaults = EvaluationOptions()
    left_out = [*_OF_THE_LIST, *(field.name for field in fields(JobKnobs))]
    alone = replace(options, **{name: getattr(defaults, name) for name in left_out})
    jobs = []
    for folder, name in models:
        for dimension in dimensions:
            job_options = replace(alone, checkpoint=[folder] if folder else [], dimension=[dimension])
            script = str(REPOSITORY / "scripts/evaluation/run_vlm_evaluation.py")
            log = logs / "evaluation" / name / f"{dimension}.log"
            jobs.append(CommandJob(f"{name}/{dimension}", (sys.executable, script, *as_words(job_options)), log))
    return jobs


def evaluate_as_jobs(
    jobs: Sequence[CommandJob], knobs: JobKnobs, logs: Path
) -> Iterator[tuple[CommandJob, str | None]]:
    """(job, how it failed or None), as they end. A command that leaves examples out has not failed."""
    for job, result in run_jobs(run_command, jobs, knobs, list_folder(logs, "evaluation", jobs), SECONDS_TO_SAVE):
        if isinstance(result, Failure):
            yield job, result.reason
        else:
            yield job, None if result.status in (0, 1) else result.text(job.log)
