"""Which models a run asks, and what they are called in results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.models.checkpoints import find_all_checkpoints, kind_of, step_of, why_incomplete
from leap.models.loading import tokenizer_problem
from leap.models.names import BASE_NAME, checked_name, result_name
from leap.planners.options import AnsweringOptions
from leap.progress import say


class Candidate(NamedTuple):
    """A model to ask: its folder, None where an endpoint serves it, and its name in results."""

    folder: Path | None
    name: str


def models_to_ask(
    options: AnsweringOptions,
    workspace: WorkspaceConfig,
    output: Path,
    *,
    with_base: bool,
    with_complete: bool,
    max_checkpoints: int | None = None,
) -> list[Candidate]:
    """The served model, or in this order: the base, the complete checkpoints in `output`, those that the user named.

    Of the checkpoints only the first `max_checkpoints` by step. A model named twice, or the base named beside itself,
    is asked once. UserError if a named folder is not there, or two models have one name.
    """
    if options.planner == "openai":
        if options.checkpoint or options.all_checkpoints:
            raise UserError("--planner openai asks the model that the endpoint serves; leave out --checkpoint")
        return [_served_model(options)]
    base = options.base_model or workspace.base_model
    models = {base.resolve(): Candidate(workspace.require(base, "base model"), BASE_NAME)} if with_base else {}
    named = [_named_checkpoint(workspace.require(folder, "checkpoint"), base, output) for folder in options.checkpoint]
    for model in [*(_complete_checkpoints(output) if with_complete else []), *named]:
        models.setdefault(model.folder.resolve(), model)
    first, rest = list(models.values())[:with_base], list(models.values())[with_base:]
    models_in_order = first + _first_by_step(rest, max_checkpoints)
    counts = Counter(model.name for model in models_in_order)
    for name, count in counts.items():
        if count > 1:
            raise UserError(f"two models would be called {name}; ask them one at a time, with --suffix")
    return models_in_order


def require_complete(models: Iterable[Candidate]) -> None:
    """UserError if a folder among them cannot be loaded."""
    for folder, _ in models:
        problem = _why_unusable(folder) if folder else None
        if problem:
            raise UserError(f"cannot evaluate {folder}: {problem}")


def _why_unusable(folder: Path) -> str | None:
    """Why a model's folder cannot be asked, by its files, or None. An adapter may take its base's processor."""
    return why_incomplete(folder) or (None if kind_of(folder) == "adapter" else tokenizer_problem(folder))


def _served_model(options: AnsweringOptions) -> Candidate:
    if not options.model:
        raise UserError("--planner openai wants --model, the name under which the endpoint serves the model")
    return Candidate(None, checked_name(options.model.rstrip("/").rpartition("/")[2], "--model"))


def _complete_checkpoints(output: Path) -> list[Candidate]:
    """All checkpoints in `output` that can be loaded, by run and step; says why the others cannot."""
    checkpoints = []
    for folder in find_all_checkpoints(output):
        problem = _why_unusable(folder)
        if problem:
            say(f"skipping {folder}: {problem}")
        else:
            checkpoints.append(Candidate(folder, result_name(folder, output)))
    return checkpoints


def _named_checkpoint(folder: Path, base: Path, output: Path) -> Candidate:
    """A folder that the user named, which may be the base."""
    return Candidate(folder, BASE_NAME if folder.resolve() == base.resolve() else result_name(folder, output))


def _first_by_step(checkpoints: list[Candidate], count: int | None) -> list[Candidate]:
    """The `count` checkpoints of the lowest steps, in the order that they have; those without a step are the last."""
    if count is None:
        return checkpoints
    by_step = sorted(checkpoints, key=lambda model: (step_of(model.folder) is None, step_of(model.folder) or 0))
    return [model for model in checkpoints if model in by_step[:count]]
