#!/usr/bin/env python3
"""Run shell commands over GPUs, as many at once as there are places, each with a log of its own.

    python scripts/utils/task_runner.py --commands "CMD 1" "CMD 2" --logs logs/1.log logs/2.log --gpus 0,1
    python scripts/utils/task_runner.py --commands "CMD 1" "CMD 2" --gpus 0 --tasks_per_gpu 2
    python scripts/utils/task_runner.py --commands "CMD 1" "CMD 2" --concurrency 2

A command sees its GPU alone, as cuda:0; __DEVICE__ in it becomes that. Exit status 1 if a command failed; the others
are run all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.runs.command_queue import QueuedCommand, run_queue


@dataclass(frozen=True)
class Options:
    commands: list[str] = knob([], "commands for the shell, each in quotes", words=True)
    logs: list[Path] = knob([], "a log for each (default: task_<n>.log in logs/ of the workspace)")
    gpus: list[str] = knob([], "indices of the GPUs to use, as in 0,1")
    tasks_per_gpu: int = knob(1, "commands at once on a GPU", check="> 0")
    concurrency: int = knob(2, "commands at once where no GPU is named", check="> 0")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    if not options.commands:
        raise UserError('name the commands with --commands "CMD 1" "CMD 2"')
    folder = WorkspaceConfig.from_environment().logs
    logs = options.logs or [folder / f"task_{number}.log" for number, _ in enumerate(options.commands, 1)]
    if len(logs) != len(options.commands):
        raise UserError(f"{len(options.commands)} commands and {len(logs)} logs: give a log for each, or none")
    places = [*options.gpus] * options.tasks_per_gpu or [None] * options.concurrency
    statuses = run_queue([QueuedCommand(*pair) for pair in zip(options.commands, logs, strict=True)], places)
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    run(main)
