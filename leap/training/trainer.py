"""Hugging Face's Trainer as LEAP uses it: loss at supervised positions, exact validation, checkpoints that count once
they are whole, an optimiser state that any number of devices can read."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import ProcessorMixin, Trainer, TrainerCallback

from configs.errors import UserError
from leap.models.checkpoints import (
    MANIFEST,
    SAVING,
    Manifest,
    begin_saving,
    best_checkpoint,
    drop_run_state,
    find_checkpoints,
    remove,
    step_of,
    write_manifest,
)
from leap.models.generation import answer_batch, encode
from leap.models.launch_ahead import to_device
from leap.models.loading import is_out_of_memory, restore_weights
from leap.plans.metrics import score_answers
from leap.rows.records import PlanningRow
from leap.text import first_line
from leap.training.adapters import restore_adapter
from leap.training.batching import RankBatches
from leap.training.meter import Meter
from leap.training.parts import parameter_groups
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resources import DiskNeed, peak_memory_bytes
from leap.training.supervision import IGNORED, PlanningCollator, render

_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"


class PlanningDataset(Dataset):
    """Planning rows as a dataset; the collator does the work, so that a batch is processed at once.

    The row ~index is the row `index` without supervision: a filler.
    """

    def __init__(self, rows: list[PlanningRow]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> PlanningRow:
        return self.rows[index] if index >= 0 else replace(self.rows[~index], supervised=False)


@dataclass(frozen=True)
class _ErrorAsValue:
    """A collator that returns a UserError instead of raising it.

    An exception that leaves a data-loading process arrives as a new one whose text is that process's traceback; a value
    arrives as it is. `_raised` raises it in the main process.
    """

    collator: Callable[[list[PlanningRow]], dict[str, Any]]

    def __call__(self, rows: list[PlanningRow]) -> dict[str, Any] | UserError:
        try:
            return self.collator(rows)
        except UserError as error:
            return error


def _raised(batch: dict[str, Any] | UserError) -> dict[str, Any]:
    if isinstance(batch, UserError):
        raise batch
    return batch


def supervised_positions(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The positions whose next token is supervised in any row, and those tokens.

    labels  # (batch, seq), IGNORED where nothing is to be predicted. Returns (positions,) and (batch, positions),
    IGNORED where only another row has something to predict there. The head is computed at these positions only: over a
    vocabulary of 151,936 the logits of prompts and pictures would take most of the memory of a step.
    """
    positions = (labels[:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(1)
    return positions, labels[:, positions + 1]


def supervised_loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Cross-entropy summed over the supervised tokens, divided by `num_items_in_batch` (default: their number).

    outputs.logits  # (batch, positions, vocab); targets  # (batch, positions), as from `supervised_positions`.
    """
    supervised = targets != IGNORED
    if len(targets) == 1:  # every position is then supervised, and which are need not be looked up on the host
        logits, tokens = outputs.logits[0], targets[0]
    else:
        logits, tokens = outputs.logits[supervised], targets[supervised]
    loss = functional.cross_entropy(logits.float(), tokens, ignore_index=IGNORED, reduction="sum")
    return loss / (supervised.sum() if num_items_in_batch is None else num_items_in_batch)


def supervised_tokens(batch: dict[str, Any]) -> int:
    """How many tokens of a collated batch the loss sees."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def for_loss(inputs: dict[str, Any]) -> dict[str, Any]:
    """A collated batch for a forward pass whose logits are those of the supervised positions, without key/value cache;
    `labels` are the targets there. On the CPU, where looking positions up makes nothing wait."""
    positions, targets = supervised_positions(inputs["labels"])
    model_inputs = {name: value for name, value in inputs.items() if name != "row_lengths"}
    return model_inputs | {"labels": targets, "logits_to_keep": positions, "use_cache": False}


class PlanningTrainer(Trainer):
    """Trainer over planned batches whose checkpoints are complete only with their manifest."""

    # The Trainer's own types leave open what a run of ours always has.
    model: Any
    data_collator: PlanningCollator
    processing_class: ProcessorMixin
    eval_dataset: PlanningDataset  # where there is validation
    lr_scheduler: torch.optim.lr_scheduler.LambdaLR

    def __init__(
        self,
        *,
        recipe: TrainingRecipe,
        train_batches: RankBatches,
        eval_batches: RankBatches | None,
        manifest: Manifest,
        meter: Meter,
        disk: DiskNeed | None = None,
        **arguments: Any,
    ) -> None:
        # Qwen's vision-language classes do not take the Trainer's token count: without a loss function of our own a
        # step would average the means of its micro-batches, and a token in one of short answers would weigh more.
        super().__init__(compute_loss_func=supervised_loss, **arguments)
        self.recipe, self.manifest, self.meter, self.disk = recipe, manifest, meter, disk
        self.train_batches, self.eval_batches = train_batches, eval_batches
        self.stop_requested = False  # on this device, by a signal; `stop_agreed` is what all devices know of it
        self.stop_agreed = False
        self.add_callback(_EpochOfBatches(self))

    def get_train_dataloader(self) -> DataLoader:
        return self._loader(self.train_dataset, self.train_batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        return self._loader(self.eval_dataset, self.eval_batches)

    def _loader(self, rows: Any, batches: Any) -> DataLoader:
        # Not prepared by Accelerate, which would share out the batches once more and repeat rows to make them even.
        workers = self.args.dataloader_num_workers
        return DataLoader(
            rows,
            batch_sampler=batches,
            collate_fn=_ErrorAsValue(self.data_collator),
            num_workers=workers,
            prefetch_factor=self.recipe.dataloader_prefetch_factor if workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of a step on this device, and the supervised tokens of the step on all of them."""
        with self.meter.waiting():
            batches = list(map(_raised, itertools.islice(epoch_iterator, num_batches)))
        supervised = sum(map(supervised_tokens, batches))
        # One collective call a step for all that devices must agree on; float64 counts tokens exactly up to 2**53.
        local = torch.tensor([supervised, *self.meter.work_of(batches), self.stop_requested], dtype=torch.float64)
        if self.args.world_size > 1:
            local = self.accelerator.reduce(local.to(device), reduction="sum")
        supervised, *work, stop = local.tolist()
        self.meter.count(work)
        self.state.num_input_tokens_seen = int(self.state.num_input_tokens_seen) + int(work[0])
        self.stop_agreed = bool(stop)
        return batches, torch.full((), supervised, device=device)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return to_device(for_loss(inputs), self.args.device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.meter.rates() | {"tokens_seen": self.state.num_input_tokens_seen}
        super().log(logs, start_time)

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss over the supervised tokens of all validation rows, whatever the batches, and scores of the plans
        generated for a sample of them; no logits are kept."""
        # Layers compiled for training run as they are: their graphs know neither evaluation nor a growing cache.
        with self.meter.paused(), torch.compiler.set_stance("force_eager"):
            metrics = self._validate(metric_key_prefix)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validate(self, prefix: str) -> dict[str, float]:
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # loss, tokens
        for batch in map(_raised, self.get_eval_dataloader()):
            batch = self._prepare_inputs(batch)
            targets = batch.pop("labels")
            with self.compute_loss_context_manager():
                loss = supervised_loss(self.model_wrapped(**batch), targets, num_items_in_batch=1)
            sums += torch.stack([loss.double(), (targets != IGNORED).sum().double()])
            self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        loss, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
        scores = {"loss": loss / tokens, "tokens": int(tokens)} | self._plan_scores()
        self.model.train()
        return {f"{prefix}_{name}": score for name, score in scores.items()}

    def _plan_scores(self) -> dict[str, float]:
        """How near the plans that the model writes for a sample of validation rows are to the rows' own."""
        rows, world = self._rows_to_answer(), self.args.world_size
        if not rows:
            return {}
        # Row i goes to device i % world, where it is the (i // world)-th. Devices generate in step, so a device with a
        # row too few answers the first one once more.
        share = rows[self.args.process_index :: world]
        share += rows[:1] * (-(-len(rows) // world) - len(share))
        by_device = gather_object([self._answers(share)])
        pairs = [(by_device[i % world][i // world], row.steps) for i, row in enumerate(rows)]
        return {name: score for name, score in score_answers(pairs).items() if score is not None}

    def _answers(self, rows: list[PlanningRow]) -> list[str]:
        size, processor = self.args.per_device_eval_batch_size, self.processing_class
        in_step = self.args.world_size > 1
        texts: list[str] = []
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            prompts = [render(processor, row)[0] for row in batch]
            inputs = encode(processor, prompts, [self.data_collator.pictures(row) for row in batch])
            with self.compute_loss_context_manager():
                limit = self.recipe.val_max_new_tokens
                answers = answer_batch(self.model, processor.tokenizer, inputs, limit, in_step=in_step)
            texts += [answer.text for answer in answers]
            self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        return texts

    def _rows_to_answer(self) -> list[PlanningRow]:
        rows = self.eval_dataset.rows
        count = min(self.recipe.val_plans, len(rows))
        return random.Random(0).sample(rows, count)  # the same rows for every seed, so that runs can be compared

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self.meter.paused():
            self._save_whole(model, trial)

    def _save_whole(self, model: Any, trial: Any) -> None:
        folder = self.recipe.output_dir / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            if self.disk:
                self.disk.check_one(folder)
            begin_saving(folder)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every device's files are there before the manifest lists them
        if self.args.should_save:
            write_manifest(folder, self._manifest_now())
            self._drop_old_checkpoints()

    def _manifest_now(self) -> Manifest:
        last = next((entry for entry in reversed(self.state.log_history) if "eval_loss" in entry), {})
        scores = {name.removeprefix("eval_"): value for name, value in last.items() if name.startswith("eval_")}
        return replace(
            self.manifest,
            steps=self.state.global_step,
            tokens_seen=int(self.state.num_input_tokens_seen),
            train_seconds=round(self.meter.seconds, 1),
            peak_memory_bytes=max(self.manifest.peak_memory_bytes, peak_memory_bytes()),
            validation=scores | {"step": last["step"]} if scores else {},
        )

    def _drop_old_checkpoints(self) -> None:
        """Keep as many complete checkpoints and optimiser states as the recipe says, the best one and those of every
        so many steps always, and no torn one: what it was to hold is in the one just saved."""
        run = self.recipe.output_dir
        checkpoints = find_checkpoints(run)
        torn = [folder for folder in checkpoints if (folder / SAVING).is_file()]
        complete = [folder for folder in checkpoints if (folder / MANIFEST).is_file()]
        limit, every = self.recipe.save_total_limit, self.recipe.keep_weights_every
        spared = {best_checkpoint(run, self.recipe.best_metric)}
        spared |= {folder for folder in complete if every and (step_of(folder) or 0) % every == 0}
        doomed = [folder for folder in (complete[:-limit] if limit else []) if folder not in spared]
        for folder in torn + doomed:
            remove(folder)
        for folder in complete[: -self.recipe.keep_optimizer_of_last]:
            if folder not in doomed:
                drop_run_state(folder)

    def create_optimizer(self, *arguments: Any) -> torch.optim.Optimizer:
        """AdamW with a learning rate a part, LoRA+'s, or torchao's, where the recipe asks for them; else the
        Trainer's own."""
        if self.optimizer is None:
            self.optimizer = self._optimizer_of_recipe()
        return super().create_optimizer(*arguments)

    def _optimizer_of_recipe(self) -> torch.optim.Optimizer | None:
        recipe = self.recipe
        low_memory = recipe.pure_bf16 or recipe.optim != "adamw"
        make = low_memory_adamw(recipe) if low_memory else torch.optim.AdamW
        knobs: dict[str, Any] = {"betas": (0.9, recipe.adam_beta2), "weight_decay": recipe.weight_decay}
        if not low_memory:
            knobs["fused"] = torch.cuda.is_available()
        if isinstance(recipe, LoraRecipe) and recipe.loraplus_lr_ratio is not None:
            from peft.optimizers import create_loraplus_optimizer

            ratio = recipe.loraplus_lr_ratio
            return create_loraplus_optimizer(
                self.model,
                make,  # type: ignore[arg-type]  # a function will do for the class
                lr=recipe.learning_rate,
                loraplus_lr_ratio=ratio,
                **knobs,
            )
        if not low_memory and recipe.vision_lr is None and recipe.merger_lr is None:
            return None
        decay = set(self.get_decay_parameter_names(self.model))
        return make(parameter_groups(self.model, recipe, decay), **knobs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The optimiser's state by parameter names, whole, whatever the devices it was spread over."""
        if self.is_deepspeed_enabled:  # its engine keeps the state in a form of its own
            super()._save_optimizer_and_scheduler(output_dir)
            return
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(self.model_wrapped, self._torch_optimizer(), options=options)
        if self.args.should_save:
            torch.save(state, os.path.join(output_dir, _OPTIMIZER))
            torch.save(self.lr_scheduler.state_dict(), os.path.join(output_dir, _SCHEDULER))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        with _named_damage(checkpoint):
            if self.is_deepspeed_enabled:
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                self._restore_optimizer_and_scheduler(checkpoint)

    def _restore_optimizer_and_scheduler(self, checkpoint: str) -> None:
        """Restore state, but not the knobs that torch saves with it: the recipe of this run decides those."""
        optimizer = self._torch_optimizer()
        knobs = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
        base_rates = list(self.lr_scheduler.base_lrs)
        state = torch.load(os.path.join(checkpoint, _OPTIMIZER), map_location="cpu", weights_only=True, mmap=True)
        set_optimizer_state_dict(
            self.model_wrapped, optimizer, optim_state_dict=state, options=StateDictOptions(full_state_dict=True)
        )
        self.lr_scheduler.load_state_dict(torch.load(os.path.join(checkpoint, _SCHEDULER), weights_only=True))
        for group, recipe_knobs in zip(optimizer.param_groups, knobs, strict=True):
            group.update(recipe_knobs)
        self.lr_scheduler.base_lrs = base_rates

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _named_damage(checkpoint):
            super()._load_rng_state(checkpoint)

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        """The torch optimiser inside Accelerate's wrapper."""
        wrapper: Any = self.optimizer
        return getattr(wrapper, "optimizer", wrapper)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        # Sharded: `restore` has put the weights into the whole model before it was cut up.

    def restore(self, checkpoint: Path) -> None:
        """Put a checkpoint's weights into the model before it is sharded; a model that is not gets them by `train`."""
        if self.is_fsdp_enabled:
            (restore_adapter if isinstance(self.recipe, LoraRecipe) else restore_weights)(self.model, checkpoint)


def low_memory_adamw(recipe: TrainingRecipe) -> Callable[..., torch.optim.Optimizer]:
    """torchao's AdamW with 8-bit states, or with states in the weights' type; bfloat16 weights are rounded
    stochastically.

    Rounded to the nearest, most bfloat16 weights would not change at small learning rates: an update below 1/512 of a
    weight, half of bfloat16's last bit, is lost (stochastic rounding: arXiv 2010.06192).
    """
    from torchao.optim import AdamW8bit, _AdamW

    optimizer = AdamW8bit if recipe.optim == "adamw_8bit" else _AdamW
    return functools.partial(optimizer, bf16_stochastic_round=recipe.pure_bf16)


@contextlib.contextmanager
def _named_damage(checkpoint: str | None) -> Iterator[None]:
    """Make a UserError of whatever a damaged file of a run's state raises in its reader."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = first_line(error)
        raise UserError(
            f"cannot train on from {checkpoint}: the state of its optimizer, scheduler or random numbers is damaged "
            f"({reason}). Move it away, and the same command goes on from the checkpoint before it"
        ) from error


class _EpochOfBatches(TrainerCallback):
    """Tells the batches which epoch it is, also after a resume, where the Trainer wraps their sampler away."""

    def __init__(self, trainer: PlanningTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        batches = self.trainer.train_batches
        steps = -(-len(batches) // args.gradient_accumulation_steps)
        batches.epoch = state.global_step // steps
