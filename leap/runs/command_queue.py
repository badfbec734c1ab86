"""Commands as jobs: each a child process with a log of its own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from leap.files import write_text
from leap.progress import say
from leap.runs.child import CommandResult, only_one, run_logged

DEVICE = "__DEVICE__"  # in a command for the shell: the device that it was given, as --device takes it
SECONDS_TO_SAVE = 600.0  # that a command has which is told to stop: a training saves a checkpoint


@dataclass(frozen=True)
class CommandJob:
    """A command, and the file that its output is appended to. A second try waits until the first has ended."""

    name: str
    command: tuple[str, ...]
    log: Path

    @classmethod
    def of_shell(cls, name: str, line: str, log: Path) -> CommandJob:
        """A line for the shell."""
        return cls(name, ("/bin/sh", "-c", line), log)


def list_commands(commands: Iterable[Sequence[str]], path: Path) -> None:
    """Write commands to a file, a line each as a shell takes it, for whatever runs them."""
    root = os.environ.get("LEAP_WORKSPACE")
    place = f"env LEAP_WORKSPACE={shlex.quote(os.path.abspath(root))} " if root else ""
    lines = [f"{place}{shlex.join(command)}\n" for command in commands]
    write_text(path, "".join(lines))
    say(f"{len(lines)} commands, a line each: {path}")


def run_command(job: CommandJob) -> CommandResult:
    """Run the command of a job to its end."""
    # The GPU of the job is the only one that it sees.
    device = "cuda:0" if os.environ.get("CUDA_VISIBLE_DEVICES") else "cpu"
    command = [word.replace(DEVICE, device) for word in job.command]
    with only_one(job.log.with_name(f".{job.log.name}.lock"), SECONDS_TO_SAVE) as lock:
        return run_logged(command, job.log, lock, show=False)
