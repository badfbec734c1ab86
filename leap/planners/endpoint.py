"""Any OpenAI-compatible endpoint as planner: vLLM, SGLang, `transformers serve` or a service does the work.

Only the address that the user named is contacted; a redirect is not followed, and no proxy stands before this machine
itself. The key comes from OPENAI_API_KEY and is neither stored nor printed. Which weights answer cannot be seen from
here: an evaluation's settings name the model and the address, or `endpoint_id` in place of the address.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import io
import ipaddress
import itertools
import json
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import openai
from PIL import Image

from configs.errors import UserError
from leap.images import intact_bytes
from leap.planners import Answer, Answered, MachineFailure, Query, UnreadablePicture
from leap.vlabench.options import EvaluationOptions

LONGEST_WAIT_S = 120.0  # between two tries, whatever Retry-After asks for
CONNECT_TIMEOUT_S = 10.0
STARTING_REQUESTS = 3  # times `concurrency`: so many fail without a single answer before a run stops
# temperature 0 is greedy. `transformers serve` makes its repetition penalty 1 + frequency_penalty, whatever the
# model's own generation_config.json says; elsewhere 0 is the default.
DECODING = {"temperature": 0, "frequency_penalty": 0, "seed": 0}

_STOPS = {"stop": "end", "eos_token": "end", None: "end", "length": "length"}
_BUSY = (429, 503)  # the endpoint works and asks for patience
_PASSING = (408, 409, 425, *_BUSY)  # besides all from 500


class _NoAnswer(Exception):
    """A request that brought no answer: whether to try `again`, whether the endpoint is only `busy`, and for how many
    seconds it asks to wait."""

    def __init__(self, reason: str, again: bool = True, busy: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.again, self.busy, self.wait_s = again, busy, wait_s


class EndpointPlanner:
    """A served model. Up to `concurrency` requests are in flight, each prompt one request, in any order.

    `notes` say what a user should know before trusting its numbers.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        endpoint_id: str = "",
        max_new_tokens: int = 512,
        concurrency: int = 8,
        request_timeout_s: float = 300.0,
        max_retries: int = 6,
        backoff_s: float = 1.0,
    ) -> None:
        """`base_url` may carry user:password@, which goes along as basic authentication and nowhere else.

        A request ends after `request_timeout_s` and is tried again up to `max_retries` times, first after about
        `backoff_s`, then after twice as long, and so on. UserError for an address that is none, or a key that is none.
        """
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise UserError("OPENAI_API_KEY holds a line break or another character that no request can carry")
        self.address, self._headers = _address(base_url)
        self.model, self.max_new_tokens, self.concurrency = model, max_new_tokens, concurrency
        self.request_timeout_s, self.max_retries, self.backoff_s = request_timeout_s, max_retries, backoff_s
        self._api_key = api_key
        self._endpoint = endpoint_id or self.address
        unseen = f"which weights {self.address} serves as {model} cannot be seen from here; --endpoint_id can name them"
        self.notes = [] if endpoint_id else [unseen]
        self._answered, self._failures, self._last_kind = False, 0, ""

    def identity(self) -> dict[str, Any]:
        return {
            "planner": "openai",
            "model": self.model,
            "endpoint": self._endpoint,
            "decoding": {**DECODING, "max_tokens": self.max_new_tokens},
        }

    def batches(self, queries: Sequence[Query]) -> list[list[Query]]:
        return [[query] for query in queries]

    def answer(self, batches: Iterable[Sequence[Query]]) -> Iterator[list[Answered]]:
        """Each answer as soon as it is known; pictures are read when their request is about to be sent.

        UserError if the endpoint refuses key, model or address, or gives no answer to many requests in a row. Closing
        the generator, or Ctrl-C, drops what is in flight.
        """
        queries = (query for batch in batches for query in batch)
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            client = self._client()
            asking: set[asyncio.Task] = set()
            try:
                while True:
                    for query in itertools.islice(queries, self.concurrency - len(asking)):
                        asking.add(loop.create_task(self._ask(client, query)))
                    if not asking:
                        return
                    done, asking = runner.run(asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED))
                    errors = [error for task in done if (error := task.exception())]
                    answered = [task.result() for task in done if not task.exception()]
                    if answered:
                        yield answered
                    if errors:
                        raise errors[0]
            finally:
                runner.run(_drop(asking, client))

    def _client(self) -> openai.AsyncOpenAI:
        here = _is_this_machine(self.address)
        without_tls = here and self.address.startswith("http:")  # loading certificates takes a while
        return openai.AsyncOpenAI(
            api_key=self._api_key or "none",
            base_url=self.address,
            default_headers=self._headers,
            max_retries=0,
            timeout=openai.Timeout(self.request_timeout_s, connect=min(CONNECT_TIMEOUT_S, self.request_timeout_s)),
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, trust_env=not here, verify=not without_tls
            ),
        )

    async def _ask(self, client: openai.AsyncOpenAI, query: Query) -> Answered:
        """One prompt with its tries."""
        try:
            request = self._request(query)
        except MachineFailure as failure:
            return query, failure
        for tries in itertools.count(1):
            try:
                answer = await self._try(client, request)
            except _NoAnswer as failure:
                self._note(failure)
                if not failure.again or tries > self.max_retries:
                    return query, MachineFailure(f"{failure}; tried {tries} times" if tries > 1 else str(failure))
                await asyncio.sleep(self._pause_s(tries, failure.wait_s))
            else:
                self._answered, self._failures = True, 0
                return query, answer
        raise AssertionError("unreachable")

    def _request(self, query: Query) -> dict[str, Any]:
        """The parameters of a chat completion: the prompt's items in their order, pictures as data URLs."""
        blank = iter(query.pictures() if query.blank_images else ())

        def part(item: dict) -> dict[str, Any]:
            if item["type"] == "text":
                return {"type": "text", "text": item["text"]}
            url = _png_url(next(blank)) if query.blank_images else _file_url(Path(item["image"]))
            return {"type": "image_url", "image_url": {"url": url}}

        turns = [{"role": turn["role"], "content": [part(item) for item in turn["content"]]} for turn in query.messages]
        return {"model": self.model, "messages": turns, "max_tokens": self.max_new_tokens, **DECODING}

    async def _try(self, client: openai.AsyncOpenAI, request: dict[str, Any]) -> Answer | MachineFailure:
        try:
            # The client's own limit is one on silence: a trickle of bytes would outlast it.
            async with asyncio.timeout(self.request_timeout_s):
                response = await client.chat.completions.with_raw_response.create(**request)
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except TimeoutError:
            raise _NoAnswer(f"no answer within {self.request_timeout_s:g} s") from None
        except openai.APIConnectionError as error:  # its timeouts too
            raise _NoAnswer(self._shown(f"connection to {self.address} failed ({_cause(error)})")) from None
        try:
            answer = read_answer(response.http_response.content)
        except ValueError as error:
            raise _NoAnswer(self._shown(f"the endpoint sent no chat completion: {error}")) from None
        return answer if isinstance(answer, Answer) else MachineFailure(self._shown(str(answer)))

    def _refusal(self, error: openai.APIStatusError) -> _NoAnswer:
        """What an HTTP error means for this request; UserError if it would be the same for every other."""
        status, headers = error.status_code, error.response.headers
        said = self._shown(f"{self.address} answered {status}: {_words(error)}")
        if status < 400:
            raise UserError(f"{said}. It redirects, which is not followed; give the final address as --base_url")
        if status in (401, 403):
            raise UserError(f"{said}. Check OPENAI_API_KEY")
        if status == 404:
            raise UserError(f"{said}. Check --base_url (most end in /v1) and --model {self.model}")
        if error.code == "insufficient_quota":
            raise UserError(f"{said}. More tries cannot help; mend that, and the same command goes on where it was")
        busy = status in _BUSY
        wait_s = _retry_after_s(headers.get("retry-after")) if busy else None
        return _NoAnswer(said, again=status in _PASSING or status >= 500, busy=busy, wait_s=wait_s)

    def _note(self, failure: _NoAnswer) -> None:
        """Count failures in a row; UserError when there is no hope of an answer.

        An endpoint that never answered gets few requests, one that did, or that is busy, gets more. A prompt may be
        refused as too long where others are answered, so before the first answer only refusals in the same words count,
        and after it none.
        """
        if self._answered and not failure.again:
            return
        kind = "" if failure.again else str(failure)
        self._failures = self._failures + 1 if kind == self._last_kind else 1
        self._last_kind = kind
        patience = 1 + self.max_retries if self._answered or failure.busy else 1
        if self._failures >= STARTING_REQUESTS * self.concurrency * patience:
            raise UserError(
                f"{self._failures} requests in a row brought no answer, the last: {failure}. Check that the endpoint "
                f"runs, --base_url and --model {self.model}; the same command goes on where it was"
            )

    def _pause_s(self, tries: int, wait_s: float | None) -> float:
        """Seconds until the next try: what the endpoint asked for, else exponential; never quite the same for two."""
        if wait_s is None:
            wait_s = self.backoff_s * 2 ** (tries - 1) * random.uniform(0.5, 1.0)
        return min(wait_s + self.backoff_s * random.uniform(0.0, 0.1), LONGEST_WAIT_S)

    def _shown(self, text: str) -> str:
        """`text` as one line that can be stored: without the key, which some endpoints send back."""
        text = " ".join(text.split())
        if self._api_key:
            text = text.replace(self._api_key, "***")
        return text[:400]


def read_answer(body: bytes) -> Answer | MachineFailure:
    """The answer in the body of a chat completion. ValueError if it is none.

    An empty answer is an answer. One that the service withheld is its failure: it comes as a MachineFailure.
    """
    try:
        reply = json.loads(body)
        choice = reply["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
        used = (reply.get("usage") or {}).get("completion_tokens")
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part["type"] == "text")
        stop = _STOPS.get(finish)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError(body[:1000].decode("utf-8", "replace") or "nothing") from None
    if refusal:
        return MachineFailure(f"the endpoint refused: {refusal}")
    if finish == "content_filter":
        return MachineFailure("the endpoint's content filter withheld the answer")
    if not content and message.get("tool_calls"):
        return MachineFailure("the endpoint took the answer for a tool call; serve the model without a tool parser")
    if stop is None or not isinstance(content, str | None):
        raise ValueError(f"finish_reason {finish!r} with content of type {type(content).__name__}")
    return Answer(content or "", used if isinstance(used, int) else None, stop)


async def _drop(tasks: set[asyncio.Task], client: openai.AsyncOpenAI) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def _address(base_url: str) -> tuple[str, dict[str, str]]:
    """`base_url` without its credentials, and the headers that carry them."""
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
        return address, {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return address, {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _is_this_machine(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _file_url(path: Path) -> str:
    """A picture's bytes as they are."""
    try:
        content = intact_bytes(path)
        with Image.open(io.BytesIO(content)) as picture:
            kind = picture.get_format_mimetype() or f"image/{picture.format}".lower()
    except ValueError as error:
        raise UnreadablePicture(f"unreadable image: {path} {error}") from error
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _png_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _retry_after_s(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number of them, or an HTTP date), or None if it says neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return seconds if 0 <= seconds < float("inf") else None


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


def open_planner(options: EvaluationOptions, folder: Path | None) -> EndpointPlanner:
    """The endpoint that --base_url or OPENAI_BASE_URL names. UserError if neither does, or no model is named."""
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL", "")
    if not base_url:
        raise UserError("no endpoint named: give --base_url (such as http://localhost:8000/v1) or set OPENAI_BASE_URL")
    if not options.model:
        raise UserError("--planner openai needs --model, the name under which the endpoint serves it")
    return EndpointPlanner(
        base_url,
        options.model,
        os.environ.get("OPENAI_API_KEY"),
        options.endpoint_id,
        options.max_new_tokens,
        options.concurrency,
        options.request_timeout_s,
        options.max_retries,
    )
