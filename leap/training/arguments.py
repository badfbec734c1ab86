"""What Hugging Face's trainers are told for a recipe."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from configs.config import WorkspaceConfig
from leap.progress import say
from leap.training.recipes import TrainingRecipe

LONGEST_WAIT = timedelta(hours=2)  # of other processes, while the first one checks the data or saves

_Arguments = TypeVar("_Arguments", bound=TrainingArguments)


def run_name_of(run: Path, workspace: WorkspaceConfig) -> str:
    """The run's folder below output/ (`output` for one directly in it), or its last part if it lies elsewhere."""
    inside = run.is_relative_to(workspace.output) and run != workspace.output
    return str(run.relative_to(workspace.output)) if inside else run.name


def supervised_arguments(
    recipe: TrainingRecipe, steps: int, workspace: WorkspaceConfig, *, validates: bool, has_pictures: bool
) -> TrainingArguments:
    """Those of supervised training, `steps` optimiser steps long."""
    arguments = TrainingArguments(
        **shared_arguments(recipe, steps, workspace, validates=validates),
        per_device_train_batch_size=1 if recipe.packing else recipe.per_device_train_batch_size,
        use_liger_kernel=recipe.use_liger_kernel,
        ignore_data_skip=recipe.streaming,  # a stream begins where the checkpoint left it
        ddp_find_unused_parameters=not has_pictures,  # rows without pictures leave the vision tower out
        prediction_loss_only=True,
        include_num_input_tokens_seen="no",  # the trainer counts rows' tokens itself, packed or padded
    )
    return on_one_gpu(arguments)


def shared_arguments(
    recipe: TrainingRecipe, steps: int, workspace: WorkspaceConfig, *, validates: bool
) -> dict[str, Any]:
    """What every kind of training tells its TrainingArguments, `steps` optimiser steps long."""
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(workspace.logs / run_name_of(recipe.output_dir, workspace))
    return {
        "output_dir": str(recipe.output_dir),
        "max_steps": steps,
        "per_device_eval_batch_size": recipe.per_device_eval_batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.lr_scheduler_type,
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "adam_beta2": recipe.adam_beta2,
        "max_grad_norm": recipe.max_grad_norm,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": recipe.bf16 and not recipe.pure_bf16,  # autocast
        "use_cpu": not torch.cuda.is_available(),
        "ddp_timeout": int(LONGEST_WAIT.total_seconds()),
        "dataloader_num_workers": recipe.dataloader_num_workers,
        "logging_steps": recipe.logging_steps,
        "logging_nan_inf_filter": False,  # it would log an invented number in place of a loss that is none
        "save_strategy": "steps",
        "save_steps": recipe.save_steps,
        "save_total_limit": None,  # the trainer drops old checkpoints, after the new one is complete
        "eval_strategy": "steps" if validates else "no",
        "eval_steps": recipe.save_steps if validates else None,
        "remove_unused_columns": False,
        "report_to": recipe.report_to,
        "disable_tqdm": not sys.stderr.isatty(),
    }


def on_one_gpu(arguments: _Arguments) -> _Arguments:
    """The arguments of a plain process on a machine with several GPUs, which then takes one of them."""
    if arguments.n_gpu > 1:  # DataParallel would cut pixel_values apart from the images they belong to
        say(f"training on one of {arguments.n_gpu} GPUs; scripts/training/run-training.sh uses all of them")
        arguments._n_gpu = 1
    return arguments
