"""A training run from recipe to last checkpoint: check, plan the batches, build the trainer, run or resume.

Rows are checked before the model loads; the same command resumes from the last complete checkpoint; what would mix two
runs is refused.
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import sys
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap import plots
from leap.adapters import attach, what_matched
from leap.batching import InOrder, PackBatches, RankBatches, RowBatches
from leap.callbacks import RecipeIntervals, SaveOnTerminate, ShowProgress, TrainLog
from leap.checkpoints import (
    Manifest,
    find_checkpoints,
    last_complete_checkpoint,
    read_manifest,
    step_of,
    weights_sha256,
    why_incomplete,
)
from leap.cli import as_plain
from leap.files import Journal, read_jsonl, sha256_file, sha256_json, write_text
from leap.meter import Meter
from leap.models import load_processor, load_weights
from leap.packing import ISOLATED_SDPA, Packer
from leap.parts import freeze
from leap.preflight import Report, check_file, write_rejected
from leap.progress import say
from leap.provenance import library_versions
from leap.recipes import LoraRecipe, TrainingRecipe
from leap.supervision import PlanningCollator, pixel_budget, set_pixel_budget
from leap.trainer import PlanningTrainer, Rows

_DEFECTS_SHOWN = 20
_LONGEST_WAIT = timedelta(hours=2)  # of other processes, while the first one checks the data or saves


def train(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> Path:
    """Run (or resume) full fine-tuning, or LoRA for a LoraRecipe, and return the last checkpoint.

    Under torchrun or `accelerate launch` every process calls this. UserError for anything the user can mend.
    """
    check_inputs(recipe, workspace)
    recipe = _fit_to_device(recipe)
    processes = PartialState(cpu=not torch.cuda.is_available(), timeout=_LONGEST_WAIT)
    made_from = _from_first_process(lambda: _made_from(recipe), processes)
    resume = _from_first_process(lambda: _checkpoint_to_resume(recipe, made_from, processes.num_processes), processes)

    processor = load_processor(recipe.model_name_or_path)
    set_pixel_budget(processor, recipe.image_tokens_min, recipe.image_tokens_max)
    packer = Packer(recipe.model_name_or_path, recipe.attn_implementation) if recipe.packing else None
    collator = PlanningCollator(processor, recipe.image_root, workspace.root, packer)
    with processes.main_process_first():  # the others read the lengths that the first one cached
        data = usable_rows(recipe.train_file, collator, recipe)
        validation = usable_rows(recipe.val_file, collator, recipe) if recipe.val_file else None
    batches = _shared(_plan(recipe, data, processes.num_processes), data, processes)
    steps = _total_steps(recipe, len(batches))
    if resume and (step_of(resume) or 0) >= steps:
        say(f"nothing to do: {resume} is the last of {steps} steps")
        return resume
    if processes.is_main_process:
        write_text(recipe.output_dir / "recipe.yaml", yaml.safe_dump(as_plain(recipe), sort_keys=False))

    run_name = _run_name(recipe.output_dir, workspace)
    arguments = _arguments(recipe, steps, workspace.logs / run_name, validation is not None, sees=_sees(data))
    trainer = PlanningTrainer(
        model=_model_to_train(recipe),
        args=arguments,
        train_dataset=Rows(data.rows),
        eval_dataset=Rows(validation.rows) if validation else None,
        data_collator=collator,
        processing_class=processor,
        recipe=recipe,
        train_batches=batches,
        eval_batches=_validation_batches(recipe, validation, processes) if validation else None,
        meter=Meter(),
        manifest=Manifest(
            base_model=str(recipe.model_name_or_path),
            kind="adapter" if isinstance(recipe, LoraRecipe) else "full",
            recipe=as_plain(recipe),
            devices=processes.num_processes,
            pixel_budget=pixel_budget(processor),
            chat_template_sha256=sha256_json(processor.chat_template),
            library_versions=library_versions(),
            **made_from,
        ),
    )
    return _run(trainer, recipe, resume, workspace.logs / run_name / "train.jsonl")


def check_inputs(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> None:
    """UserError for what can be wrong before anything is read: files that are not there, knobs that contradict."""
    workspace.require(recipe.model_name_or_path, "base model")
    problem = why_incomplete(recipe.model_name_or_path)
    if problem:
        raise UserError(f"cannot use base model {recipe.model_name_or_path}: {problem}")
    workspace.require_file(recipe.train_file, "training file")
    if recipe.val_file:
        workspace.require_file(recipe.val_file, "validation file")
    elif recipe.best_metric != "loss":
        raise UserError(f"best_metric {recipe.best_metric} is computed on validation rows: name them with --val_file")
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


def _made_from(recipe: TrainingRecipe) -> dict[str, str]:
    """What a run starts from, by content."""
    data = [sha256_file(path) for path in (recipe.train_file, recipe.val_file) if path]
    return {"base_weights_sha256": weights_sha256(recipe.model_name_or_path), "data_sha256": sha256_json(data)}


def _from_first_process(make: Any, processes: PartialState) -> Any:
    """What `make` returns on the first process, on all of them."""
    found = [make() if processes.is_main_process else None]
    if processes.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


def _checkpoint_to_resume(recipe: TrainingRecipe, made_from: dict[str, str], devices: int) -> Path | None:
    """The last complete checkpoint of the run, if it was made from the same things; UserError where going on, or
    starting over, would mix runs or overwrite one."""
    resume = last_complete_checkpoint(recipe.output_dir)
    if resume:
        _refuse_changes(resume, recipe, made_from, devices)
    for folder in find_checkpoints(recipe.output_dir):
        problem = why_incomplete(folder)
        if problem:
            say(f"ignoring {folder}: {problem}")
        elif not resume:  # starting over would overwrite it
            raise UserError(
                f"{folder} cannot be resumed from: {why_incomplete(folder, to_resume=True)}. Use another --output_dir"
            )
    return resume


def _plan(recipe: TrainingRecipe, data: Report, devices: int) -> RowBatches | PackBatches:
    """The batches of an epoch over all devices."""
    lengths = [length.total for length in data.lengths]
    if not recipe.packing:
        batches_per_step = recipe.gradient_accumulation_steps * devices
        return RowBatches(lengths, recipe.per_device_train_batch_size, batches_per_step, recipe.seed)
    packs = PackBatches(lengths, recipe.packing_tokens, recipe.seed)
    full = sum(lengths) / (len(packs) * recipe.packing_tokens)
    rows_per_step = len(lengths) / len(packs) * recipe.gradient_accumulation_steps * devices
    say(
        f"packing: {len(lengths):,} rows in {len(packs):,} packs of up to {recipe.packing_tokens:,} tokens ({full:.1%} "
        f"full), about {rows_per_step:.1f} rows an optimiser step"
    )
    return packs


def _validation_batches(recipe: TrainingRecipe, data: Report, processes: PartialState) -> RankBatches:
    plan = InOrder([length.total for length in data.lengths], recipe.per_device_eval_batch_size)
    return _shared(plan, data, processes)


def _shared(plan: Any, data: Report, processes: PartialState) -> RankBatches:
    visual = [length.visual for length in data.lengths]
    return RankBatches(plan, visual, processes.process_index, processes.num_processes)


def _sees(data: Report) -> bool:
    return any(length.visual for length in data.lengths)


def _total_steps(recipe: TrainingRecipe, batches: int) -> int:
    """Optimiser steps of a run; `batches` a device and epoch."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    return max(1, math.ceil(recipe.num_train_epochs * math.ceil(batches / recipe.gradient_accumulation_steps)))


def _run(trainer: PlanningTrainer, recipe: TrainingRecipe, resume: Path | None, log_path: Path) -> Path:
    """Train to the end or to SIGTERM; the last checkpoint. Leaves train.jsonl and the loss curve."""
    if resume:
        say(f"resuming from {resume}")
        trainer.restore(resume)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    first = trainer.is_world_process_zero()
    termination = SaveOnTerminate(trainer)
    for callback in (RecipeIntervals(), termination, *([ShowProgress()] if first else [])):
        trainer.add_callback(callback)
    try:
        with termination, Journal(log_path if first else Path(os.devnull)) as journal:
            trainer.add_callback(TrainLog(journal))
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except torch.OutOfMemoryError as error:
        at_once = (
            f"packs of {recipe.packing_tokens} tokens"
            if recipe.packing
            else f"{recipe.per_device_train_batch_size} rows at once"
        )
        lower = "packing_tokens" if recipe.packing else "per_device_train_batch_size"
        raise UserError(
            f"out of GPU memory with {at_once}: {str(error).splitlines()[0]} Lower {lower} and raise "
            "gradient_accumulation_steps by the same factor, lower image_tokens_max, or turn gradient_checkpointing on"
        ) from None
    except UserError as error:  # one raised in a data-loading process arrives wrapped in that process's traceback
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2]) from None
    last = last_complete_checkpoint(recipe.output_dir)
    assert last is not None, "the trainer saves at the last step"
    if first:
        plots.save(plots.loss_curve(read_jsonl(log_path)), recipe.output_dir, "loss")
    if (step_of(last) or 0) < trainer.args.max_steps:
        say(f"stopped by SIGTERM after saving {last}; the same command continues")
        raise SystemExit(128 + signal.SIGTERM)
    return last


def _model_to_train(recipe: TrainingRecipe) -> Any:
    """The base model in float32 master weights, or frozen with a fresh adapter on it.

    Frozen weights receive no updates that bfloat16 could lose, so under bf16 they are held in it; the adapter's own
    weights stay float32 either way.
    """
    attention = ISOLATED_SDPA if recipe.packing and recipe.attn_implementation == "sdpa" else recipe.attn_implementation
    if isinstance(recipe, LoraRecipe):
        dtype = "bfloat16" if recipe.bf16 else "float32"
        model = attach(load_weights(recipe.model_name_or_path, dtype, attention), recipe)
        say(str(what_matched(model)))
    else:
        model = load_weights(recipe.model_name_or_path, "float32", attention)
        say(freeze(model, recipe.freeze))
    if recipe.gradient_checkpointing:
        with warnings.catch_warnings():  # the method has a new name, which the oldest supported version lacks
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _fit_to_device(recipe: TrainingRecipe) -> TrainingRecipe:
    if recipe.bf16 and not (torch.cuda.is_available() and torch.cuda.is_bf16_supported()):
        where = "this GPU has no bfloat16" if torch.cuda.is_available() else "no CUDA device"
        say(f"training in float32: {where}")
        return replace(recipe, bf16=False)
    return recipe


def usable_rows(path: Path, collator: PlanningCollator, recipe: TrainingRecipe) -> Report:
    """The checked rows of a file; those that cannot train are written aside if they may be skipped, else a UserError
    lists them."""
    report = check_file(path, collator, recipe.model_max_length, shrink=recipe.overlong == "shrink")
    say(report.text())
    defects = [checked.defect for checked in report.rejected]
    if defects and recipe.skip_bad_rows and report.rows:
        rejected = recipe.output_dir / f"rejected_{path.stem}.jsonl"
        write_rejected(report, rejected)
        say(f"skipping {len(defects)} rows; they are in {rejected} with their reasons")
    elif defects:
        for defect in defects[1:_DEFECTS_SHOWN]:
            print(defect, file=sys.stderr)
        more = f" (and {len(defects) - 1} more rows of {path})" if len(defects) > 1 else ""
        raise UserError(defects[0] + more + (". No row is left to train on" if not report.rows else ""))
    return report


def _run_name(run: Path, workspace: WorkspaceConfig) -> str:
    """The run's folder below output/ (`output` for one directly in it), or its last part if it lies elsewhere."""
    inside = run.is_relative_to(workspace.output) and run != workspace.output
    return str(run.relative_to(workspace.output)) if inside else run.name


def _arguments(recipe: TrainingRecipe, steps: int, logs: Path, has_validation: bool, sees: bool) -> TrainingArguments:
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs)
    arguments = TrainingArguments(
        output_dir=str(recipe.output_dir),
        max_steps=steps,
        per_device_train_batch_size=1 if recipe.packing else recipe.per_device_train_batch_size,
        per_device_eval_batch_size=recipe.per_device_eval_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        adam_beta2=recipe.adam_beta2,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=recipe.bf16,
        use_cpu=not torch.cuda.is_available(),
        use_liger_kernel=recipe.use_liger_kernel,
        torch_compile=recipe.torch_compile,
        ddp_find_unused_parameters=not sees,  # rows without pictures leave the vision tower out
        ddp_timeout=int(_LONGEST_WAIT.total_seconds()),
        dataloader_num_workers=recipe.dataloader_num_workers,
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,  # it would log an invented number in place of a loss that is none
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=None,  # the trainer drops old checkpoints, after the new one is complete
        eval_strategy="steps" if has_validation else "no",
        eval_steps=recipe.save_steps if has_validation else None,
        prediction_loss_only=True,
        include_num_input_tokens_seen="no",  # the trainer counts rows' tokens itself, packed or padded
        remove_unused_columns=False,
        report_to=recipe.report_to,
        disable_tqdm=not sys.stderr.isatty(),
    )
    if arguments.n_gpu > 1:  # DataParallel would cut pixel_values apart from the images they belong to
        say(f"training on one of {arguments.n_gpu} GPUs; scripts/training/run-training.sh uses all of them")
        arguments._n_gpu = 1
    return arguments


def _refuse_changes(resume: Path, recipe: TrainingRecipe, made_from: dict[str, str], devices: int) -> None:
    """UserError if the checkpoint to resume was made from other data, weights or knobs that change what is computed."""
    manifest = read_manifest(resume)
    assert manifest is not None, "only folders with a manifest are resumed"
    free = {field.name for field in dataclasses.fields(recipe) if field.metadata["free"]}
    before = manifest.recipe | {"step_size": _step_size(manifest.recipe, manifest.devices)}
    now = as_plain(recipe)
    now["step_size"] = _step_size(now, devices)
    changes = [
        f"{name}: {before[name]} -> {now[name]}"
        for name in now
        if name not in free and name in before and before[name] != now[name]
    ]
    if manifest.base_weights_sha256 != made_from["base_weights_sha256"]:
        changes.append("the weights of the base model")
    if manifest.data_sha256 != made_from["data_sha256"]:
        changes.append("the content of the training or validation file")
    if changes and not recipe.allow_changes:
        raise UserError(
            f"{resume} was made with another recipe ({'; '.join(changes)}). Use another --output_dir for a new run, "
            "or --allow_changes to go on from it"
        )


def _step_size(recipe: dict[str, Any], devices: int) -> str:
    """What an optimiser step sees: how it is split into batches and devices does not change what is computed."""
    batches = recipe["gradient_accumulation_steps"] * devices
    if recipe.get("packing"):
        return f"{batches} packs"
    return f"{recipe['per_device_train_batch_size'] * batches} rows"
