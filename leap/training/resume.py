"""May a run start, and may it go on: what it was made from, and what has changed since its last checkpoint."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import as_plain
from leap.models.checkpoints import (
    Manifest,
    find_checkpoints,
    last_complete_checkpoint,
    read_manifest,
    weights_sha256,
    why_incomplete,
)
from leap.progress import say
from leap.provenance import data_sha256
from leap.training.recipes import LoraRecipe, TrainingRecipe


def made_from(recipe: TrainingRecipe) -> dict[str, str]:
    """What a run starts from, by content."""
    files = [path for path in (recipe.train_file, recipe.val_file) if path]
    return {"base_weights_sha256": weights_sha256(recipe.model_name_or_path), "data_sha256": data_sha256(files)}


def checkpoint_to_resume(recipe: TrainingRecipe, sources: dict[str, str], devices: int) -> Path | None:
    """The last complete checkpoint of the run, if it was made from the same things; UserError where going on, or
    starting over, would mix runs or overwrite one."""
    resume = last_complete_checkpoint(recipe.output_dir)
    if resume:
        _refuse_changes(resume, recipe, sources, devices)
    for folder in find_checkpoints(recipe.output_dir):
        problem = why_incomplete(folder)
        if problem:
            say(f"ignoring {folder}: {problem}")
        elif not resume:  # starting over would overwrite it
            raise UserError(
                f"{folder} cannot be resumed from: {why_incomplete(folder, to_resume=True)}. Use another --output_dir"
            )
    return resume


def _refuse_changes(resume: Path, recipe: TrainingRecipe, sources: dict[str, str], devices: int) -> None:
    """UserError if the checkpoint to resume was made from other data, weights or knobs that change what is computed."""
    manifest = read_manifest(resume)
    assert manifest is not None, "only folders with a manifest are resumed"
    found = changes(manifest, recipe, sources)
    before, now = _step_size(manifest.recipe, manifest.devices), _step_size(as_plain(recipe), devices)
    if before != now:
        found.append(f"step_size: {before} -> {now}")
    if found and not recipe.allow_changes:
        raise UserError(
            f"{resume} was made with another recipe ({'; '.join(found)}). Use another --output_dir for a new run, "
            "or --allow_changes to go on from it"
        )


def changes(
    manifest: Manifest, recipe: TrainingRecipe, sources: dict[str, str], besides: str | None = None
) -> list[str]:
    """Where a checkpoint was made otherwise than this recipe and its `sources` would make it; knobs that say only
    where and how a run executes, and the knob `besides`, may differ."""
    free = {field.name for field in dataclasses.fields(recipe) if field.metadata["free"]} | {besides}
    before, now = manifest.recipe, as_plain(recipe)
    found = [
        f"{name}: {before[name]} -> {now[name]}"
        for name in now
        if name not in free and name in before and before[name] != now[name]
    ]
    if manifest.base_weights_sha256 != sources["base_weights_sha256"]:
        found.append("the weights of the base model")
    if manifest.data_sha256 != sources["data_sha256"]:
        found.append("the content of the training or validation file")
    return found


def check_inputs(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> None:
    """UserError for what can be wrong before anything is read: files that are not there, knobs that contradict."""
    require_inputs(recipe, workspace)
    if not recipe.val_file and recipe.best_metric != "loss":
        raise UserError(f"best_metric {recipe.best_metric} is computed on validation rows: name them with --val_file")
    _check_packages(recipe)
    if isinstance(recipe, LoraRecipe) and recipe.pure_bf16:
        raise UserError("pure_bf16 is for full fine-tuning; LoRA holds its frozen base in bfloat16 anyway")
    if isinstance(recipe, LoraRecipe) and (recipe.freeze or recipe.vision_lr or recipe.merger_lr):
        raise UserError("freeze, vision_lr and merger_lr are for full fine-tuning; LoRA freezes all but its adapter")
    if recipe.image_tokens_min > recipe.image_tokens_max:
        raise UserError(
            f"image_tokens_min {recipe.image_tokens_min} is above image_tokens_max {recipe.image_tokens_max}"
        )
    if recipe.packing and recipe.packing_tokens < recipe.model_max_length:
        raise UserError(
            f"packing_tokens {recipe.packing_tokens} is below model_max_length {recipe.model_max_length}: a row of "
            "that length would fit no pack. Raise the one or lower the other"
        )


def _check_packages(recipe: TrainingRecipe) -> None:
    """UserError for a knob whose package is not there."""
    in_4bit = isinstance(recipe, LoraRecipe) and recipe.load_in_4bit
    for wanted, knob, package in (
        (recipe.pure_bf16, "pure_bf16", "torchao"),
        (recipe.optim == "adamw_8bit", "optim adamw_8bit", "torchao"),
        (in_4bit, "load_in_4bit", "bitsandbytes"),
        (recipe.use_liger_kernel, "use_liger_kernel", "liger-kernel"),
        (recipe.attn_implementation == "flash_attention_2", "flash_attention_2", "flash-attn"),
        ("tensorboard" in recipe.report_to, "report_to tensorboard", "tensorboard"),
        ("wandb" in recipe.report_to, "report_to wandb", "wandb"),
    ):
        if wanted and importlib.util.find_spec(package.replace("-", "_")) is None:
            raise UserError(f"{knob} needs the package {package}: pip install {package}")


def require_inputs(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> None:
    """UserError if the base model or a data file is not there."""
    workspace.require(recipe.model_name_or_path, "base model")
    problem = why_incomplete(recipe.model_name_or_path)
    if problem:
        raise UserError(f"cannot use base model {recipe.model_name_or_path}: {problem}")
    workspace.require_file(recipe.train_file, "training file")
    if recipe.val_file:
        workspace.require_file(recipe.val_file, "validation file")


def _step_size(recipe: dict[str, Any], devices: int) -> str:
    """What an optimiser step sees: how it is split into batches and devices does not change what is computed."""
    batches = recipe["gradient_accumulation_steps"] * devices
    if recipe.get("packing"):
        return f"{batches} packs"
    return f"{recipe['per_device_train_batch_size'] * batches} rows"
