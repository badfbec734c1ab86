#!/usr/bin/env python3
"""Run shell commands over GPUs, as many at once as there are places, each with a log of its own.

    python scripts/utils/task_runner.py --commands "CMD 1" "CMD 2" --logs logs/1.log logs/2.log --gpus 0,1
    python scripts/utils/task_runner.py --commands "CMD 1" "CMD 2" --gpus 0 --tasks_per_gpu 2
    python scripts/utils/task_runner.py --commands "CMD 1" "CMD 2" --concurrency 2
    python scripts/utils/task_runner.py --commands "CMD 1" "CMD 2" --ray auto

A command sees its GPU alone, as cuda:0; __DEVICE__ in it becomes that, or cpu where there is none. One that is killed
with its worker runs again. Exit status 1 if a command failed; the others are run all the same.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.progress import say
from leap.runs.command_queue import SECONDS_TO_SAVE, CommandJob, run_command
from leap.runs.jobs import JobKnobs, list_folder, run_jobs, visible_gpus
from leap.runs.workers import Failure


@dataclass(frozen=True)
class Options(JobKnobs):
    commands: list[str] = knob([], "commands for the shell, each in quotes", words=True)
    logs: list[Path] = knob([], "a log for each (default: task_<n>.log in logs/queue-.../ of the workspace)")
    gpus: list[str] = knob([], "indices of the GPUs to use, as in 0,1 (default: all)")
    tasks_per_gpu: int = knob(1, "commands at once on a GPU", check="> 0")
    concurrency: int = knob(2, "commands at once where there is no GPU", check="> 0")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    if not options.commands:
        raise UserError('name the commands with --commands "CMD 1" "CMD 2"')
    folder = list_folder(WorkspaceConfig.from_environment().logs, "queue", options.commands)
    logs = options.logs or [folder / f"task_{number}.log" for number, _ in enumerate(options.commands, 1)]
    if len(logs) != len(options.commands):
        raise UserError(f"{len(options.commands)} commands and {len(logs)} logs: give a log for each, or none")
    if len(set(logs)) < len(logs):
        raise UserError("two commands have the same log; give each one of its own")
    gpus = options.gpus or visible_gpus()
    if options.tasks_per_gpu > 1 and options.gpus_per_job is None:
        options = replace(options, gpus_per_job=1 / options.tasks_per_gpu)
    if options.jobs is None and options.ray is None and not gpus:
        options = replace(options, jobs=options.concurrency, gpus_per_job=0)
    jobs = [
        CommandJob.of_shell(f"task_{number}", line, log)
        for number, (line, log) in enumerate(zip(options.commands, logs, strict=True), 1)
    ]
    failed = 0
    for job, result in run_jobs(run_command, jobs, options, folder, SECONDS_TO_SAVE, gpus):
        line = job.command[-1]
        if isinstance(result, Failure):
            say(f"failed: {line}: {result.reason}", file=sys.stderr)
        elif result.status:
            say(f"failed: {line}: {result.text(job.log)}", file=sys.stderr)
        else:
            say(f"done: {line}")
        failed += isinstance(result, Failure) or result.status != 0
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
