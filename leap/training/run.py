"""A training run from recipe to last checkpoint: check, plan the batches, build the trainer, run or resume.

Rows are checked before the model loads; the same command resumes from the last complete checkpoint; what would mix two
runs is refused.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import as_plain
from leap.files import Journal, sha256_json, write_json, write_text
from leap.models.checkpoints import (
    Manifest,
    best_checkpoint,
    last_complete_checkpoint,
    read_manifest,
    step_of,
)
from leap.models.image_budget import pixel_budget, set_pixel_budget
from leap.models.loading import load_processor, load_weights
from leap.plots.style import save
from leap.plots.training import loss_curve
from leap.progress import say
from leap.provenance import code_revision, hardware, library_versions
from leap.publish.model_card import write_model_card
from leap.runs.status import Status
from leap.text import size_text
from leap.training.adapters import attach, load_base_in_4bit, what_matched
from leap.training.batching import InOrder, RankBatches, describe_plan, plan_batches, total_steps
from leap.training.callbacks import KeepStatus, RecipeIntervals, SaveOnTerminate, ShowProgress, TrainLog
from leap.training.meter import Meter
from leap.training.packing import Packer, kernel_for_packs
from leap.training.parts import freeze
from leap.training.preflight import Report, check_file, write_rejected
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resources import DiskNeed, flops_counter, geometry_of, largest_step, peak_of_devices
from leap.training.resume import checkpoint_to_resume, made_from
from leap.training.supervision import PlanningCollator
from leap.training.trainer import PlanningTrainer, Rows

_DEFECTS_SHOWN = 20
_SHOWN = ("loss", "plan_format_validity", "plan_step_f1", "grounded_total", "other_exact_match")
_LONGEST_WAIT = timedelta(hours=2)  # of other processes, while the first one checks the data or saves


def train(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> Path:
    """Run (or resume) full fine-tuning, or LoRA for a LoraRecipe, and return the last checkpoint.

    Under torchrun or `accelerate launch` every process calls this. The recipe has passed
    leap.training.resume.check_inputs. UserError for anything else that the user can mend.
    """
    recipe = _fit_to_device(recipe)
    processes = PartialState(cpu=not torch.cuda.is_available(), timeout=_LONGEST_WAIT)
    sources = _from_first_process(lambda: made_from(recipe), processes)
    resume = _from_first_process(lambda: checkpoint_to_resume(recipe, sources, processes.num_processes), processes)

    processor = load_processor(recipe.model_name_or_path)
    set_pixel_budget(processor, recipe.image_tokens_min, recipe.image_tokens_max)
    packer = Packer(recipe.model_name_or_path, recipe.attn_implementation) if recipe.packing else None
    collator = PlanningCollator(processor, recipe.image_root, workspace.root, packer, recipe.video_tokens_max)
    with processes.main_process_first():  # the others read the lengths that the first one cached
        data = usable_rows(recipe.train_file, collator, recipe)
        validation = usable_rows(recipe.val_file, collator, recipe) if recipe.val_file else None
    plan = plan_batches(recipe, data.lengths, processes.num_processes)
    batches = _shared(plan, data, processes)
    steps = total_steps(recipe, len(batches))
    if resume and (step_of(resume) or 0) >= steps:
        say(f"nothing to do: {resume} is the last of {steps} steps")
        return resume
    say(describe_plan(recipe, plan, data.lengths, processes.num_processes))
    geometry = geometry_of(recipe.model_name_or_path)
    disk = DiskNeed(geometry, recipe) if geometry else None
    if geometry and disk:
        say(largest_step(geometry, recipe, plan.batches(0), data.lengths))
        say(disk.text(steps))
        disk.check_run(steps)
    peak, about_mfu = (
        peak_of_devices(recipe, processes.num_processes) if geometry else (None, "MFU is off: unknown model")
    )
    say(about_mfu)
    if processes.is_main_process:
        write_text(recipe.output_dir / "recipe.yaml", yaml.safe_dump(as_plain(recipe), sort_keys=False))

    run_name = _run_name(recipe.output_dir, workspace)
    set_seed(recipe.seed)  # of a fresh adapter too; the Trainer seeds only once it has the model
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
        meter=Meter(flops_counter(geometry, recipe) if geometry and peak else None, peak),
        disk=disk,
        manifest=Manifest(
            base_model=str(recipe.model_name_or_path),
            kind="adapter" if isinstance(recipe, LoraRecipe) else "full",
            recipe=as_plain(recipe),
            devices=processes.num_processes,
            pixel_budget=pixel_budget(processor),
            chat_template_sha256=sha256_json(processor.chat_template),
            library_versions=library_versions(),
            code_revision=code_revision(),
            **sources,
        ),
    )
    logs = workspace.logs / run_name
    with Journal(logs / "train.jsonl" if processes.is_main_process else Path(os.devnull)) as journal:
        trainer.add_callback(TrainLog(journal))
        with _status(trainer, run_name, resume, logs / "status.json") as status:
            last = _run(trainer, recipe, resume, journal, status)
    if processes.is_main_process:
        _leave_summary(trainer, last, workspace)
    return last


def _from_first_process(make: Any, processes: PartialState) -> Any:
    """What `make` returns on the first process, on all of them."""
    found = [make() if processes.is_main_process else None]
    if processes.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


def _validation_batches(recipe: TrainingRecipe, data: Report, processes: PartialState) -> RankBatches:
    plan = InOrder([length.total for length in data.lengths], recipe.per_device_eval_batch_size)
    return _shared(plan, data, processes)


def _shared(plan: Any, data: Report, processes: PartialState) -> RankBatches:
    visual = [length.visual for length in data.lengths]
    return RankBatches(plan, visual, processes.process_index, processes.num_processes)


def _sees(data: Report) -> bool:
    return any(length.visual for length in data.lengths)


def _status(trainer: PlanningTrainer, run_name: str, resume: Path | None, path: Path) -> AbstractContextManager:
    """The status file of the run, which its first process keeps; the others have None."""
    if not trainer.is_world_process_zero():
        return nullcontext()
    manifest = trainer.manifest
    return Status(
        path,
        kind="training",
        about={"run": run_name, "tuning": manifest.kind, "base_model": manifest.base_model},
        total=trainer.args.max_steps,
        unit="step",
        done=(step_of(resume) or 0) if resume else 0,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def _run(
    trainer: PlanningTrainer, recipe: TrainingRecipe, resume: Path | None, journal: Journal, status: Status | None
) -> Path:
    """Train to the end or to SIGTERM; the last checkpoint. Leaves train.jsonl and the loss curve."""
    if resume:
        say(f"resuming from {resume}")
        trainer.restore(resume)
    before = read_manifest(resume) if resume else None
    trainer.manifest = replace(trainer.manifest, peak_memory_bytes=before.peak_memory_bytes if before else 0)
    trainer.meter.start(before.train_seconds if before else 0.0)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    first = trainer.is_world_process_zero()
    termination = SaveOnTerminate(trainer)
    for callback in (RecipeIntervals(), termination, *([ShowProgress()] if first else [])):
        trainer.add_callback(callback)
    if status:
        trainer.add_callback(KeepStatus(status))
    try:
        with termination:
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
        save(loss_curve(journal.read()), recipe.output_dir, "loss")
    if (step_of(last) or 0) < trainer.args.max_steps:
        say(f"stopped by SIGTERM after saving {last}; the same command continues")
        raise SystemExit(128 + signal.SIGTERM)
    return last


def _leave_summary(trainer: PlanningTrainer, last: Path, workspace: WorkspaceConfig) -> None:
    """run.json beside the checkpoints, a model card in the last one, and a short table on the terminal."""
    recipe, manifest = trainer.recipe, read_manifest(last)
    assert manifest is not None, "the trainer has just written it"
    parameters = list(trainer.accelerator.unwrap_model(trainer.model).parameters())
    best = best_checkpoint(recipe.output_dir, recipe.best_metric)
    summary = {
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "parameters": sum(p.numel() for p in parameters),
        "seconds": manifest.train_seconds,
        "peak_memory_bytes": manifest.peak_memory_bytes,
        "memory_of": "GPU" if torch.cuda.is_available() else "process",
        "tokens_seen": manifest.tokens_seen,
        "steps": manifest.steps,
        "devices": manifest.devices,
        "hardware": hardware(),
        "last_checkpoint": last.name,
        "best_checkpoint": best.name if best else None,
        "best_by": f"validation {recipe.best_metric}" if best else None,
        "validation": manifest.validation,
    }
    write_json(recipe.output_dir / "run.json", summary)
    write_model_card(last, workspace)
    lines = {
        "steps": manifest.steps,
        "tokens seen": f"{manifest.tokens_seen:,}",
        "training time": f"{manifest.train_seconds:,.0f} s",
        f"peak memory ({summary['memory_of']})": size_text(manifest.peak_memory_bytes),
        **{f"validation {name}": f"{manifest.validation[name]:.4g}" for name in _SHOWN if name in manifest.validation},
        **({"best checkpoint": f"{best.name} (by validation {recipe.best_metric})"} if best else {}),
    }
    say("\n".join(f"  {name:30} {value}" for name, value in lines.items()))


def _model_to_train(recipe: TrainingRecipe) -> Any:
    """The base model in float32 master weights, or frozen with a fresh adapter on it.

    Frozen weights receive no updates that bfloat16 could lose, so under bf16 they are held in it; the adapter's own
    weights stay float32 either way.
    """
    attention = kernel_for_packs(recipe.attn_implementation) if recipe.packing else recipe.attn_implementation
    if isinstance(recipe, LoraRecipe):
        if recipe.load_in_4bit:
            base = load_base_in_4bit(recipe.model_name_or_path, attention)
        else:
            base = load_weights(recipe.model_name_or_path, "bfloat16" if recipe.bf16 else "float32", attention)
        model = attach(base, recipe)
        say(str(what_matched(model)))
    else:
        model = load_weights(recipe.model_name_or_path, "bfloat16" if recipe.pure_bf16 else "float32", attention)
        say(freeze(model, recipe.freeze))
    if recipe.gradient_checkpointing:
        with warnings.catch_warnings():  # the method has a new name, which the oldest supported version lacks
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _fit_to_device(recipe: TrainingRecipe) -> TrainingRecipe:
    if isinstance(recipe, LoraRecipe) and recipe.load_in_4bit and not torch.cuda.is_available():
        raise UserError("load_in_4bit needs a CUDA GPU; leave it out to train in float32 on the CPU")
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
        bf16=recipe.bf16 and not recipe.pure_bf16,  # autocast
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
