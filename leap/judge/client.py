"""A language model as judge: every request and raw reply in a journal, which is also the cache.

requests.jsonl holds, line by line as it happens,

    {"event": "sent", "id": 7, "request": "<hash>", "most": [2100, 1024]}
    {"event": "reply", "id": 7, "request": "<hash>", "outcome": "valid", "reason": "", "tokens": [812, 96], "body": ""}
    {"event": "failed", "id": 7, "request": "<hash>", "reason": "...", "status": 429, "may_cost": false, "body": "..."}

each with its time. `request` is the hash of the judge and of all it was shown, `most` the input and output tokens that
were set aside. A request without a second line was cut off by the end of the process. A valid reply is never asked for
again; an invalid one is, a bounded number of times a run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from leap.endpoint import Attempts, Completion, Endpoint, NoAnswer, read_completion
from leap.files import Journal, sha256_json
from leap.judge.judgements import RUBRIC
from leap.judge.ledger import Budget, BudgetReached, Price, Tokens, most_tokens, total
from leap.judge.prompts import Request
from leap.judge.rubric import InvalidReply, read_pair, read_rubric
from leap.progress import Progress
from leap.provenance import utc_now

REQUESTS_FILE = "requests.jsonl"
VALID = "valid"

_LONGEST_BODY = 100_000  # characters kept of a reply
# Parameters that some endpoints or models do not take, and the words by which their refusals name them. Without a
# response format the schema stands in the prompt only; every reply is checked all the same.
_DIALECT = {
    "response_format": ("response_format", "json_schema", "structured output", "guided"),
    "max_tokens": ("max_tokens",),
    "temperature": ("temperature",),
    "seed": ("seed",),
}


@dataclass
class History:
    """What the journal holds: of each request its valid reply, why the last try brought none, and how many replies
    came."""

    valid: dict[str, str] = field(default_factory=dict)
    reason: dict[str, str] = field(default_factory=dict)
    replies: dict[str, int] = field(default_factory=dict)
    spent: Tokens = Tokens()
    unreported: dict[int, Tokens] = field(default_factory=dict)  # by id: the most that each can have taken
    sent: int = 0

    def add(self, event: dict[str, Any]) -> None:
        request, number = event["request"], event["id"]
        if event["event"] == "sent":
            self.sent += 1
            self.unreported[number] = Tokens(*event["most"])
            return
        self.reason[request] = event["reason"]
        if event["event"] == "failed":
            if not event["may_cost"]:
                self.unreported.pop(number, None)
            return
        self.replies[request] = self.replies.get(request, 0) + 1
        if event["tokens"] is not None:
            self.unreported.pop(number, None)
            self.spent += Tokens(*event["tokens"])
        if event["outcome"] == VALID:
            self.valid.setdefault(request, event["body"])

    @property
    def most_unreported(self) -> Tokens:
        return total(self.unreported.values())


class LanguageModelJudge:
    """A judge behind an endpoint. Opens its journal for writing: one process at a time. Close it."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        folder: Path,
        price: Price | None = None,
        temperature: float = 1.0,
        reply_tokens: int = 1024,
        max_asks: int = 3,
    ) -> None:
        """`max_asks` bounds how often an invalid reply to one request is asked for again in a run; `reply_tokens` is
        the longest reply."""
        self.name, self.endpoint, self.price = name, endpoint, price
        self.temperature, self.reply_tokens, self.max_asks = temperature, reply_tokens, max_asks
        self._identity = [endpoint.address, endpoint.model, temperature, reply_tokens]
        self._journal = Journal(folder / REQUESTS_FILE)
        self.history = History()
        self._last_id = -1
        for event in self._journal.read():
            self.history.add(event)
            self._last_id = max(self._last_id, event["id"])
        self._left_out: set[str] = set()
        self._failed_now: dict[str, str] = {}

    def close(self) -> None:
        self._journal.close()

    def key(self, request: Request) -> str:
        """The name of a request in the journal: this judge, and all it is shown."""
        return sha256_json([self._identity, request.key])

    def spent_at_most(self) -> float:
        """In the currency of the price table, with what was sent and never reported at its most."""
        return (self.history.spent + self.history.most_unreported).cost(self.price) or 0.0

    def ask(self, requests: Iterable[Request], budget: float | None, spent_elsewhere: float = 0.0) -> None:
        """Get a valid reply to each request that has none yet; what brought none has its reason in `why_failed`.

        Equal requests are asked once. Stops sending before `budget`, in the currency of the price table, is passed:
        then some are not asked. UserError if the endpoint is of no use.
        """
        self._failed_now = {}
        limit = Budget(budget, spent_elsewhere + self.spent_at_most())
        by_key = {self.key(request): request for request in requests}
        todo = {key: request for key, request in by_key.items() if key not in self.history.valid}
        with Progress(f"judge {self.name}", len(by_key), "request", len(by_key) - len(todo)) as progress:
            for done in self.endpoint.work(todo.items(), lambda client, job: self._one(client, *job, limit)):
                progress.advance(len(done))

    def why_failed(self, request: Request) -> str | None:
        """Why a request has no valid reply; None if it has one, or was never asked."""
        key = self.key(request)
        if key in self.history.valid:
            return None
        return self._failed_now.get(key) or self.history.reason.get(key)

    def usage(self) -> dict[str, Any]:
        """What judging took so far, over all runs, and under which settings; costs in the currency of the table."""
        history = self.history
        return {
            "model": self.endpoint.model,
            "endpoint": self.endpoint.address,
            "temperature": self.temperature,
            "reply_tokens": self.reply_tokens,
            "parameters_left_out": sorted(self._left_out),
            "requests": history.sent,
            "replies": sum(history.replies.values()),
            "valid_replies": len(history.valid),
            "prompt_tokens": history.spent.prompt,
            "completion_tokens": history.spent.completion,
            "cost": history.spent.cost(self.price),
            "unreported_requests": len(history.unreported),
            "unreported_cost_at_most": history.most_unreported.cost(self.price),
        }

    async def _one(self, client: openai.AsyncOpenAI, key: str, request: Request, budget: Budget) -> None:
        try:
            messages = request.messages()
        except ValueError as error:
            self._failed_now[key] = f"a picture cannot be read any more: {error}"
            return
        asks = itertools.count(1)
        while True:
            left_out = frozenset(self._left_out)
            attempts = _Recorded(self, key, most_tokens(request, self.price, self.reply_tokens), budget)
            try:
                parameters = self._parameters(request, messages, left_out)
                said, body = await self.endpoint.ask(client, parameters, _read, attempts)
            except BudgetReached:
                return
            except NoAnswer as failure:
                if self._adapts(failure, left_out):
                    continue
                self._failed_now[key] = str(failure)
                return
            outcome, reason = _judged(request.protocol, said)
            await attempts.replied(outcome, reason, said, body)
            if outcome == VALID:
                return
            if next(asks) >= self.max_asks:
                self._failed_now[key] = f"{outcome} ({reason}); asked {self.max_asks} times"
                return

    def _parameters(self, request: Request, messages: list[dict], left_out: frozenset[str]) -> dict[str, Any]:
        wanted = {
            "max_tokens": self.reply_tokens,
            "temperature": self.temperature,
            "seed": int(request.key[:8], 16) % 2**31,  # differs between repeats
            "response_format": request.response_format(),
        }
        taken = {name: value for name, value in wanted.items() if name not in left_out}
        if "max_tokens" in left_out:
            taken["max_completion_tokens"] = self.reply_tokens
        return {"model": self.endpoint.model, "messages": messages, **taken}

    def _adapts(self, failure: NoAnswer, left_out: frozenset[str]) -> bool:
        """Whether to ask once more without a parameter that the endpoint has just refused, here or elsewhere."""
        if failure.status not in (400, 422):
            return False
        if left_out != self._left_out:
            return True
        words = f"{failure} {failure.body}".lower()
        refused = next(
            (n for n, names in _DIALECT.items() if n not in left_out and any(w in words for w in names)), None
        )
        if refused:
            self._left_out.add(refused)
        return refused is not None

    def record(self, event: dict[str, Any]) -> None:
        self._journal.append([event | {"time": utc_now()}])
        self.history.add(event)

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id


class _Recorded(Attempts):
    """Writes down each try of one request and sets aside what it may cost."""

    def __init__(self, judge: LanguageModelJudge, key: str, most: Tokens, budget: Budget) -> None:
        self._judge, self._key, self._most, self._budget = judge, key, most, budget
        self._held = most.cost(judge.price) or 0.0
        self._id = -1

    async def before(self) -> dict[str, str]:
        await self._budget.hold(self._held)
        self._id = self._judge.next_id()
        self._record("sent", most=[self._most.prompt, self._most.completion])
        # A request whose reply never came can be looked up by it where the endpoint keeps a log.
        return {"X-Client-Request-Id": f"{self._key[:16]}-{self._id}"}

    async def failed(self, failure: NoAnswer) -> None:
        body = self._judge.endpoint.redacted(failure.body)[:_LONGEST_BODY]
        self._record("failed", reason=str(failure), status=failure.status, may_cost=failure.may_cost, body=body)
        await self._budget.settle(self._held, self._held if failure.may_cost else 0.0)

    async def replied(self, outcome: str, reason: str, said: Completion, body: str) -> None:
        tokens = None
        if said.prompt_tokens is not None and said.completion_tokens is not None:
            tokens = Tokens(said.prompt_tokens, said.completion_tokens)
        shown = self._judge.endpoint.redacted(body)
        counts = [tokens.prompt, tokens.completion] if tokens else None
        self._record("reply", outcome=outcome, reason=reason, tokens=counts, body=shown)
        cost = tokens.cost(self._judge.price) if tokens else None
        await self._budget.settle(self._held, self._held if cost is None else cost)

    def _record(self, event: str, **more: Any) -> None:
        self._judge.record({"event": event, "id": self._id, "request": self._key, **more})


def content_of(body: str) -> str:
    """The judge's words in a raw reply of the journal."""
    return read_completion(body.encode()).text


def _read(body: bytes) -> tuple[Completion, str]:
    return read_completion(body), body.decode("utf-8", "replace")


def _judged(protocol: str, said: Completion) -> tuple[str, str]:
    """What a reply is worth, and why it is not valid."""
    if said.refusal or said.finish == "content_filter":
        return "refused", " ".join((said.refusal or "content filter").split())[:200]
    if said.finish == "length":
        return "cut off", "the longest reply was reached"
    try:
        (read_rubric if protocol == RUBRIC else read_pair)(said.text)
    except InvalidReply as error:
        return "invalid", " ".join(str(error).split())[:200]
    return VALID, ""
