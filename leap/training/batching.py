"""Which rows meet in a forward pass, in which order, and on which device."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from leap.training.lengths import RowLength
from leap.training.recipes import TrainingRecipe

# Rows, in shuffled order, out of which packs are filled: enough to fill them to 98 % and more. Out of all rows at once,
# lengths alone would decide which rows meet.
_WINDOW = 1024


class RowBatches:
    """Batches of a fixed number of rows: a seeded permutation an epoch, in which the rows of one optimiser step are
    sorted by length, longest first (a step's memory peaks in its first forward pass).

    Micro-batches of a step then hold rows of similar length and pad less, while loss and gradient of the step (a mean
    over its supervised tokens) stay what they are in any other order of the same rows.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, batches_per_step: int, seed: int) -> None:
        """`lengths` in tokens, one a row; `batches_per_step` over all accumulation steps and devices."""
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.rows_per_step = batch_size * batches_per_step

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def batches(self, epoch: int) -> list[list[int]]:
        order = _permutation(len(self.lengths), self.seed, epoch)
        steps = (order[start : start + self.rows_per_step] for start in range(0, len(order), self.rows_per_step))
        return [
            batch
            for step in steps
            for batch in _chunks(sorted(step, key=lambda row: -self.lengths[row]), self.batch_size)
        ]


class PackBatches:
    """Batches of one pack each: rows that fill a budget of tokens. Packs are made once, their order is an epoch's."""

    def __init__(self, lengths: Sequence[int], budget: int, seed: int) -> None:
        self.packs, self.seed = fill_packs(lengths, budget, seed), seed

    def __len__(self) -> int:
        return len(self.packs)

    def batches(self, epoch: int) -> list[list[int]]:
        return [self.packs[pack] for pack in _permutation(len(self.packs), self.seed, epoch)]


class InOrder:
    """The rows as they stand, for validation: longest first, so that a batch holds rows of similar length."""

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        self._batches = list(_chunks(order, batch_size))

    def __len__(self) -> int:
        return len(self._batches)

    def batches(self, epoch: int) -> list[list[int]]:
        return self._batches


class RankBatches(Sampler[list[int]]):
    """One device's share of the batches: every `world`-th one, so that devices work on batches of similar length.

    All devices get the same number. Where the batches do not divide, and where a batch shows no picture although others
    do (a device that skips the vision tower would leave the others waiting for its gradients), a filler joins in: a row
    named by its complement ~row, which is computed and counts for nothing.
    """

    def __init__(
        self, plan: RowBatches | PackBatches | InOrder, visual: Sequence[int], rank: int = 0, world: int = 1
    ) -> None:
        """`visual` holds the visual tokens of each row."""
        self.plan, self.rank, self.world = plan, rank, world
        self.epoch = 0
        seeing = [row for row, tokens in enumerate(visual) if tokens]
        self._filler = ~min(seeing or range(len(visual)), key=lambda row: visual[row])
        self._blind = {row for row, tokens in enumerate(visual) if not tokens} if world > 1 and seeing else set()

    def __len__(self) -> int:
        return math.ceil(len(self.plan) / self.world)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.plan.batches(self.epoch)
        for start in range(0, len(batches), self.world):
            index = start + self.rank
            batch = batches[index] if index < len(batches) else [self._filler]
            yield [*batch, self._filler] if self._blind.issuperset(batch) else batch


def plan_batches(recipe: TrainingRecipe, lengths: Sequence[RowLength], devices: int) -> RowBatches | PackBatches:
    """The batches of an epoch as a recipe wants them, over all devices."""
    totals = [length.total for length in lengths]
    if recipe.packing:
        return PackBatches(totals, recipe.packing_tokens, recipe.seed)
    batches_per_step = recipe.gradient_accumulation_steps * devices
    return RowBatches(totals, recipe.per_device_train_batch_size, batches_per_step, recipe.seed)


def total_steps(recipe: TrainingRecipe, batches: int) -> int:
    """Optimiser steps of a run; `batches` a device and epoch."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    return max(1, math.ceil(recipe.num_train_epochs * math.ceil(batches / recipe.gradient_accumulation_steps)))


def describe_plan(
    recipe: TrainingRecipe, plan: RowBatches | PackBatches, lengths: Sequence[RowLength], devices: int
) -> str:
    """A line on steps and epochs, and on how full packs are."""
    a_device = math.ceil(len(plan) / devices)
    an_epoch = math.ceil(a_device / recipe.gradient_accumulation_steps)
    rows = len(lengths) / len(plan) * recipe.gradient_accumulation_steps * devices
    line = f"{an_epoch:,} steps an epoch of {rows:.4g} rows on {devices} device{'s' if devices > 1 else ''}"
    line += f", {total_steps(recipe, a_device):,} steps in all"
    if isinstance(plan, PackBatches):
        full = sum(length.total for length in lengths) / (len(plan) * recipe.packing_tokens)
        line += f"; {len(plan):,} packs of up to {recipe.packing_tokens:,} tokens, {full:.1%} full"
    return line


def fill_packs(lengths: Sequence[int], budget: int, seed: int) -> list[list[int]]:
    """Put every row into a pack of at most `budget` tokens: best fit, longest first, within windows of shuffled rows.

    Best-fit decreasing, as in arXiv 2404.10830: each row, longest first, goes into the pack with the least room that
    still takes it, or opens a new one. The same for the same lengths, budget and seed. A row longer than the budget is
    a ValueError.
    """
    longest = max(lengths, default=0)
    if longest > budget:
        raise ValueError(f"a row of {longest} tokens does not fit a pack of {budget}")
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    packs = []
    for start in range(0, len(order), _WINDOW):
        packs += _best_fit(sorted(order[start : start + _WINDOW], key=lambda row: -lengths[row]), lengths, budget)
    return packs


def _best_fit(rows: list[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), sorted, so that the tightest fit is a binary search
    for row in rows:
        tightest = bisect.bisect_left(room, (lengths[row], -1))
        if tightest == len(room):  # no open pack takes it
            packs.append([])
            left, pack = budget, len(packs) - 1
        else:
            left, pack = room.pop(tightest)
        packs[pack].append(row)
        bisect.insort(room, (left - lengths[row], pack))
    return packs


def _permutation(count: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)  # no two seeds share an order
    return torch.randperm(count, generator=generator).tolist()


def _chunks(rows: list[int], size: int) -> Iterator[list[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
