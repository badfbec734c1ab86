"""A language model as judge: every request and raw reply in a journal, which is also the cache.

requests.jsonl holds, line by line as it happens,

    {"event": "prompt", "prompt": "<hash>", "system": "...", "before": "...", "after": "...", "pictures": ["<sha256>"]}
    {"event": "sent", "id": 7, "request": "<hash>", "prompt": "<hash>", "nonce": "3f0...",
     "left_out": ["seed"], "most": [2100, 1024]}
    {"event": "reply", "id": 7, "request": "<hash>", "outcome": "valid", "reason": "", "tokens": [812, 96], "body": ""}
    {"event": "failed", "id": 7, "request": "<hash>", "reason": "...", "status": 429, "may_cost": false, "body": "..."}
    {"event": "refused", "id": 7, "request": "<hash>", "reason": "...", "status": 401, "body": "..."}

each with its time. `request` is the hash of the judge and of all it was shown and how often it was asked; a prompt is
written once, its pictures by the hashes of their files; the `nonce` is another one for each request.
`left_out` are parameters that the endpoint does not take, `most` the input and output tokens that were set aside. An
endpoint that refuses one request as it would any other (a wrong key or model) ends the run, and says nothing of that
request. A request without a second line was cut off by the end of the process. A valid reply is never asked for again;
an invalid one is, a bounded number of times a run, as is one that cannot be read here any more.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from configs.errors import UserError
from leap.endpoint import Attempts, Completion, Endpoint, NoAnswer, read_completion
from leap.files import Journal, numbered_jsonl, sha256_json
from leap.judge.judgements import RUBRIC
from leap.judge.ledger import Budget, BudgetReached, Price, TokenCounts, most_tokens, total
from leap.judge.options import JudgeOptions
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
class RequestHistory:
    """What the journal holds: of each request its valid reply, the parameters that this was asked for without, why the
    last try brought none, and how many replies came."""

    valid: dict[str, str] = field(default_factory=dict)
    without: dict[str, list[str]] = field(default_factory=dict)
    reason: dict[str, str] = field(default_factory=dict)
    replies: dict[str, int] = field(default_factory=dict)
    spent: TokenCounts = TokenCounts()
    unreported: dict[int, TokenCounts] = field(default_factory=dict)  # by id: the most that each can have taken
    sent: int = 0
    prompts: set[str] = field(default_factory=set)  # those that were written down
    last_id: int = -1
    _left_out: dict[int, list[str]] = field(default_factory=dict)  # by id

    def add(self, event: dict[str, Any]) -> None:
        """Take in a line of the journal; KeyError or TypeError if it is none."""
        if event["event"] == "prompt":
            self.prompts.add(event["prompt"])
            return
        request, number = event["request"], event["id"]
        self.last_id = max(self.last_id, number)
        if event["event"] == "sent":
            self.sent += 1
            self.unreported[number] = TokenCounts(*event["most"])
            self._left_out[number] = event.get("left_out", [])
            return
        if event["event"] == "refused":
            self.unreported.pop(number, None)
            return
        self.reason[request] = event["reason"]
        if event["event"] == "failed":
            if not event["may_cost"]:
                self.unreported.pop(number, None)
            return
        self.replies[request] = self.replies.get(request, 0) + 1
        if event["tokens"] is not None:
            self.unreported.pop(number, None)
            self.spent += TokenCounts(*event["tokens"])
        if event["outcome"] != VALID:
            return
        if not any(_judgement_in(event["body"], read) for read in (read_rubric, read_pair)):
            self.reason[request] = "the reply in the journal cannot be read"
        elif request not in self.valid:
            self.valid[request], self.without[request] = event["body"], self._left_out.get(number, [])

    @property
    def most_unreported(self) -> TokenCounts:
        return total(self.unreported.values())


class LanguageModelJudge:
    """A judge behind an endpoint. Opens its journal for writing: one process at a time. Close it."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        folder: Path,
        options: JudgeOptions,
        price: Price | None = None,
    ) -> None:
        self.name, self.endpoint, self.options, self.price = name, endpoint, options, price
        self._identity = [endpoint.address, endpoint.model, options.temperature, options.reply_tokens]
        self._journal = Journal(folder / REQUESTS_FILE)
        self.history = RequestHistory()
        for number, event in numbered_jsonl(self._journal.path):
            try:
                self.history.add(event)
            except (KeyError, TypeError) as error:
                self._journal.close()
                raise UserError(
                    f"{self._journal.path}:{number}: not a line of a journal of requests ({error!r}). Mend or remove it"
                ) from None
        self._left_out: set[str] = set()
        self._requested: set[str] = set()
        self._failures: dict[str, str] = {}  # of this run

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
        self._failures = {}
        limit = Budget(budget, spent_elsewhere + self.spent_at_most())
        by_key = {self.key(request): request for request in requests}
        self._requested = set(by_key)
        todo = {key: request for key, request in by_key.items() if key not in self.history.valid}
        with Progress(f"judge {self.name}", len(by_key), "request", len(by_key) - len(todo)) as progress:
            for ends in self.endpoint.work(todo.items(), lambda client, job: self._ask_one(client, *job, limit)):
                if ended := sum(ends):
                    progress.advance(ended)

    def why_failed(self, request: Request) -> str | None:
        """Why a request has no valid reply; None if it has one, or was never asked."""
        key = self.key(request)
        if key in self.history.valid:
            return None
        return self._failures.get(key) or self.history.reason.get(key)

    def usage(self) -> dict[str, Any]:
        """What judging took so far, over all runs, and under which settings; costs in the currency of the table. The
        parameters left out are those of the replies that the last `ask` was for, whenever they came."""
        history = self.history
        left_out = self._left_out.union(*(history.without.get(key, ()) for key in self._requested))
        return {
            "model": self.endpoint.model,
            "endpoint": self.endpoint.address,
            "temperature": self.options.temperature,
            "reply_tokens": self.options.reply_tokens,
            "parameters_left_out": sorted(left_out),
            "requests": history.sent,
            "replies": sum(history.replies.values()),
            "valid_replies": len(history.valid),
            "prompt_tokens": history.spent.prompt,
            "completion_tokens": history.spent.completion,
            "cost": history.spent.cost(self.price),
            "unreported_requests": len(history.unreported),
            "unreported_cost_at_most": history.most_unreported.cost(self.price),
        }

    async def _ask_one(self, client: openai.AsyncOpenAI, key: str, request: Request, budget: Budget) -> bool:
        """Whether the request came to an end, good or bad: False if the budget stops it."""
        nonce = secrets.token_hex(6)
        try:
            messages = request.messages(nonce)
        except ValueError as error:
            self._failures[key] = f"a picture cannot be read any more: {error}"
            return True
        asks = itertools.count(1)
        while True:
            left_out = frozenset(self._left_out)
            attempts = _JournaledAttempts(self, key, request, nonce, left_out, budget)
            try:
                parameters = self._parameters(request, messages, left_out)
                completion, body = await self.endpoint.ask(client, parameters, _read, attempts)
            except BudgetReached:
                return False
            except NoAnswer as failure:
                if self._adapts(failure, left_out):
                    continue
                self._failures[key] = str(failure)
                return True
            outcome, reason = _outcome(completion, request.protocol)
            reason = self.endpoint.without_key(reason)[:200]
            await attempts.replied(outcome, reason, completion, body)
            if outcome == VALID:
                return True
            if next(asks) >= self.options.max_asks:
                self._failures[key] = f"{outcome} ({reason}); asked {self.options.max_asks} times"
                return True

    def _parameters(self, request: Request, messages: list[dict], left_out: frozenset[str]) -> dict[str, Any]:
        parameters = {
            "max_tokens": self.options.reply_tokens,
            "temperature": self.options.temperature,
            "seed": int(request.key[:8], 16) % 2**31,  # differs between repeats
            "response_format": request.response_format(),
        }
        parameters = {name: value for name, value in parameters.items() if name not in left_out}
        if "max_tokens" in left_out:
            parameters["max_completion_tokens"] = self.options.reply_tokens
        return {"model": self.endpoint.model, "messages": messages, **parameters}

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


class _JournaledAttempts(Attempts):
    """Writes down each try of one request and sets aside what it may cost."""

    def __init__(
        self,
        judge: LanguageModelJudge,
        key: str,
        request: Request,
        nonce: str,
        left_out: Collection[str],
        budget: Budget,
    ) -> None:
        self._judge, self._key, self._request, self._nonce, self._budget = judge, key, request, nonce, budget
        self._left_out = sorted(left_out)
        self._most = most_tokens(request, judge.price, judge.options.reply_tokens)
        self._held = self._most.cost(judge.price) or 0.0
        self._id = -1

    async def begin(self) -> dict[str, str]:
        await self._budget.hold(self._held)
        self._id = self._judge.history.last_id + 1
        prompt, most = self._request.prompt(), [self._most.prompt, self._most.completion]
        name = sha256_json(prompt)[:32]
        if name not in self._judge.history.prompts:
            self._judge.record({"event": "prompt", "prompt": name, **prompt})
        self._record("sent", prompt=name, nonce=self._nonce, left_out=self._left_out, most=most)
        # A request whose reply never came can be looked up by it where the endpoint keeps a log.
        return {"X-Client-Request-Id": f"{self._key[:16]}-{self._id}"}

    async def failed(self, failure: NoAnswer) -> None:
        body = self._judge.endpoint.redacted(failure.body)[:_LONGEST_BODY]
        fields = {"reason": str(failure), "status": failure.status, "body": body}
        if failure.hopeless:
            self._record("refused", **fields)
        else:
            self._record("failed", **fields, may_cost=failure.may_cost)
        await self._budget.settle(self._held, self._held if failure.may_cost else 0.0)

    async def replied(self, outcome: str, reason: str, completion: Completion, body: str) -> None:
        tokens = None
        if completion.prompt_tokens is not None and completion.completion_tokens is not None:
            tokens = TokenCounts(completion.prompt_tokens, completion.completion_tokens)
        if outcome == VALID and len(body) > _LONGEST_BODY:
            body = _short_body(completion)
        redacted, read = self._judge.endpoint.redacted(body), _reader(self._request.protocol)
        if outcome == VALID and _judgement_in(redacted, read) != _judgement_in(body, read):
            redacted = body  # a key that is a word of the reply's own form is no secret
        if outcome != VALID:
            redacted = redacted[:_LONGEST_BODY]
        counts = [tokens.prompt, tokens.completion] if tokens else None
        self._record("reply", outcome=outcome, reason=reason, tokens=counts, body=redacted)
        cost = tokens.cost(self._judge.price) if tokens else None
        await self._budget.settle(self._held, self._held if cost is None else cost)

    def _record(self, event: str, **more: Any) -> None:
        self._judge.record({"event": event, "id": self._id, "request": self._key, **more})


def content_of(body: str) -> str:
    """The judge's words in a raw reply of the journal."""
    return read_completion(body.encode()).text


def _short_body(completion: Completion) -> str:
    """A reply without all that was sent along with the judge's words, as what a model thought before them."""
    return json.dumps({"choices": [{"finish_reason": completion.finish, "message": {"content": completion.text}}]})


def _read(body: bytes) -> tuple[Completion, str]:
    """A reply as it will be read from the journal, and its text there."""
    text = body.decode("utf-8", "replace")
    return read_completion(text.encode()), text


def _reader(protocol: str) -> Callable[[str], tuple[Any, str]]:
    return read_rubric if protocol == RUBRIC else read_pair


def _judgement_in(body: Any, read: Callable[[str], tuple[Any, str]]) -> Any:
    """The scores or the verdict in a raw reply; None if it holds none."""
    try:
        return read(content_of(body))[0]
    except (ValueError, AttributeError):
        return None


def _outcome(completion: Completion, protocol: str) -> tuple[str, str]:
    """What a reply is worth, and why it is not valid."""
    if completion.refusal or completion.finish == "content_filter":
        return "refused", completion.refusal or "content filter"
    if completion.finish == "length":
        return "cut off", "the longest reply was reached"
    try:
        _reader(protocol)(completion.text)
    except InvalidReply as error:
        return "invalid", str(error)
    return VALID, ""
