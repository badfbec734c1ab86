"""What judging costs: tokens and money spent, and a budget that is not passed.

Spent is what the endpoint reported. A request that was sent and whose usage never came (it timed out, its body was cut,
this process was killed) may have been charged: it is counted apart, at the most it can have cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from configs.errors import UserError
from leap.judge.prompts import Request

# Where a model has no entry in the price table: those of Qwen3-VL for 640 x 480 pixels, and its own limit.
PICTURE_TOKENS, PICTURE_TOKENS_MOST = 300, 16_384
# For the estimate of --dry-run only: English has about four characters a token, a short reasoning with scores takes
# about 200 tokens.
_BYTES_A_TOKEN = 4
_USUAL_REPLY_TOKENS = 200
# Chat templates add a few tokens a turn; a JSON schema is counted as input by some endpoints.
OVERHEAD_TOKENS = 600


@dataclass(frozen=True)
class Price:
    """Of a million tokens, in the currency of the table; `picture_tokens` are those of a picture of 640 x 480 pixels,
    `picture_tokens_most` the most for any."""

    input: float
    output: float
    picture_tokens: int = PICTURE_TOKENS
    picture_tokens_most: int = PICTURE_TOKENS_MOST


@dataclass(frozen=True)
class TokenCounts:
    """Input and output tokens of one request or many."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(self.prompt + other.prompt, self.completion + other.completion)

    def cost(self, price: Price | None) -> float | None:
        """In the currency of the table; None without a price."""
        return None if price is None else (self.prompt * price.input + self.completion * price.output) / 1e6


def read_prices(path: Path) -> dict[str, Price]:
    """The price table. UserError for one that is no such table."""
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the price table {path}: {error}") from error
    if not isinstance(table, dict):
        raise UserError(f"{path} must map models to prices")
    prices = {}
    for model, entry in table.items():
        required = {"input", "output"}
        allowed = required | {"picture_tokens", "picture_tokens_most"}
        numbers = isinstance(entry, dict) and all(
            isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 for value in entry.values()
        )
        if not numbers or not required <= entry.keys() <= allowed:
            raise UserError(
                f"{path}: {model} needs input and output, in money per million tokens, and may have "
                f"picture_tokens; found {entry!r:.80}"
            )
        prices[str(model)] = Price(**entry)
    return prices


def most_tokens(request: Request, price: Price | None, reply_tokens: int) -> TokenCounts:
    """The most that one answer to this request can take: a token of text holds one byte at least."""
    pictures = len(request.pictures) * (price.picture_tokens_most if price else PICTURE_TOKENS_MOST)
    return TokenCounts(request.text_bytes + OVERHEAD_TOKENS + pictures, reply_tokens)


def usual_tokens(request: Request, price: Price | None, reply_tokens: int) -> TokenCounts:
    """About what one answer to this request takes."""
    pictures = len(request.pictures) * (price.picture_tokens if price else PICTURE_TOKENS)
    prompt = request.text_bytes // _BYTES_A_TOKEN + pictures
    return TokenCounts(prompt, min(reply_tokens, _USUAL_REPLY_TOKENS))


def total(tokens: Iterable[TokenCounts]) -> TokenCounts:
    return sum(tokens, TokenCounts())


class BudgetReached(Exception):
    """The next request might pass the budget."""


class Budget:
    """Lets a request go only if, with all that is in flight at its most, the sum stays within `most` (None: always)."""

    def __init__(self, most: float | None, spent: float) -> None:
        self._most, self._spent, self._held = most, spent, 0.0
        self._changed = asyncio.Condition()

    async def hold(self, cost: float) -> None:
        """Set `cost` aside; waits for what is in flight where that may make room. BudgetReached if nothing can."""
        if self._most is None:
            return
        async with self._changed:
            while self._spent + self._held + cost > self._most:
                if self._held == 0:
                    raise BudgetReached
                await self._changed.wait()
            self._held += cost

    async def settle(self, held: float, cost: float) -> None:
        """Turn what was set aside into what was, or may have been, spent."""
        if self._most is None:
            return
        async with self._changed:
            self._held -= held
            if self._held < 1e-12:
                self._held = 0.0  # not the rounding of sums
            self._spent += cost
            self._changed.notify_all()
