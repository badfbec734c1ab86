"""Which of several processes this is, under torchrun or alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

# A process that is done waits for the slowest; torchrun ends all when one fails, so that nothing waits for the dead.
_LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """Process `rank` of `world`, counted from 0."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        """What torchrun says in RANK and WORLD_SIZE; alone where it says nothing."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of the items: every `world`-th."""
        return list(items[self.rank :: self.world])

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.world == 1:
            return
        import torch.distributed as distributed

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=_LONGEST_WAIT)
        distributed.barrier()


ALONE = Ranks()
