"""The start of a training: what can be wrong before torch loads is said at once, then the run begins."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import shlex
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from configs.config import DIMENSIONS, WorkspaceConfig, next_line
from configs.errors import UserError
from leap.cli import as_plain
from leap.files import read_json
from leap.models.checkpoints import why_incomplete
from leap.models.loading import tokenizer_problem
from leap.models.names import BASE_NAME
from leap.planners.asking import SETTINGS_FILE
from leap.planners.candidates import chosen_checkpoint
from leap.planners.settings import flags_of
from leap.progress import say
from leap.rows.sources import require_source, sources_in
from leap.training.recipes import LoraRecipe, ReinforcementLoraRecipe, ReinforcementRecipe, TrainingRecipe, with_tuning
from leap.vlabench.options import EvaluationOptions

# By method, what trains: (module, function). They load torch, so that they are imported once all else is well.
_TRAININGS = {
    "grpo": ("leap.training.reinforcement", "reinforce"),
    "rft": ("leap.training.rejection", "fine_tune_on_best"),
    "sft": ("leap.training.rejection", "fine_tune_on_truth"),
    "dpo": ("leap.training.preference", "prefer"),
}


def announce_and_train(recipe: TrainingRecipe) -> None:
    """Check, print the resolved knobs, train, and say what to run next: the body of the training scripts."""
    _announce_and_run(recipe, WorkspaceConfig.from_environment(), ("leap.training.run", "train"))


def announce_and_reinforce(recipe: ReinforcementLoraRecipe) -> None:
    """The same for training by rewards, which starts from a checkpoint."""
    workspace = WorkspaceConfig.from_environment()
    require_package("trl", "training by rewards", "pip install -e '.[rl]'")
    start = chosen_checkpoint(recipe.model_name_or_path, workspace)
    chosen = with_tuning(replace(recipe, model_name_or_path=start))
    _announce_and_run(chosen, workspace, _TRAININGS[chosen.method])


def _announce_and_run(recipe: TrainingRecipe, workspace: WorkspaceConfig, training: tuple[str, str]) -> None:
    check_inputs(recipe, workspace)
    say("\n".join(f"  {name}: {value}" for name, value in as_plain(recipe).items()))
    module, function = training
    train = getattr(importlib.import_module(module), function)
    last = train(recipe, workspace)
    say(f"trained: {last}")
    say(next_line(evaluation_command(last.parent, workspace)))


def evaluation_command(run: Path, workspace: WorkspaceConfig) -> str:
    """Evaluate a run's best checkpoint as the base was evaluated, so that the two can be compared."""
    command = f"python scripts/evaluation/run_vlm_evaluation.py --checkpoint {shlex.quote(str(run))} --dimension all"
    paths = (workspace.results / dimension / BASE_NAME / SETTINGS_FILE for dimension in DIMENSIONS)
    flags = ""
    with contextlib.suppress(UserError):  # a file that is broken is no reason to fail after a training
        settings: dict = next((read_json(path) for path in paths if path.is_file()), {})
        flags = flags_of(settings, vars(EvaluationOptions()))
    return f"{command} {flags}".rstrip()


def check_inputs(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> None:
    """UserError for what is missing on this machine: a file or a package. Knobs that contradict each other never make
    a recipe."""
    require_inputs(recipe, workspace)
    _check_packages(recipe)


def require_inputs(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> None:
    """UserError if the base model or a data file is not there."""
    workspace.require(recipe.model_name_or_path, "base model")
    problem = why_incomplete(recipe.model_name_or_path) or tokenizer_problem(recipe.model_name_or_path)
    if problem:
        raise UserError(f"cannot use base model {recipe.model_name_or_path}: {problem}")
    rows = [(source.path, "training file") for source in sources_in(recipe.train_file)]
    for path, what in [*rows, *([(recipe.val_file, "validation file")] if recipe.val_file else [])]:
        # Rewards are learned from planning rows in one file; rows that are streamed are validated on a file.
        if isinstance(recipe, ReinforcementRecipe) or (recipe.streaming and path == recipe.val_file):
            workspace.require_file(path, what)
        else:
            require_source(workspace, path, what)


def _check_packages(recipe: TrainingRecipe) -> None:
    """UserError for a knob whose package is not installed, or does not go with the others."""
    in_4bit = isinstance(recipe, LoraRecipe) and recipe.load_in_4bit
    for needed, knob, package in (
        (recipe.pure_bf16, "pure_bf16", "torchao"),
        (recipe.optim == "adamw_8bit", "optim adamw_8bit", "torchao"),
        (in_4bit, "load_in_4bit", "bitsandbytes"),
        (recipe.use_liger_kernel, "use_liger_kernel", "liger-kernel"),
        (recipe.attn_implementation == "flash_attention_2", "flash_attention_2", "flash-attn"),
        ("tensorboard" in recipe.report_to, "report_to tensorboard", "tensorboard"),
        ("wandb" in recipe.report_to, "report_to wandb", "wandb"),
    ):
        if needed:
            require_package(package, knob, f"pip install {package}")
    if recipe.use_liger_kernel:
        _try_liger_kernel(recipe.model_name_or_path)


def require_package(package: str, what: str, install: str) -> None:
    """UserError if a package that is optional is not there."""
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise UserError(f"{what} needs the package {package}: {install}")


def _try_liger_kernel(model: Path) -> None:
    """UserError if liger-kernel cannot be imported beside this transformers for the model in `model`.

    It takes classes out of transformers' own modules, which other versions name otherwise; those of a model are
    imported when its kernels are put in, which would be after all data is checked and the weights are loaded.
    """
    model_type = read_json(model / "config.json").get("model_type")
    kernels = f"liger_kernel.transformers.model.{model_type}"
    try:
        importlib.import_module("liger_kernel.transformers.monkey_patch")
        if importlib.util.find_spec(kernels):
            importlib.import_module(kernels)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"liger-kernel {version('liger-kernel')} does not go with transformers {version('transformers')} for a "
            f"model of type {model_type} ({error}); leave out --use_liger_kernel, training works without it"
        ) from error
