"""What a model gives for one prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """The text a planner gave. `stop` is "end" (it ended its turn), "length" (the token limit cut it) or "plan" (it was
    stopped behind a finished plan, after which nothing it says can change a score). `new_tokens` is None if unknown."""

    text: str
    new_tokens: int | None
    stop: str
