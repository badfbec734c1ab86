"""Which rows meet in a forward pass, in which order, and on which device."""

from __future__ import annotations

import array
import bisect
import math
import random
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import torch
from torch.utils.data import Sampler

from leap.rows.sources import Mixture
from leap.training.lengths import RowLength, RowLengths
from leap.training.recipes import TrainingRecipe

# Rows, in shuffled order, out of which packs are filled: enough to fill them to 98 % and more. Out of all rows at once,
# lengths alone would decide which rows meet.
_WINDOW = 1024


class Batches(Sequence[list[int]]):
    """Batches of rows, in two columns: the rows of all, and where each batch begins and ends among them."""

    def __init__(self, rows: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        self._rows, self._starts, self._ends = rows, starts, ends

    @classmethod
    def of_size(cls, rows: np.ndarray, size: int) -> Batches:
        """`size` rows a batch, the last what is left."""
        starts = np.arange(0, len(rows), size)
        return cls(rows, starts, np.minimum(starts + size, len(rows)))

    def renamed(self, rows: np.ndarray) -> Batches:
        """The same batches with the row `rows[i]` in place of i."""
        return Batches(rows[self._rows], self._starts, self._ends)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> Batches: ...

    def __getitem__(self, index: int | slice | np.ndarray) -> list[int] | Batches:
        starts, ends = self._starts[index], self._ends[index]
        return Batches(self._rows, starts, ends) if np.ndim(starts) else self._rows[starts:ends].tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Batches) and list(self) == list(other)


class Shares:
    """Which rows of several sources an epoch sees: as many of each as its weight says, those that others passed over
    first. Of a source of weight 2.5 each row comes twice, and half of them once more."""

    def __init__(self, counts: Sequence[int], weights: Sequence[float], seed: int) -> None:
        """`counts` are the rows of each source, which stand one behind the other."""
        self._counts, self._weights = counts, weights
        self._orders = [_permutation(count, seed + source, -1) for source, count in enumerate(counts)]

    def __len__(self) -> int:
        return sum(map(self._drawn, self._counts, self._weights))

    def rows(self, epoch: int) -> np.ndarray:
        """The rows of an epoch, source by source."""
        shares, first = [], 0
        for count, weight, order in zip(self._counts, self._weights, self._orders, strict=True):
            whole, rest = divmod(self._drawn(count, weight), count)
            # A window that goes round in one order: none twice in an epoch, all equally often over epochs.
            window = order[(epoch * rest + np.arange(rest)) % count]
            shares.append(first + np.concatenate([np.tile(np.arange(count), whole), window]))
            first += count
        return np.concatenate(shares)

    def _drawn(self, count: int, weight: float) -> int:
        return max(1, round(count * weight))


class RowBatches:
    """Batches of a fixed number of rows: a seeded permutation an epoch, in which the rows of one optimiser step are
    sorted by length, longest first (a step's memory peaks in its first forward pass).

    Micro-batches of a step then hold rows of similar length and pad less, while loss and gradient of the step (a mean
    over its supervised tokens) stay what they are in any other order of the same rows.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        batches_per_step: int,
        seed: int,
        shares: Shares | None = None,
    ) -> None:
        """`lengths` in tokens, one a row; `batches_per_step` over all accumulation steps and devices; `shares` where
        not every row comes once an epoch."""
        self.lengths, self.batch_size, self.seed, self._shares = np.asarray(lengths), batch_size, seed, shares
        self.rows_per_step = batch_size * batches_per_step
        self.row_count = len(self.lengths if shares is None else shares)  # an epoch

    def __len__(self) -> int:
        return math.ceil(self.row_count / self.batch_size)

    def batches(self, epoch: int) -> Batches:
        order = _permutation(self.row_count, self.seed, epoch)
        if self._shares:
            order = self._shares.rows(epoch)[order]
        step = np.arange(len(order)) // self.rows_per_step
        order = order[np.lexsort((-self.lengths[order], step))]
        # A step's rows are a whole number of batches, so that only the last batch may be a small one.
        return Batches.of_size(order, self.batch_size)


class PackBatches:
    """Batches of one pack each: rows that fill a budget of tokens. Packs are made once, their order is an epoch's; of
    sources in `shares` every epoch sees the rows of the first."""

    def __init__(
        self, lengths: Sequence[int] | np.ndarray, budget: int, seed: int, shares: Shares | None = None
    ) -> None:
        rows = np.arange(len(lengths)) if shares is None else shares.rows(0)
        drawn = np.asarray(lengths)[rows]
        self.packs, self.seed = fill_packs(drawn, budget, seed).renamed(rows), seed
        self.row_count, self.token_count = len(rows), int(drawn.sum())  # an epoch

    def __len__(self) -> int:
        return len(self.packs)

    def batches(self, epoch: int) -> Batches:
        return self.packs[_permutation(len(self.packs), self.seed, epoch)]


class InOrder:
    """The rows as they stand, for validation: longest first, so that a batch holds rows of similar length."""

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int) -> None:
        self._batches = Batches.of_size(_longest_first(np.asarray(lengths)), batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def batches(self, epoch: int) -> Batches:
        return self._batches


class RankBatches(Sampler[list[int]]):
    """One device's share of the batches: every `world`-th one, so that devices work on batches of similar length.

    All devices get the same number. Where the batches do not divide, and where a batch shows no picture although others
    do (a device that skips the vision tower would leave the others waiting for its gradients), a filler joins in: a row
    named by its complement ~row, which is computed and counts for nothing.
    """

    def __init__(
        self,
        plan: RowBatches | PackBatches | InOrder,
        visual: Sequence[int] | np.ndarray,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """`visual` holds the visual tokens of each row."""
        self.plan, self.rank, self.world = plan, rank, world
        self.epoch = 0
        visual = np.asarray(visual)
        seeing = np.flatnonzero(visual) if visual.any() else np.arange(len(visual))
        self._filler = ~int(seeing[visual[seeing].argmin()])
        self._blind = visual == 0 if world > 1 and visual.any() else None  # (rows,) whether each shows no picture

    def __len__(self) -> int:
        return math.ceil(len(self.plan) / self.world)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.plan.batches(self.epoch)
        for start in range(0, len(batches), self.world):
            index = start + self.rank
            if index >= len(batches):
                yield [self._filler]
                continue
            batch = batches[index]
            blind = self._blind is not None and self._blind[batch].all()
            yield [*batch, self._filler] if blind else batch


def plan_batches(
    recipe: TrainingRecipe, lengths: Sequence[RowLength], devices: int, counts: Sequence[int] = ()
) -> RowBatches | PackBatches:
    """The batches of an epoch as a recipe wants them, over all devices; `counts` are the rows of each of its sources
    where it mixes several."""
    totals, shares = RowLengths.from_rows(lengths).total, None
    if isinstance(recipe.train_file, Mixture):
        shares = Shares(counts, [source.weight for source in recipe.train_file.sources], recipe.seed)
    if recipe.packing:
        return PackBatches(totals, recipe.packing_tokens, recipe.seed, shares)
    batches_per_step = recipe.gradient_accumulation_steps * devices
    return RowBatches(totals, recipe.per_device_train_batch_size, batches_per_step, recipe.seed, shares)


def total_steps(recipe: TrainingRecipe, batches: int) -> int:
    """Optimiser steps of a run; `batches` a device and epoch."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    return max(1, math.ceil(recipe.num_train_epochs * math.ceil(batches / recipe.gradient_accumulation_steps)))


def describe_plan(recipe: TrainingRecipe, plan: RowBatches | PackBatches, devices: int) -> str:
    """A line on steps and epochs, and on how full packs are."""
    a_device = math.ceil(len(plan) / devices)
    an_epoch = math.ceil(a_device / recipe.gradient_accumulation_steps)
    rows = plan.row_count / len(plan) * recipe.gradient_accumulation_steps * devices
    line = f"{an_epoch:,} steps an epoch of {rows:.4g} rows on {devices} device{'s' if devices > 1 else ''}"
    line += f", {total_steps(recipe, a_device):,} steps in all"
    if isinstance(plan, PackBatches):
        full = plan.token_count / (len(plan) * recipe.packing_tokens)
        line += f"; {len(plan):,} packs of up to {recipe.packing_tokens:,} tokens, {full:.1%} full"
    return line


def fill_packs(lengths: Sequence[int] | np.ndarray, budget: int, seed: int) -> Batches:
    """Put every row into a pack of at most `budget` tokens: best fit, longest first, within windows of shuffled rows.

    Best-fit decreasing, as in arXiv 2404.10830: each row, longest first, goes into the pack with the least room that
    still takes it, or opens a new one. The same for the same lengths, budget and seed. A row longer than the budget is
    a ValueError.
    """
    lengths = np.asarray(lengths)
    longest = lengths.max(initial=0)
    if longest > budget:
        raise ValueError(f"a row of {longest} tokens does not fit a pack of {budget}")
    order = array.array("q", range(len(lengths)))
    random.Random(seed).shuffle(order)
    shuffled = np.frombuffer(order, np.int64)
    # In these, packs stand one behind the other; only those of a window are Python's lists.
    rows, sizes = array.array("q"), array.array("q")
    for start in range(0, len(shuffled), _WINDOW):
        window = shuffled[start : start + _WINDOW]
        for pack in _best_fit(window[_longest_first(lengths[window])], lengths, budget):
            rows.extend(pack)
            sizes.append(len(pack))
    ends = np.cumsum(np.array(sizes, np.int64))
    return Batches(np.array(rows, np.int64), ends - np.array(sizes, np.int64), ends)


def _best_fit(rows: np.ndarray, lengths: np.ndarray, budget: int) -> list[list[int]]:
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), sorted, so that the tightest fit is a binary search
    for row, length in zip(rows.tolist(), lengths[rows].tolist(), strict=True):
        tightest = bisect.bisect_left(room, (length, -1))
        if tightest == len(room):  # no open pack takes it
            packs.append([])
            left, pack = budget, len(packs) - 1
        else:
            left, pack = room.pop(tightest)
        packs[pack].append(row)
        bisect.insort(room, (left - length, pack))
    return packs


def _longest_first(lengths: np.ndarray) -> np.ndarray:
    """The order in which rows get shorter; those of the same length stay as they stand."""
    return np.argsort(-lengths, kind="stable")


def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)  # no two seeds share an order
    return torch.randperm(count, generator=generator).numpy()
