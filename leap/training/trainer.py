"""Supervised training as LEAP does it: loss at supervised positions, exact validation."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback

from configs.errors import UserError
from leap.models.launch_ahead import to_device
from leap.rows.records import PlanningRow
from leap.training.batching import RankBatches
from leap.training.checkpointed import CheckpointedTrainer
from leap.training.streaming import FollowStream, StreamedBatches
from leap.training.supervision import IGNORED, PlanningCollator
from leap.training.validation import plan_scores


class PlanningDataset(Dataset):
    """Planning rows as a dataset; the collator does the work, so that a batch is processed at once.

    The row ~index is the row `index` without supervision: a filler.
    """

    def __init__(self, rows: Sequence[PlanningRow]) -> None:
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


def supervised_loss(
    outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy summed over the supervised tokens, divided by `num_items_in_batch` (default: their number).

    outputs.logits  # (batch, positions, vocab); targets  # (batch, positions), as from `supervised_positions`; weights
    # like targets, what each token counts in the sum, and in its place in the default divisor.
    """
    supervised = targets != IGNORED
    if len(targets) == 1:  # every position is then supervised, and which are need not be looked up on the host
        logits, tokens = outputs.logits[0], targets[0]
        counts = None if weights is None else weights[0]
    else:
        logits, tokens = outputs.logits[supervised], targets[supervised]
        counts = None if weights is None else weights[supervised]
    if counts is None:
        loss = functional.cross_entropy(logits.float(), tokens, ignore_index=IGNORED, reduction="sum")
        divisor = supervised.sum()
    else:
        losses = functional.cross_entropy(logits.float(), tokens, ignore_index=IGNORED, reduction="none")
        loss, divisor = (losses * counts).sum(), counts.sum()
    return loss / (divisor if num_items_in_batch is None else num_items_in_batch)


def supervised_tokens(batch: dict[str, Any]) -> int:
    """How many tokens of a collated batch the loss sees."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def loss_weight(batch: dict[str, Any]) -> float:
    """The sum of what the supervised tokens of a collated batch count: their number where no row says otherwise."""
    if "weights" not in batch:
        return supervised_tokens(batch)
    return float(batch["weights"][:, 1:][batch["labels"][:, 1:] != IGNORED].double().sum())


def for_loss(inputs: dict[str, Any]) -> dict[str, Any]:
    """A collated batch for a forward pass whose logits are those of the supervised positions, without key/value cache;
    `labels` are the targets there, `weights` what they count. On the CPU, where looking positions up makes nothing
    wait."""
    positions, targets = supervised_positions(inputs["labels"])
    model_inputs = {name: value for name, value in inputs.items() if name != "row_lengths"}
    if "weights" in inputs:
        model_inputs["weights"] = inputs["weights"][:, positions + 1]
    return model_inputs | {"labels": targets, "logits_to_keep": positions, "use_cache": False}


class PlanningTrainer(CheckpointedTrainer):
    """Supervised training on planned batches of planning rows."""

    data_collator: PlanningCollator
    eval_dataset: PlanningDataset  # where there is validation

    def __init__(
        self, *, train_batches: RankBatches | StreamedBatches, eval_batches: RankBatches | None, **arguments: Any
    ) -> None:
        # Qwen's vision-language classes do not take the Trainer's token count: without a loss function of our own a
        # step would average the means of its micro-batches, and a token in one of short answers would weigh more.
        super().__init__(compute_loss_func=supervised_loss, **arguments)
        self.train_batches, self.eval_batches = train_batches, eval_batches
        self.add_callback(_EpochOfBatches(self))
        if isinstance(train_batches, StreamedBatches):
            self.add_callback(FollowStream(train_batches))

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

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if isinstance(self.train_batches, StreamedBatches):
            self.train_batches.save(Path(output_dir), self.state.global_step)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of a step on this device, and what the supervised tokens of the step count on all of
        them."""
        with self.meter.waiting():
            batches = list(map(_raised, itertools.islice(epoch_iterator, num_batches)))
        weight = sum(map(loss_weight, batches))
        # One collective call a step for all that devices must agree on; float64 counts tokens exactly up to 2**53.
        local = torch.tensor([weight, *self.meter.work_of(batches), self.stop_requested], dtype=torch.float64)
        if self.args.world_size > 1:
            local = self.accelerator.reduce(local.to(device), reduction="sum")
        weight, *work, stop = local.tolist()
        self.meter.count(work)
        self.state.num_input_tokens_seen = int(self.state.num_input_tokens_seen) + int(work[0])
        self.stop_agreed = bool(stop)
        return batches, torch.full((), weight or 1.0, device=device)  # the loss of a step of weights 0 is 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        weights = inputs.pop("weights", None)
        self.compute_loss_func = functools.partial(supervised_loss, weights=weights)
        return super().compute_loss(model, inputs, *arguments, **options)

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
        """Mean loss over the supervised tokens of all validation rows by their weights, and scores of the plans
        generated for a sample of them; no logits are kept."""
        # Layers compiled for training run as they are: their graphs know neither evaluation nor a growing cache.
        with self.meter.paused(), torch.compiler.set_stance("force_eager"):
            metrics = self._validate(metric_key_prefix)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validate(self, prefix: str) -> dict[str, float]:
        self.model.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.args.device)  # loss, what tokens count, tokens
        for batch in map(_raised, self.get_eval_dataloader()):
            batch = self._prepare_inputs(batch)
            targets, weights = batch.pop("labels"), batch.pop("weights", None)
            with self.compute_loss_context_manager():
                loss = supervised_loss(self.model_wrapped(**batch), targets, num_items_in_batch=1, weights=weights)
            supervised = targets != IGNORED
            tokens = supervised.sum().double()
            weight = tokens if weights is None else weights[supervised].double().sum()
            sums += torch.stack([loss.double(), weight, tokens])
            self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        loss, weight, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
        scores = {"loss": loss / weight, "tokens": int(tokens)}
        scores |= plan_scores(self, self.data_collator, self.eval_dataset.rows)
        self.model.train()
        return {f"{prefix}_{name}": score for name, score in scores.items()}


class _EpochOfBatches(TrainerCallback):
    """Tells the batches which epoch it is, also after a resume, where the Trainer wraps their sampler away."""

    def __init__(self, trainer: PlanningTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        batches = self.trainer.train_batches
        steps = -(-len(batches) // args.gradient_accumulation_steps)
        batches.epoch = state.global_step // steps
