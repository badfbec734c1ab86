"""Who answers a prompt. A planner is one module with one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Query:
    """One prompt: the items of a user turn (images as bytes), and which example it asks about."""

    dimension: str
    task: str
    number: int
    items: list[dict]  # {"type": "text", "text": str} or {"type": "image", "image": bytes}


@dataclass(frozen=True)
class Answer:
    """The text a planner gave. `stop` is "end" (it ended its turn) or "length" (the token limit cut it)."""

    text: str
    new_tokens: int
    stop: str


class MachineFailure(Exception):
    """The machine, not the model, failed (out of memory, a refused connection): no answer, and no wrong one either."""


class Planner(Protocol):
    """What the evaluation needs of a planner."""

    def identity(self) -> dict[str, Any]:
        """Everything that decides its answers besides the prompt: model hash, decoding, precision."""
        ...

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer a query, in order. MachineFailure if the machine gave out; the caller may try fewer at once."""
        ...
