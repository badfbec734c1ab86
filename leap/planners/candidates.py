"""Which models a run asks, and what they are called in results."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from configs.errors import UserError
from leap.models.checkpoints import find_all_checkpoints, why_incomplete
from leap.models.names import BASE_NAME, result_name
from leap.planners.options import AnsweringOptions
from leap.progress import say


class Candidate(NamedTuple):
    """A model to ask: its folder, None where an endpoint serves it, and its name in results."""

    folder: Path | None
    name: str


def served_model(options: AnsweringOptions) -> Candidate:
    """The model that an endpoint serves; UserError if none is named."""
    if not options.model:
        raise UserError("--planner openai wants --model, the name under which the endpoint serves the model")
    return Candidate(None, options.model.rstrip("/").rpartition("/")[2])


def complete_checkpoints(output: Path) -> list[Candidate]:
    """All checkpoints in `output` that can be loaded, by run and step; says why the others cannot."""
    found = []
    for folder in find_all_checkpoints(output):
        problem = why_incomplete(folder)
        if problem:
            say(f"skipping {folder}: {problem}")
        else:
            found.append(Candidate(folder, result_name(folder, output)))
    return found


def named_checkpoint(folder: Path, base: Path, output: Path) -> Candidate:
    """A folder that the user named, which may be the base."""
    return Candidate(folder, BASE_NAME if folder.resolve() == base.resolve() else result_name(folder, output))
