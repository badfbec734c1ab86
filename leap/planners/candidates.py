"""Which models a run asks, and what they are called in results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.models.checkpoints import (
    best_checkpoint,
    find_all_checkpoints,
    find_checkpoints,
    kind_of,
    read_manifest,
    step_of,
    why_incomplete,
    why_unloadable,
)
from leap.models.loading import tokenizer_problem
from leap.models.names import BASE_NAME, checked_name, result_name
from leap.progress import say

_MOST_LISTED = 8


class Candidate(NamedTuple):
    """A model to ask: its folder, None where an endpoint serves it, and its name in results."""

    folder: Path | None
    name: str


class ModelChoice(Protocol):
    """The knobs that say which models are meant."""

    @property
    def planner(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def base_model(self) -> Path | None: ...
    @property
    def checkpoint(self) -> Sequence[Path]: ...
    @property
    def all_checkpoints(self) -> bool: ...


def models_to_ask(
    options: ModelChoice,
    workspace: WorkspaceConfig,
    output: Path,
    *,
    with_base: bool,
    with_complete: bool,
    max_checkpoints: int | None = None,
) -> list[Candidate]:
    """The served model, or in this order: the base, the complete checkpoints in `output`, those that the user named.

    Of the checkpoints only the newest `max_checkpoints`, full ones before adapters. A model named twice, or the base
    named beside itself, is asked once. UserError if a named folder is not there, or two models have one name.
    """
    if options.planner == "openai":
        if options.checkpoint or options.all_checkpoints:
            raise UserError("--planner openai asks the model that the endpoint serves; leave out --checkpoint")
        return [_served_model(options)]
    base = options.base_model or workspace.base_model
    models = {base.resolve(): (workspace.require(base, "base model"), BASE_NAME)} if with_base else {}
    named = [_named_checkpoint(chosen_checkpoint(folder, workspace), base, output) for folder in options.checkpoint]
    for folder, name in [*(_complete_checkpoints(output) if with_complete else []), *named]:
        models.setdefault(folder.resolve(), (folder, name))
    first, rest = list(models.values())[:with_base], list(models.values())[with_base:]
    models_in_order = [Candidate(*model) for model in first + _newest(rest, max_checkpoints)]
    counts = Counter(model.name for model in models_in_order)
    for name, count in counts.items():
        if count > 1:
            raise UserError(f"two models would be called {name}; ask them one at a time, with --suffix")
    return models_in_order


def chosen_checkpoint(folder: Path, workspace: WorkspaceConfig) -> Path:
    """The model that a user means by `folder`: itself, or, of a run's folder, its best checkpoint by validation, else
    its last complete one, which is said. UserError, with the checkpoints that there are, if it is neither."""
    if not folder.exists():
        places = dict.fromkeys([*find_checkpoints(folder.parent), *find_all_checkpoints(workspace.output)])
        complete = [path for path in places if why_incomplete(path) is None]
        listed = ", ".join(map(str, complete[-_MOST_LISTED:]))
        try:
            return workspace.require(folder, "checkpoint")
        except UserError as error:
            raise UserError(f"{error} There are: {listed}" if listed else str(error)) from None
    if not find_checkpoints(folder) or why_unloadable(folder) is None:
        return folder
    complete = [path for path in find_checkpoints(folder) if why_incomplete(path) is None]
    if not complete:
        raise UserError(f"{folder} has no complete checkpoint; the same training command goes on with the run")
    manifest = read_manifest(complete[-1])
    metric = manifest.recipe.get("best_metric", "loss") if manifest else "loss"
    best = best_checkpoint(folder, metric)
    say(f"{folder}: {f'{best}, the best by validation {metric}' if best else f'{complete[-1]}, the last'}")
    return best or complete[-1]


def require_complete(models: Iterable[Candidate]) -> None:
    """UserError if a folder among them cannot be loaded."""
    for folder, _ in models:
        problem = _why_unusable(folder) if folder else None
        if problem:
            raise UserError(f"cannot evaluate {folder}: {problem}")


def _why_unusable(folder: Path) -> str | None:
    """Why a model's folder cannot be asked, by its files, or None. An adapter may take its base's processor."""
    return why_incomplete(folder) or (None if kind_of(folder) == "adapter" else tokenizer_problem(folder))


def _served_model(options: ModelChoice) -> Candidate:
    if not options.model:
        raise UserError("--planner openai wants --model, the name under which the endpoint serves the model")
    return Candidate(None, checked_name(options.model.rstrip("/").rpartition("/")[2], "--model"))


def _complete_checkpoints(output: Path) -> list[tuple[Path, str]]:
    """All checkpoints in `output` that can be loaded, and their names, by run and step; says why the others cannot."""
    checkpoints = []
    for folder in find_all_checkpoints(output):
        problem = _why_unusable(folder)
        if problem:
            say(f"skipping {folder}: {problem}")
        else:
            checkpoints.append((folder, result_name(folder, output)))
    return checkpoints


def _named_checkpoint(folder: Path, base: Path, output: Path) -> tuple[Path, str]:
    """A folder that the user named, which may be the base, and its name."""
    return folder, BASE_NAME if folder.resolve() == base.resolve() else result_name(folder, output)


def _newest(checkpoints: list[tuple[Path, str]], count: int | None) -> list[tuple[Path, str]]:
    """The `count` checkpoints of the highest steps, full ones before adapters, in the order that they have."""
    if count is None:
        return checkpoints
    preferred = sorted(checkpoints, key=lambda model: (kind_of(model[0]) == "adapter", -(step_of(model[0]) or 0)))
    return [model for model in checkpoints if model in preferred[:count]]
