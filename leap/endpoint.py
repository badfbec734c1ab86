"""An OpenAI-compatible endpoint over the `openai` client: who it is, how often to try, when to give up.

What a planner and a judge share. Only the address that the user named is contacted; a redirect is not followed, and no
proxy stands before this machine itself. The key comes from OPENAI_API_KEY; neither it nor the credentials of the
address are stored or printed, also where an endpoint sends them back. Of a reply no more is read than a chat completion
may have.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import itertools
import json
import os
import random
import re
import zlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import openai

from configs.errors import UserError
from leap.retry_after import retry_after_s

T = TypeVar("T")
Job = TypeVar("Job")

LONGEST_WAIT_S = 120.0  # between two tries, whatever Retry-After asks for
CONNECT_TIMEOUT_S = 10.0
STARTING_REQUESTS = 3  # times `concurrency`: so many fail without a single answer before a run stops
LAST_REPLIES_S = 30.0  # what is in flight when a run must stop may still come: it is paid for

MOST_BODY_BYTES = 8 * 2**20  # of a reply, inflated: an answer of a million characters, each escaped in six
MOST_TEXT = 1_000_000  # characters of an answer, more than any model writes at once

SHORTEST_SECRET = 8  # characters; a shorter key is a placeholder of a local server, such as "1", and no secret
_SHORTEST_PASSWORD = 4  # of an address: nobody writes a placeholder there
_GZIP_OR_ZLIB = 47  # zlib's number for either, with a window of any size
_MOST_TOKENS = 10**8  # no request takes so many: a larger count is none
_USAGE = ("prompt_tokens", "completion_tokens")
_BUSY = (429, 503)  # the endpoint works and asks for patience
# By name: the client's HTTP library is httpx or its successor.
_NEVER_REACHED = ("ConnectError", "ConnectTimeout", "PoolTimeout")
_PASSING = (408, 409, 425, *_BUSY)  # besides all from 500


class EndpointOptions(Protocol):
    """What an endpoint is opened with; the options of whoever asks it have these knobs and their defaults.

    A request ends after `request_timeout_s` and is tried again up to `max_retries` times, first after about
    `backoff_s`, then after twice as long, and so on.
    """

    @property
    def base_url(self) -> str: ...  # OPENAI_BASE_URL if empty
    @property
    def concurrency(self) -> int: ...  # requests in flight
    @property
    def request_timeout_s(self) -> float: ...
    @property
    def max_retries(self) -> int: ...
    @property
    def backoff_s(self) -> float: ...


class NoAnswer(Exception):
    """A request that brought no answer: whether it is `retryable`, whether the endpoint is only `busy`, and for how
    many seconds it asks to wait. It is `hopeless` if every other request would be refused alike. `status` is that of an
    HTTP error, else None; `body` is what came instead of an answer. The endpoint `may_cost` unless it answered with an
    error or was never reached: it may have done, and charged for, the work."""

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool = True,
        busy: bool = False,
        wait_s: float | None = None,
        status: int | None = None,
        body: str = "",
        may_cost: bool = False,
        hopeless: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retryable, self.busy, self.wait_s, self.status, self.body = retryable, busy, wait_s, status, body
        self.may_cost, self.hopeless = may_cost, hopeless


class _Oversized(Exception):
    """A reply that is longer than any chat completion, or packed in a way that was not asked for."""


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """An HTTP client that reads MOST_BODY_BYTES of a reply at most: a few kilobytes of gzip may hold gigabytes, and the
    plain client inflates them all, those of an error too."""

    async def send(self, request: Any, **options: Any) -> Any:
        response = await super().send(request, **options | {"stream": True})
        try:
            packed = bytearray()
            async for chunk in response.aiter_raw():
                packed += chunk
                if len(packed) > MOST_BODY_BYTES:
                    raise _Oversized(f"a reply of more than {MOST_BODY_BYTES:,} bytes")
        finally:
            await response.aclose()
        content = _inflated(bytes(packed), response.headers.get("content-encoding", "identity"))
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _FRAMING]
        return type(response)(
            response.status_code,
            headers=headers,
            content=content,
            request=response.request,
            extensions=response.extensions,
        )


# Headers that say how a body was sent, not what it is.
_FRAMING = ("content-encoding", "content-length", "transfer-encoding")


def _inflated(packed: bytes, encoding: str) -> bytes:
    """A body as it was before it was packed. _Oversized if that is too long, or cannot be told."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return packed
    if encoding not in ("gzip", "deflate"):
        raise _Oversized(f"a reply packed by {encoding[:40]!r}, which was not asked for")
    try:
        content = zlib.decompressobj(_GZIP_OR_ZLIB).decompress(packed, MOST_BODY_BYTES + 1)
    except zlib.error as error:
        raise _Oversized(f"a reply that is no {encoding} ({error})") from error
    if len(content) > MOST_BODY_BYTES:
        raise _Oversized(f"a reply of more than {MOST_BODY_BYTES:,} bytes")
    return content


class Attempts:
    """What a caller wants to know of the tries of one request; these do nothing."""

    async def begin(self) -> dict[str, str] | None:
        """A request is about to be sent; returns headers to send along."""

    async def failed(self, failure: NoAnswer) -> None:
        """It brought no answer."""


@dataclass(frozen=True)
class Completion:
    """What a chat completion says. `finish` is its finish_reason; token counts are None where none are reported that
    could be true."""

    text: str
    finish: str | None
    refusal: str | None
    calls_tool: bool
    prompt_tokens: int | None
    completion_tokens: int | None


def read_completion(body: bytes) -> Completion:
    """The first choice of a chat completion. ValueError, with what came instead, if the body is none."""
    try:
        reply = json.loads(body)
        choice = reply["choices"][0]
        message = choice["message"]
        content, finish, refusal = message.get("content"), choice.get("finish_reason"), message.get("refusal") or None
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part["type"] == "text")
        if not all(isinstance(words, str | None) for words in (content, finish, refusal)):
            raise TypeError("content, finish_reason and refusal are texts")
        if any(len(words or "") > MOST_TEXT for words in (content, finish, refusal)):
            raise TypeError("no text is so long")
        used = reply.get("usage")
        counts = [_tokens(used.get(name)) if isinstance(used, dict) else None for name in _USAGE]
        return Completion(content or "", finish, refusal, bool(message.get("tool_calls")), *counts)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError(body[:1000].decode("utf-8", "replace") or "nothing") from None


def _tokens(count: object) -> int | None:
    return count if type(count) is int and 0 <= count < _MOST_TOKENS else None


class Endpoint:
    """One served model. Up to `concurrency` requests are in flight."""

    def __init__(
        self, options: EndpointOptions, model: str, api_key: str | None = None, model_flag: str = "--model"
    ) -> None:
        """`base_url` may carry user:password@, which goes along as basic authentication and nowhere else. `model_flag`
        is how the user names the model. UserError for an address or a key that is none, or if no address is named.
        """
        self.address, self._headers, credentials = _address(_base_url(options))
        self.model, self.options = model, options
        self._api_key, self._model_flag = api_key, model_flag
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise UserError("OPENAI_API_KEY holds a line break or another character that no request can carry")
        self._secrets = _pattern_of(credentials + [key for key in [api_key or ""] if len(key) >= SHORTEST_SECRET])
        self._answered, self._failures, self._last_kind = False, 0, ""
        self._stopping, self._why_stopped = asyncio.Event(), ""

    def work(
        self, jobs: Iterable[Job], do: Callable[[openai.AsyncOpenAI, Job], Coroutine[Any, Any, T]]
    ) -> Iterator[list[T]]:
        """What `do` makes of each job, up to `concurrency` at once, in any order; a job is taken when it can begin.

        An exception of one job comes out after the results that were there with it, those of requests that were in
        flight when `ask` raised UserError among them. Closing the generator, or Ctrl-C, drops what is in flight.
        """
        jobs = iter(jobs)
        self._stopping, self._why_stopped = asyncio.Event(), ""
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            client = self._client()
            doing: set[asyncio.Task] = set()
            try:
                while True:
                    for job in itertools.islice(jobs, self.options.concurrency - len(doing)):
                        doing.add(loop.create_task(do(client, job)))
                    if not doing:
                        return
                    ended, doing = runner.run(self._some_of(doing))
                    errors = [error for task in ended if (error := task.exception())]
                    results = [task.result() for task in ended if not task.exception()]
                    if results:
                        yield results
                    if errors:
                        raise errors[0]
            finally:
                runner.run(_drop(doing, client))

    async def ask(
        self,
        client: openai.AsyncOpenAI,
        request: dict[str, Any],
        read: Callable[[bytes], T],
        attempts: Attempts | None = None,
    ) -> T:
        """Send one chat completion until it brings an answer; what `read` makes of its body, in which it raises
        ValueError if that is none.

        NoAnswer if the last try brought none either. UserError if the endpoint refuses key, model or address, or gives
        no answer to many requests in a row; then no request is sent any more.
        """
        attempts = attempts or Attempts()
        for tries in itertools.count(1):
            if self._stopping.is_set():
                raise UserError(self._why_stopped)
            headers = await attempts.begin()
            try:
                answer = await self._try(client, {**request, "extra_headers": headers}, read)
            except NoAnswer as failure:
                await attempts.failed(failure)
                self._note(failure)
                if not failure.retryable or tries > self.options.max_retries:
                    if tries > 1:
                        failure.args = (f"{failure}; tried {tries} times",)
                    raise
                await self._pause(self._pause_s(tries, failure.wait_s))
            else:
                self._answered, self._failures = True, 0
                return answer
        raise AssertionError("unreachable")

    def without_key(self, text: str) -> str:
        """`text` as one short line that can be printed and stored: without key and credentials, which some endpoints
        send back."""
        line = " ".join(text.encode("utf-8", "replace").decode().split())
        return self.redacted(line)[:400]

    def redacted(self, text: str) -> str:
        """`text`, which may be JSON, without the key, if that is long enough to be a secret, and without the
        credentials of the address."""
        return self._secrets.sub("***", text) if self._secrets else text

    async def _some_of(self, doing: set[asyncio.Task]) -> tuple[set[asyncio.Task], set[asyncio.Task]]:
        """(ended, others) as soon as one has ended; if the run must stop, once all have or none comes any more."""
        ended, doing = await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
        if doing and self._stopping.is_set():
            late, doing = await asyncio.wait(doing, timeout=LAST_REPLIES_S)
            ended |= late
        return ended, doing

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless the run must stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _stop(self, why: str) -> None:
        """Raise UserError here, and wherever a request was about to be sent; the first reason stands."""
        self._why_stopped = self._why_stopped or why
        self._stopping.set()
        raise UserError(self._why_stopped)

    def _client(self) -> openai.AsyncOpenAI:
        local, timeout_s = _is_this_machine(self.address), self.options.request_timeout_s
        without_tls = local and self.address.startswith("http:")  # loading certificates takes a while
        return openai.AsyncOpenAI(
            api_key=self._api_key or "none",
            base_url=self.address,
            default_headers=self._headers,
            max_retries=0,
            timeout=openai.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            http_client=_BoundedClient(
                follow_redirects=False,
                trust_env=not local,
                verify=not without_tls,
                headers={"Accept-Encoding": "identity"},
            ),
        )

    async def _try(self, client: openai.AsyncOpenAI, request: dict[str, Any], read: Callable[[bytes], T]) -> T:
        try:
            # The client's own limit is one on silence: a trickle of bytes would outlast it.
            async with asyncio.timeout(self.options.request_timeout_s):
                response = await client.chat.completions.with_raw_response.create(**request)
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except TimeoutError:
            raise NoAnswer(f"no answer within {self.options.request_timeout_s:g} s", may_cost=True) from None
        except _Oversized as error:
            raise NoAnswer(f"the endpoint sent {error}", may_cost=True) from None
        except openai.APIConnectionError as error:  # its timeouts too
            if isinstance(error.__cause__, _Oversized):  # openai 2 wraps what it does not know
                raise NoAnswer(f"the endpoint sent {error.__cause__}", may_cost=True) from None
            reason = self.without_key(f"connection to {self.address} failed ({_cause(error)})")
            raise NoAnswer(reason, may_cost=type(error.__cause__).__name__ not in _NEVER_REACHED) from None
        body = response.http_response.content
        try:
            return read(body)
        except ValueError as error:
            reason = self.without_key(f"the endpoint sent no chat completion: {error}")
            raise NoAnswer(reason, body=body.decode("utf-8", "replace"), may_cost=True) from None

    def _refusal(self, error: openai.APIStatusError) -> NoAnswer:
        """What an HTTP error means for this request, and for every other."""
        status, body = error.status_code, error.response.text
        words = self.without_key(f"{self.address} answered {status}: {_words(error)}")
        if mend := self._how_to_mend(error):
            return NoAnswer(f"{words}. {mend}", retryable=False, status=status, body=body, hopeless=True)
        busy = status in _BUSY
        wait_s = retry_after_s(error.response.headers.get("retry-after")) if busy else None
        passing = status in _PASSING or status >= 500
        return NoAnswer(words, retryable=passing, busy=busy, wait_s=wait_s, status=status, body=body)

    def _how_to_mend(self, error: openai.APIStatusError) -> str | None:
        """What to do about an error that every other request would meet too; None for another error."""
        if error.status_code < 400:
            return "It redirects, which is not followed; give the final address as --base_url"
        if error.status_code in (401, 403):
            return "Check OPENAI_API_KEY"
        if error.status_code == 404:
            return f"Check --base_url (most end in /v1) and {self._model_flag} {self.model}"
        if error.code == "insufficient_quota":
            return "More tries cannot help; mend that, and the same command goes on where it was"
        return None

    def _note(self, failure: NoAnswer) -> None:
        """Count failures in a row; UserError when there is no hope of an answer, at once if this one says so.

        An endpoint that never answered gets few requests, one that did, or that is busy, gets more. A prompt may be
        refused as too long where others are answered, so before the first answer only refusals in the same words count,
        and after it none.
        """
        if failure.hopeless:
            self._stop(str(failure))
        if self._answered and not failure.retryable:
            return
        kind = "" if failure.retryable else str(failure)
        self._failures = self._failures + 1 if kind == self._last_kind else 1
        self._last_kind = kind
        patience = 1 + self.options.max_retries if self._answered or failure.busy else 1
        if self._failures >= STARTING_REQUESTS * self.options.concurrency * patience:
            self._stop(
                f"{self._failures} requests in a row brought no answer, the last: {failure}. Check that the endpoint "
                f"runs, --base_url and {self._model_flag} {self.model}; the same command goes on where it was"
            )

    def _pause_s(self, tries: int, wait_s: float | None) -> float:
        """Seconds until the next try: what the endpoint asked for, else exponential; never quite the same for two."""
        if wait_s is None:
            wait_s = self.options.backoff_s * 2 ** (tries - 1) * random.uniform(0.5, 1.0)
        return min(wait_s + self.options.backoff_s * random.uniform(0.0, 0.1), LONGEST_WAIT_S)


class Dialect:
    """Parameters of requests that an endpoint refuses, by its own words, and that later requests go without.

    `words` are those by which a refusal names each parameter; `left_out` are the parameters refused so far.
    """

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        self._words = words
        self.left_out: frozenset[str] = frozenset()

    def adapts(self, failure: NoAnswer, left_out: frozenset[str]) -> bool:
        """Whether to ask once more, after a request without `left_out` failed: without a parameter that this failure
        names, or that another request was refused meanwhile."""
        if failure.status not in (400, 422):
            return False
        if left_out != self.left_out:
            return True
        text = f"{failure} {failure.body}".lower()
        open_words = {name: words for name, words in self._words.items() if name not in left_out}
        refused = next((name for name, words in open_words.items() if any(word in text for word in words)), None)
        self.left_out |= {refused} if refused else set()
        return refused is not None


def _base_url(options: EndpointOptions) -> str:
    """The address that --base_url or OPENAI_BASE_URL names; UserError if neither does."""
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL", "")
    if not base_url:
        raise UserError("no endpoint named: give --base_url (such as http://localhost:8000/v1) or set OPENAI_BASE_URL")
    return base_url


async def _drop(tasks: set[asyncio.Task], client: openai.AsyncOpenAI) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def _address(base_url: str) -> tuple[str, dict[str, str], list[str]]:
    """`base_url` without its credentials, the headers that carry them, and the texts that would give them away."""
    try:
        parts = urlsplit(base_url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        # The value is not shown: it may hold a password.
        raise UserError("--base_url must be http://HOST:PORT/PATH or https, without ? or #; most end in /v1")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    if parts.username is None:
        return address, {}, []
    password = unquote(parts.password or "")
    pair = f"{unquote(parts.username)}:{password}"
    token = base64.b64encode(pair.encode()).decode()
    passwords = [text for text in {password, parts.password or ""} if len(text) >= _SHORTEST_PASSWORD]
    return address, {"Authorization": f"Basic {token}"}, [token, pair, *passwords]


def _pattern_of(secrets: Iterable[str]) -> re.Pattern | None:
    """Finds secrets also where JSON escapes some of their characters (\\u0073k-..., \\/), once or more often."""
    patterns = [
        "".join(rf"(?:\\{{0,8}}{re.escape(character)}|\\{{1,8}}u(?i:{ord(character):04x}))" for character in secret)
        for secret in sorted(secrets, key=len, reverse=True)
    ]
    return re.compile("|".join(patterns)) if patterns else None


def _is_this_machine(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _words(error: openai.APIStatusError) -> str:
    """What an error's body says, in the places where endpoints write it."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body or error.response.text or "nothing")


def _cause(error: BaseException) -> str:
    """The innermost reason of a failed connection, which its libraries wrap several times."""
    inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
    return (inner and _cause(inner)) or str(error)
