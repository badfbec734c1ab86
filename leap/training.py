"""The one trainer: rows in, checkpoints out, on Hugging Face's Trainer.

What it adds: rows are checked before the model loads, a checkpoint counts once its manifest is written, the same
command resumes from the last complete one, and old checkpoints go only after a newer one is complete.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap import plots
from leap.adapters import attach, what_matched
from leap.batching import StepSampler
from leap.callbacks import PlainProgress, RecipeIntervals, SaveOnTerminate, TrainLog
from leap.checkpoints import (
    MANIFEST,
    SAVING,
    Manifest,
    begin_saving,
    drop_run_state,
    find_checkpoints,
    last_complete_checkpoint,
    read_manifest,
    remove,
    step_of,
    weights_sha256,
    why_incomplete,
    write_manifest,
)
from leap.cli import as_plain
from leap.files import Journal, read_jsonl, sha256_file, sha256_json, write_text
from leap.models import load_processor, load_weights
from leap.parts import freeze, parameter_groups
from leap.preflight import Report, check_file, count_rows, write_rejected
from leap.provenance import library_versions
from leap.recipes import LoraRecipe, TrainingRecipe
from leap.records import PlanningRow
from leap.supervision import IGNORED, PlanningCollator, pixel_budget, set_pixel_budget

# Knobs that say where and how a run executes, not what it computes: they may change between kill and resume.
_FREE_KNOBS = {
    "output_dir",
    "model_name_or_path",
    "train_file",
    "val_file",
    "image_root",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "keep_optimizer_of_last",
    "dataloader_num_workers",
    "per_device_eval_batch_size",
    "allow_changes",
    "gradient_checkpointing",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "attn_implementation",
}
_DEFECTS_SHOWN = 20


class Rows(Dataset):
    """Planning rows as a dataset; the collator does the work, so that a batch is processed at once."""

    def __init__(self, rows: list[PlanningRow]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> PlanningRow:
        return self.rows[index]


def train(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> Path:
    """Run (or resume) full fine-tuning, or LoRA for a LoraRecipe, and return the last checkpoint.

    UserError for anything the user can mend.
    """
    _check_inputs(recipe, workspace)
    recipe = _fit_to_device(recipe)
    made_from = {"base_weights_sha256": weights_sha256(recipe.model_name_or_path), "data_sha256": _data_sha256(recipe)}
    resume = _checkpoint_to_resume(recipe, made_from)
    if resume and _is_last(resume, _total_steps(recipe, count_rows(recipe.train_file))):
        return resume

    processor = load_processor(recipe.model_name_or_path)
    set_pixel_budget(processor, recipe.image_tokens_min, recipe.image_tokens_max)
    collator = PlanningCollator(processor, recipe.image_root, workspace.root)
    data = _usable_rows(recipe.train_file, collator, recipe)
    validation = _usable_rows(recipe.val_file, collator, recipe).rows if recipe.val_file else None
    steps = _total_steps(recipe, len(data.rows))
    if resume and _is_last(resume, steps):
        return resume
    write_text(recipe.output_dir / "recipe.yaml", yaml.safe_dump(as_plain(recipe), sort_keys=False))

    trainer = _PlanningTrainer(
        model=_model_to_train(recipe),
        args=_arguments(recipe, steps, has_validation=validation is not None),
        train_dataset=Rows(data.rows),
        eval_dataset=Rows(validation) if validation else None,
        data_collator=collator,
        processing_class=processor,
        lengths=[length.total for length in data.lengths],
        recipe=recipe,
        manifest=Manifest(
            base_model=str(recipe.model_name_or_path),
            kind="adapter" if isinstance(recipe, LoraRecipe) else "full",
            recipe=as_plain(recipe),
            pixel_budget=pixel_budget(processor),
            chat_template_sha256=sha256_json(processor.chat_template),
            library_versions=library_versions(),
            **made_from,
        ),
    )
    return _run(trainer, recipe, resume, workspace.logs / _run_name(recipe.output_dir, workspace) / "train.jsonl")


def _check_inputs(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> None:
    """What can be wrong before anything is read."""
    workspace.require(recipe.model_name_or_path, "base model")
    problem = why_incomplete(recipe.model_name_or_path)
    if problem:
        raise UserError(f"cannot use base model {recipe.model_name_or_path}: {problem}")
    workspace.require_file(recipe.train_file, "training file")
    if recipe.val_file:
        workspace.require_file(recipe.val_file, "validation file")
    if isinstance(recipe, LoraRecipe) and (recipe.freeze or recipe.vision_lr or recipe.merger_lr):
        raise UserError("freeze, vision_lr and merger_lr are for full fine-tuning; LoRA freezes all but its adapter")
    if recipe.image_tokens_min > recipe.image_tokens_max:
        raise UserError(
            f"image_tokens_min {recipe.image_tokens_min} is above image_tokens_max {recipe.image_tokens_max}"
        )


def _checkpoint_to_resume(recipe: TrainingRecipe, made_from: dict[str, str]) -> Path | None:
    """The last complete checkpoint of the run, if it was made from the same things; UserError where going on, or
    starting over, would mix runs or overwrite one."""
    resume = last_complete_checkpoint(recipe.output_dir)
    if resume:
        _refuse_changes(resume, recipe, made_from)
    for folder in find_checkpoints(recipe.output_dir):
        problem = why_incomplete(folder)
        if problem:
            print(f"ignoring {folder}: {problem}")
        elif not resume:  # starting over would overwrite it
            raise UserError(
                f"{folder} cannot be resumed from: {why_incomplete(folder, to_resume=True)}. Use another --output_dir"
            )
    return resume


def _run(trainer: _PlanningTrainer, recipe: TrainingRecipe, resume: Path | None, log_path: Path) -> Path:
    """Train to the end or to SIGTERM; the last checkpoint. Leaves train.jsonl and the loss curve."""
    if resume:
        print(f"resuming from {resume}")
    termination = SaveOnTerminate()
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    for callback in (RecipeIntervals, ProgressCallback if sys.stderr.isatty() else PlainProgress, termination):
        trainer.add_callback(callback)
    try:
        with termination, Journal(log_path) as journal:
            trainer.add_callback(TrainLog(journal))
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of GPU memory with {recipe.per_device_train_batch_size} rows at once: {str(error).splitlines()[0]} "
            "Lower per_device_train_batch_size and raise gradient_accumulation_steps by the same factor, lower "
            "image_tokens_max, or turn gradient_checkpointing on"
        ) from None
    except UserError as error:  # one raised in a data-loading process arrives wrapped in that process's traceback
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2]) from None
    plots.save(plots.loss_curve(read_jsonl(log_path)), recipe.output_dir, "loss")
    last = last_complete_checkpoint(recipe.output_dir)
    assert last is not None, "the trainer saves at the last step"
    if termination.received and (step_of(last) or 0) < trainer.args.max_steps:
        print(f"stopped by SIGTERM after saving {last}; the same command continues")
        raise SystemExit(128 + signal.SIGTERM)
    return last


def supervised_positions(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The positions whose next token is supervised in any row, and those tokens.

    labels  # (batch, seq), IGNORED where nothing is to be predicted. Returns (kept,) and (batch, kept), IGNORED where
    only another row has something to predict there. The head is computed at these positions only: over a vocabulary of
    151,936 the logits of prompts and pictures would take most of the memory of a step.
    """
    positions = (labels[:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(1)
    return positions, labels[:, positions + 1]


def supervised_loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Cross-entropy summed over the supervised tokens, divided by `num_items_in_batch` (default: their number).

    outputs.logits  # (batch, kept, vocab); targets  # (batch, kept), as from `supervised_positions`.
    """
    supervised = targets != IGNORED
    loss = functional.cross_entropy(outputs.logits[supervised].float(), targets[supervised], reduction="sum")
    return loss / (supervised.sum() if num_items_in_batch is None else num_items_in_batch)


def _for_loss(inputs: dict[str, Any]) -> dict[str, Any]:
    """A batch for a forward pass whose logits are those of the supervised positions, without key/value cache."""
    positions, targets = supervised_positions(inputs["labels"])
    return {**inputs, "labels": targets, "logits_to_keep": positions, "use_cache": False}


class _PlanningTrainer(Trainer):
    """Trainer whose checkpoints are complete only with their manifest, and which drops old ones after that."""

    def __init__(self, *, recipe: TrainingRecipe, lengths: list[int], manifest: Manifest, **arguments: Any) -> None:
        # Qwen's vision-language classes do not take the Trainer's token count: without a loss function of our own a
        # step would average the means of its micro-batches, and a token in one of short answers would weigh more.
        super().__init__(compute_loss_func=supervised_loss, **arguments)
        self.recipe, self.lengths, self.manifest = recipe, lengths, manifest

    def compute_loss(self, model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        return super().compute_loss(model, _for_loss(inputs), **options)

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss over the supervised tokens of all validation rows, whatever the batches; no logits are kept."""
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # loss, tokens
        for batch in self.get_eval_dataloader(eval_dataset):
            batch = _for_loss(self._prepare_inputs(batch))
            targets = batch.pop("labels")
            with self.compute_loss_context_manager():
                loss = supervised_loss(self.model(**batch), targets, num_items_in_batch=1)
            sums += torch.stack([loss.double(), (targets != IGNORED).sum().double()])
        self.model.train()
        loss, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
        metrics = {f"{metric_key_prefix}_loss": loss / tokens, f"{metric_key_prefix}_tokens": tokens}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> StepSampler:
        rows_per_step = self._train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return StepSampler(self.lengths, rows_per_step, self.args.seed)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            begin_saving(folder)
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            write_manifest(folder, self._manifest_now())
            self._drop_old_checkpoints()

    def _manifest_now(self) -> Manifest:
        validation = [entry for entry in self.state.log_history if "eval_loss" in entry]
        return replace(
            self.manifest,
            steps=self.state.global_step,
            tokens_seen=int(self.state.num_input_tokens_seen),
            validation={"loss": validation[-1]["eval_loss"], "step": validation[-1]["step"]} if validation else {},
        )

    def _drop_old_checkpoints(self) -> None:
        """Keep as many complete checkpoints and optimiser states as the recipe says, and no torn one: what it was to
        hold is in the one just saved."""
        found = find_checkpoints(Path(self.args.output_dir))
        torn = [folder for folder in found if (folder / SAVING).is_file()]
        complete = [folder for folder in found if (folder / MANIFEST).is_file()]
        limit = self.recipe.save_total_limit
        doomed = complete[:-limit] if limit else []
        for folder in torn + doomed:
            remove(folder)
        for folder in complete[len(doomed) : -self.recipe.keep_optimizer_of_last]:
            drop_run_state(folder)

    def create_optimizer(self, *arguments: Any) -> torch.optim.Optimizer:
        """AdamW with a learning rate a part, or LoRA+'s, where the recipe asks for them; else the Trainer's own."""
        if self.optimizer is None:
            self.optimizer = self._optimizer_of_recipe()
        return super().create_optimizer(*arguments)

    def _optimizer_of_recipe(self) -> torch.optim.Optimizer | None:
        recipe, betas = self.recipe, (0.9, self.recipe.adam_beta2)
        if isinstance(recipe, LoraRecipe):
            if recipe.loraplus_lr_ratio is None:
                return None
            from peft.optimizers import create_loraplus_optimizer

            return create_loraplus_optimizer(
                self.model,
                torch.optim.AdamW,
                lr=recipe.learning_rate,
                loraplus_lr_ratio=recipe.loraplus_lr_ratio,
                betas=betas,
                weight_decay=recipe.weight_decay,
            )
        if recipe.vision_lr is None and recipe.merger_lr is None:
            return None
        decay = set(self.get_decay_parameter_names(self.model))
        return torch.optim.AdamW(parameter_groups(self.model, recipe, decay), betas=betas)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Restore state, but not the knobs that torch saves with it: the recipe of this run decides those."""
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        fresh = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in self.optimizer.param_groups]
        base_rates = list(self.lr_scheduler.base_lrs)
        super()._load_optimizer_and_scheduler(checkpoint)
        for group, knobs in zip(self.optimizer.param_groups, fresh, strict=True):
            group.update(knobs)
        self.lr_scheduler.base_lrs = base_rates


def _model_to_train(recipe: TrainingRecipe) -> Any:
    """The base model in float32 master weights, or frozen with a fresh adapter on it.

    Frozen weights receive no updates that bfloat16 could lose, so under bf16 they are held in it; the adapter's own
    weights stay float32 either way.
    """
    if isinstance(recipe, LoraRecipe):
        dtype = "bfloat16" if recipe.bf16 else "float32"
        model = attach(load_weights(recipe.model_name_or_path, dtype, recipe.attn_implementation), recipe)
        print(what_matched(model))
    else:
        model = load_weights(recipe.model_name_or_path, "float32", recipe.attn_implementation)
        print(freeze(model, recipe.freeze))
    if recipe.gradient_checkpointing:
        with warnings.catch_warnings():  # the method has a new name, which the oldest supported version lacks
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _fit_to_device(recipe: TrainingRecipe) -> TrainingRecipe:
    if recipe.bf16 and not (torch.cuda.is_available() and torch.cuda.is_bf16_supported()):
        where = "this GPU has no bfloat16" if torch.cuda.is_available() else "no CUDA device"
        print(f"training in float32: {where}")
        return replace(recipe, bf16=False)
    return recipe


def _usable_rows(path: Path, collator: PlanningCollator, recipe: TrainingRecipe) -> Report:
    """The checked rows of a file; those that cannot train are written aside if they may be skipped, else a UserError
    lists them."""
    report = check_file(path, collator, recipe.model_max_length)
    print(report.text())
    defects = [checked.defect for checked in report.rejected]
    if defects and recipe.skip_bad_rows and report.rows:
        rejected = recipe.output_dir / f"rejected_{path.stem}.jsonl"
        write_rejected(report, rejected)
        print(f"skipping {len(defects)} rows; they are in {rejected} with their reasons")
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


def _is_last(checkpoint: Path, steps: int) -> bool:
    """Whether a checkpoint ends a run of `steps`, said aloud if so."""
    if (step_of(checkpoint) or 0) < steps:
        return False
    print(f"nothing to do: {checkpoint} is the last of {steps} steps")
    return True


def _total_steps(recipe: TrainingRecipe, rows: int) -> int:
    if recipe.max_steps > 0:
        return recipe.max_steps
    world = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun
    batches = math.ceil(rows / (recipe.per_device_train_batch_size * world))
    return max(1, math.ceil(recipe.num_train_epochs * math.ceil(batches / recipe.gradient_accumulation_steps)))


def _arguments(recipe: TrainingRecipe, steps: int, has_validation: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(recipe.output_dir),
        max_steps=steps,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
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
        dataloader_num_workers=recipe.dataloader_num_workers,
        logging_steps=recipe.logging_steps,
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=None,  # _PlanningTrainer drops old checkpoints, after the new one is complete
        eval_strategy="steps" if has_validation else "no",
        eval_steps=recipe.save_steps if has_validation else None,
        prediction_loss_only=True,
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
    )
    if arguments.n_gpu > 1:  # DataParallel would cut pixel_values apart from the images they belong to
        print(f"training on one of {arguments.n_gpu} GPUs")
        arguments._n_gpu = 1
    return arguments


def _data_sha256(recipe: TrainingRecipe) -> str:
    return sha256_json([sha256_file(path) for path in (recipe.train_file, recipe.val_file) if path])


def _refuse_changes(resume: Path, recipe: TrainingRecipe, made_from: dict[str, str]) -> None:
    """UserError if the checkpoint to resume was made from other data, weights or knobs that change what is computed."""
    manifest = read_manifest(resume)
    assert manifest is not None, "only folders with a manifest are resumed"
    before, now = manifest.recipe | {"rows_per_step": _rows_per_step(manifest.recipe)}, as_plain(recipe)
    now["rows_per_step"] = _rows_per_step(now)
    changes = [
        f"{key}: {before.get(key)} -> {now[key]}"
        for key in now
        if key not in _FREE_KNOBS and before.get(key) != now[key]
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


def _rows_per_step(recipe: dict[str, Any]) -> int:
    """Rows of an optimiser step: how they are split into batches does not change what is computed."""
    return recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
