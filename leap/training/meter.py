"""What a training run gets done: tokens, padding, model FLOPs and waiting, as rates since the last look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class Meter:
    """Measures batches of this device, is told the sums over all devices, and gives rates."""

    def __init__(self, flops_of: Callable[[Mapping[str, Any]], float] | None = None, peak_flops: float | None = None):
        """`flops_of` gives the model FLOPs of training on a batch; `peak_flops` a second of all devices together."""
        self._flops_of, self._peak = flops_of, peak_flops
        self._work = [0.0, 0.0, 0.0]  # as `work_of`, of all devices since the last `rates`
        self._waited = 0.0  # seconds of this device since the last `rates`
        self._clock = time.monotonic()
        self._earlier_seconds = 0.0

    def work_of(self, batches: Sequence[Mapping[str, Any]]) -> list[float]:
        """What collated batches hold: tokens of rows that are no fillers (their `row_lengths`), all tokens, FLOPs."""
        return [
            sum(sum(batch["row_lengths"]) for batch in batches),
            sum(batch["input_ids"].numel() for batch in batches),
            sum(map(self._flops_of, batches)) if self._flops_of else 0.0,
        ]

    def count(self, work: list[float]) -> None:
        """Add the sums over all devices of each one's `work_of`."""
        self._work = [total + more for total, more in zip(self._work, work, strict=True)]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens inside is waiting for data."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def start(self, seconds: float) -> None:
        """Start the clock of a run that took `seconds` until it was interrupted."""
        self._earlier_seconds, self._work, self._waited = seconds, [0.0, 0.0, 0.0], 0.0
        self._clock = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time of the run so far, over all resumes, without what was paused."""
        return self._earlier_seconds + time.monotonic() - self._clock

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside (validation, saving) does not count as time."""
        started = time.monotonic()
        yield
        self._clock += time.monotonic() - started

    def rates(self) -> dict[str, float]:
        """Tokens of rows a second, padding's share of the computed tokens, the share of the time that this device
        waited for data, and MFU (where the peak is known), since the last call."""
        seconds = time.monotonic() - self._clock
        (tokens, computed, flops), waited = self._work, self._waited
        self.start(self._earlier_seconds + seconds)
        rates = {
            "tokens_per_second": tokens / seconds,
            "padding_share": 1 - tokens / computed if computed else 0.0,
            "data_wait_share": waited / seconds,
        }
        if self._peak:
            rates["mfu"] = flops / seconds / self._peak
        return rates
