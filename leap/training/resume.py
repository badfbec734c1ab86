"""May a run go on: what it was made from, and what has changed since its last checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.cli import as_plain
from leap.files import sha256_json
from leap.models.checkpoints import (
    Manifest,
    find_checkpoints,
    last_complete_checkpoint,
    read_manifest,
    weights_sha256,
    why_incomplete,
)
from leap.progress import say
from leap.rows.data_sets import content_sha256, contents_sha256, version_sha256
from leap.rows.sources import Mixture, sources_in
from leap.training.recipes import LoraRecipe, TrainingRecipe

# Knobs that decide which parameters train, what form they have or how an optimiser holds them, and what each of them
# changes: a state that was saved for others cannot be gone on from.
_FIXED = {
    "freeze": "which parameters train",
    "lora_r": "the shape of the adapter",
    "lora_target_modules": "where the adapter sits",
    "lora_vision": "where the adapter sits",
    "use_dora": "the parameters of the adapter",
    "pissa": "the weights that the adapter is added to",
    "vision_lr": "the optimizer's groups of parameters",
    "merger_lr": "the optimizer's groups of parameters",
    "loraplus_lr_ratio": "the optimizer's groups of parameters",
    "optim": "the state of the optimizer",
}


@dataclass(frozen=True)
class Sources:
    """What a run starts from, by name and content; a `parent` is the checkpoint where that is not the base itself."""

    base_model: str
    base_weights_sha256: str
    data_sha256: str
    parent: str | None = None
    parent_weights_sha256: str | None = None


def made_from(recipe: TrainingRecipe) -> Sources:
    """The sources of a run that starts from its base model."""
    base = recipe.model_name_or_path
    return Sources(str(base), weights_sha256(base), data_content(recipe))


def row_sources(recipe: TrainingRecipe) -> list[Path]:
    """What a run reads rows from, validation last."""
    return [source.path for source in sources_in(recipe.train_file)] + ([recipe.val_file] if recipe.val_file else [])


def data_content(recipe: TrainingRecipe) -> str:
    """Hash of the content of these, and of the weights of several; of rows that are streamed, of names and sizes."""
    sources = row_sources(recipe)
    if recipe.streaming:
        streamed = len(sources_in(recipe.train_file))
        content = sha256_json([*map(version_sha256, sources[:streamed]), *map(content_sha256, sources[streamed:])])
    else:
        content = contents_sha256(sources)
    if isinstance(recipe.train_file, Mixture):
        content = sha256_json([content, [source.weight for source in recipe.train_file.sources]])
    return content


def precision_of_run(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe in the precision that its run was begun in, where that is the GPU's choice (`fit_to_gpu`): a run goes
    on in it on a larger GPU too."""
    resume = last_complete_checkpoint(recipe.output_dir)
    manifest = read_manifest(resume) if resume else None
    if manifest is None or not (recipe.fit_to_gpu and manifest.recipe.get("fit_to_gpu")) or not recipe.bf16:
        return recipe
    begun = {name: manifest.recipe[name] for name in ("pure_bf16", "optim")}
    return dataclasses.replace(recipe, **begun) if begun["pure_bf16"] else recipe


def checkpoint_to_resume(recipe: TrainingRecipe, sources: Sources, devices: int) -> Path | None:
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


def _refuse_changes(resume: Path, recipe: TrainingRecipe, sources: Sources, devices: int) -> None:
    """UserError if the checkpoint to resume was made from other data, weights or knobs that change what is computed."""
    manifest = read_manifest(resume)
    assert manifest is not None, "only folders with a manifest are resumed"
    if refused := _fixed_changes(manifest, recipe):
        raise UserError(
            f"{resume} cannot be gone on from with another recipe: {'; '.join(refused)}, which --allow_changes cannot "
            "mend. Use another --output_dir for a new run"
        )
    differences = changes(manifest, recipe, sources)
    old_step, new_step = _step_size(manifest.recipe, manifest.devices), _step_size(as_plain(recipe), devices)
    if old_step != new_step:
        differences.append(f"step_size: {old_step} -> {new_step}")
    if differences and not recipe.allow_changes:
        raise UserError(
            f"{resume} was made with another recipe ({'; '.join(differences)}). Use another --output_dir for a new "
            "run, or --allow_changes to go on from it"
        )


def _fixed_changes(manifest: Manifest, recipe: TrainingRecipe) -> list[str]:
    """What of the recipe no run can change that goes on, in words."""
    kind = "adapter" if isinstance(recipe, LoraRecipe) else "full"
    if manifest.kind != kind:
        names = {"adapter": "an adapter", "full": "the whole model"}
        return [f"{names[manifest.kind]} was trained, and this would be {names[kind]}"]
    old, new = manifest.recipe, as_plain(recipe)
    return [
        f"{name}: {old[name]} -> {new[name]} changes {change}"
        for name, change in _FIXED.items()
        if name in old and name in new and _unordered(old[name]) != _unordered(new[name])
    ]


def _unordered(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def changes(manifest: Manifest, recipe: TrainingRecipe, sources: Sources, besides: str | None = None) -> list[str]:
    """Where a checkpoint was made otherwise than this recipe and its `sources` would make it; knobs that say only
    where and how a run executes, and the knob `besides`, may differ."""
    free = {field.name for field in dataclasses.fields(recipe) if field.metadata["free"]} | {besides}
    old, new = manifest.recipe, as_plain(recipe)
    differences = [
        f"{name}: {old[name]} -> {new[name]}"
        for name in new
        if name not in free and name in old and old[name] != new[name]
    ]
    if manifest.base_weights_sha256 != sources.base_weights_sha256:
        differences.append("the weights of the base model")
    if manifest.parent_weights_sha256 != sources.parent_weights_sha256:
        differences.append("the weights of the checkpoint to start from")
    if manifest.data_sha256 != sources.data_sha256:
        differences.append("the content of the training or validation file, or the weights of several")
    return differences


def _step_size(recipe: dict[str, Any], devices: int) -> str:
    """What an optimiser step sees: how it is split into batches and devices does not change what is computed."""
    batches = recipe["gradient_accumulation_steps"] * devices
    if recipe.get("packing"):
        return f"{batches} packs"
    return f"{recipe['per_device_train_batch_size'] * batches} rows"
