"""Which rows meet in a batch, without changing which rows an optimiser step sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class StepSampler(Sampler[int]):
    """A seeded permutation an epoch, in which the rows of one optimiser step are sorted by length, longest first.

    Micro-batches of a step then hold rows of similar length and pad less, while loss and gradient of the step (a mean
    over its supervised tokens) stay what they are in any other order of the same rows.
    """

    def __init__(self, lengths: Sequence[int], rows_per_step: int, seed: int) -> None:
        """`lengths` in tokens, one a row; `rows_per_step` over all micro-batches and devices."""
        self.lengths, self.rows_per_step, self.seed = lengths, rows_per_step, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.rows_per_step):
            yield from sorted(order[start : start + self.rows_per_step], key=lambda row: -self.lengths[row])
