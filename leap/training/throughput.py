"""How fast a training step is with plain, grouped and packed batches of the same rows, measured side by side.

The step is that of leap.training.trainer: logits at supervised positions only, backward, clipping, AdamW. Batches are
collated beforehand; moving them to the device is part of the step. One model does all modes in turn, round by round, so
that the noise of a shared machine hits all of them alike; rounds that warm up and look at memory do not count.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from leap.models.launch_ahead import to_device
from leap.models.loading import is_out_of_memory
from leap.progress import say
from leap.rows.records import PlanningRow
from leap.training.accounting import BatchShape, Geometry, PartFlops, training_flops
from leap.training.batching import Batches, PackBatches, RowBatches
from leap.training.recipes import TrainingRecipe
from leap.training.supervision import PlanningCollator
from leap.training.trainer import for_loss, supervised_loss, supervised_tokens


@dataclass
class BatchingMode:
    """The batches of one pass over the rows, and what passes took."""

    name: str
    batches: list[dict[str, Any]]
    loading_s: float  # to decode and collate them all, in this process
    loss_sum: float | None = None  # over all supervised tokens, before any update
    seconds: list[float] = field(default_factory=list)  # one a round
    peak_memory_bytes: int | None = None  # see PeakMemory
    out_of_memory: bool = False

    @property
    def rows(self) -> int:
        return sum(len(batch["row_lengths"]) for batch in self.batches)

    @property
    def tokens(self) -> int:
        """Of the rows, visual ones included, padding excluded."""
        return sum(sum(batch["row_lengths"]) for batch in self.batches)

    @property
    def computed_tokens(self) -> int:
        return sum(batch["input_ids"].numel() for batch in self.batches)

    @property
    def supervised_tokens(self) -> int:
        return sum(map(supervised_tokens, self.batches))

    @property
    def largest_batch_tokens(self) -> int:
        return max(batch["input_ids"].numel() for batch in self.batches)

    def result(self, plain: BatchingMode, flops: float, peak_flops: float | None) -> dict[str, Any]:
        """Rates of the median round as JSON holds them, None where out of memory; `flops` of a pass, `peak_flops` a
        second of the device, if known. `times_plain` is the median of the ratios in each round to the mode `plain`."""
        median = statistics.median(self.seconds) if self.seconds and not self.out_of_memory else None
        return {
            "mode": self.name,
            "out_of_memory": self.out_of_memory,
            "rows": self.rows,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised_tokens,
            "padding_share": 1 - self.tokens / self.computed_tokens,
            "batches": len(self.batches),
            "largest_batch_tokens": self.largest_batch_tokens,
            "loss_sum": self.loss_sum,
            "times_plain": self._times(plain),
            "samples_per_second": median and self.rows / median,
            "tokens_per_second": median and self.tokens / median,
            "supervised_tokens_per_second": median and self.supervised_tokens / median,
            "mfu": median and peak_flops and flops / median / peak_flops,
            "peak_memory_bytes": self.peak_memory_bytes,
            "loading_seconds": self.loading_s,
            "seconds": self.seconds,
        }

    def _times(self, plain: BatchingMode) -> float | None:
        if self.out_of_memory or plain.out_of_memory or not self.seconds:
            return None
        return statistics.median(slow / fast for slow, fast in zip(plain.seconds, self.seconds, strict=True))


def plan_modes(
    lengths: Sequence[int], budget: int, batch_size: int | None, rows_per_step: int, seed: int
) -> tuple[dict[str, Batches], int]:
    """The rows of every batch by mode, and the batches of an optimiser step.

    Packs hold up to `budget` tokens. Padded batches have `batch_size` rows, by default as many as a pack holds on
    average: so many tokens of rows a forward pass in all modes, to which padding comes on top. A row longer than the
    budget is a ValueError.
    """
    packs = PackBatches(lengths, budget, seed)
    size = batch_size or max(1, round(len(lengths) / len(packs)))
    per_step = max(1, round(rows_per_step / size))
    plans: dict[str, RowBatches | PackBatches] = {
        "plain": RowBatches(lengths, size, 1, seed),  # sorted within a batch only, which changes nothing
        "grouped": RowBatches(lengths, size, per_step, seed),
        "packed": packs,
    }
    return {name: plan.batches(epoch=0) for name, plan in plans.items()}, per_step


def collate(name: str, plan: Batches, rows: Sequence[PlanningRow], collator: PlanningCollator) -> BatchingMode:
    started = time.perf_counter()
    batches = [collator([rows[i] for i in batch]) for batch in plan]
    seconds = time.perf_counter() - started
    if torch.cuda.is_available():  # as the data loader of a run does
        batches = [{k: v.pin_memory() if torch.is_tensor(v) else v for k, v in batch.items()} for batch in batches]
    return BatchingMode(name, batches, seconds)


def flops_of_pass(modes: Sequence[BatchingMode], geometry: Geometry, recipe: TrainingRecipe) -> PartFlops:
    """Model FLOPs of training on all rows once: the same for all modes, since padding is no work."""
    batches = modes[0].batches
    batch = BatchShape(
        text_lengths=[length for batch in batches for length in batch["row_lengths"]],
        image_patches=[int(n) for batch in batches for n in batch.get("image_grid_thw", torch.empty(0, 3)).prod(dim=1)],
        head_positions=modes[0].supervised_tokens,
    )
    return training_flops(geometry, batch, recipe)


class Bench:
    """A model in training, and the modes that are measured on it."""

    def __init__(
        self, model: Any, modes: Sequence[BatchingMode], batches_per_step: int, recipe: TrainingRecipe
    ) -> None:
        """The model lies on its device; `recipe` gives precision, optimiser and clipping."""
        self.model, self.modes, self.batches_per_step, self.recipe = model, modes, batches_per_step, recipe
        self.device = next(model.parameters()).device
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._trained,
            lr=recipe.learning_rate,
            betas=(0.9, recipe.adam_beta2),
            weight_decay=recipe.weight_decay,
            fused=True,  # the Trainer's default
        )

    def run(self, rounds: int) -> None:
        """Note the loss of every mode, warm up, then measure `rounds` rounds. A mode that runs out of memory is left
        out from there on."""
        self.model.eval()  # without dropout, the loss must be the same
        for mode in self.modes:
            self._guarded(mode, self._loss)
        self.model.train()
        # Memory is looked at in a round of its own: on a CPU that costs time.
        for number, work in enumerate([self._pass, self._weigh, *[self._time] * rounds]):
            started = time.perf_counter()
            turn = number % len(self.modes)  # no mode always follows the same other one
            for mode in (*self.modes[turn:], *self.modes[:turn]):
                self._guarded(mode, work)
            name = ("warm-up", "memory")[number] if number < 2 else f"round {number - 1}"
            say(f"  {name}: {time.perf_counter() - started:.1f} s")

    def _guarded(self, mode: BatchingMode, work: Callable[[BatchingMode], None]) -> None:
        if mode.out_of_memory:
            return
        try:
            work(mode)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            mode.out_of_memory = True
        if mode.out_of_memory:  # outside the except block, so that the tensors of the failed attempt can go
            say(f"  {mode.name}: out of memory")
            self._optimizer.zero_grad(set_to_none=True)
            gc.collect()
            torch.cuda.empty_cache()

    @torch.no_grad()
    def _loss(self, mode: BatchingMode) -> None:
        total = 0.0
        for batch in mode.batches:
            total += float(self._forward(batch, divisor=1))
        mode.loss_sum = total

    def _weigh(self, mode: BatchingMode) -> None:
        with PeakMemory(self.device) as peak:
            self._pass(mode)
        mode.peak_memory_bytes = peak.bytes

    def _time(self, mode: BatchingMode) -> None:
        started = time.perf_counter()
        self._pass(mode)
        mode.seconds.append(time.perf_counter() - started)

    def _pass(self, mode: BatchingMode) -> None:
        """One pass over the rows in optimiser steps."""
        for start in range(0, len(mode.batches), self.batches_per_step):
            step = mode.batches[start : start + self.batches_per_step]
            supervised = sum(map(supervised_tokens, step))
            for batch in step:
                self._forward(batch, supervised).backward()
            torch.nn.utils.clip_grad_norm_(self._trained, self.recipe.max_grad_norm)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _forward(self, batch: dict[str, Any], divisor: int) -> torch.Tensor:
        inputs = to_device(for_loss(batch), self.device)
        targets, weights = inputs.pop("labels"), inputs.pop("weights", None)
        half = self.recipe.bf16 and self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if half else contextlib.nullcontext():
            return supervised_loss(self.model(**inputs), targets, divisor, weights)


class PeakMemory:
    """The most memory in use while this context is open, in `bytes`.

    CUDA: all that is allocated, weights and optimiser included. CPU: how far the resident memory of this process rose
    above what it was at the start, so weights and optimiser excluded; None where the kernel does not tell (not Linux).
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        self._resident: int | None = None
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what earlier modes left behind in the allocator is no use of this one
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc_pid_clear_refs(5))
            self._resident = _status_bytes("VmRSS")
        return self

    def __exit__(self, *exception: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        elif self._resident is not None:
            self.bytes = _status_bytes("VmHWM") - self._resident


def _status_bytes(name: str) -> int:
    lines: Iterator[str] = iter(Path("/proc/self/status").read_text().splitlines())
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
