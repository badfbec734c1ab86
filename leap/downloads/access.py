"""The way to the Hub: which host is asked, what its answers mean, and how long to insist.

Every 429, 5xx and lost connection comes back to `Patience`, which waits as the server says, tries again with a bound,
and says so; the library's own silent retries are left out of it. What more tries cannot mend is a UserError. No
message holds a token or an address with its query, which may be signed.
"""

from __future__ import annotations

import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from configs.errors import UserError
from leap.progress import say
from leap.retry_after import retry_after_s

T = TypeVar("T")

MIRROR = "https://hf-mirror.com"
_SECONDS_WITHOUT_AN_ANSWER = 60.0  # where the library sets no limit
_LONGEST_PAUSE_S = 60.0  # between two tries, unless the server asks for more
_USUAL_WINDOW_S = 300.0  # the Hub counts requests in windows of five minutes
_MOST_WAITS_IN_A_ROW = 8
_BLOCK = 1 << 20  # bytes that are written, and counted, at once
_RATE_LIMIT = re.compile(r"\bt\s*=\s*(\d+)")  # as in RateLimit: "api";r=0;t=55


class TryAgain(Exception):
    """A request that failed in a way that may pass; the text is the reason."""


class Wait(Exception):
    """The server asks to come back later, in `seconds` if it says."""

    def __init__(self, host: str, seconds: float | None) -> None:
        super().__init__(f"{host} asks to wait")
        self.host, self.seconds = host, seconds


class DownloadFailed(Exception):
    """All tries are used up; the text says what failed how. Later it may work."""


def choose_host(mirror: bool) -> str:
    """Fix the host that is asked, before huggingface_hub is imported; its name.

    It is the library's default, or HF_ENDPOINT; `mirror` takes the well-known mirror, without Xet (large files then
    come over plain HTTP) and without the user's token. The library's usage statistics are off unless the user has set
    them.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    named = os.environ.get("HF_ENDPOINT")
    if named and not re.match(r"https?://[^\s/]+", named):
        raise UserError(f"HF_ENDPOINT is {named!r}; it must be an address such as https://huggingface.co")
    if mirror:
        named = os.environ.get("HF_ENDPOINT", MIRROR).rstrip("/")
        if named != MIRROR:
            raise UserError(f"HF_ENDPOINT names {_host(named)} and --mirror means {_host(MIRROR)}; leave one out")
        if "huggingface_hub" in sys.modules:
            raise RuntimeError("huggingface_hub is imported already, so the mirror would not be asked")
        os.environ["HF_ENDPOINT"] = MIRROR
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        os.environ.setdefault("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        say(
            f"asking the mirror {_host(MIRROR)}, which others run: it carries no Xet data, so large files come over "
            "plain HTTP, and your token is not sent to it"
        )
    return host()


def host() -> str:
    """Name (and port) of the host that is asked."""
    from huggingface_hub import constants

    return _host(constants.ENDPOINT)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


@cache
def prepare_client() -> None:
    """Make the library give every 429 and 5xx back at once, write bytes as they come, and hide its own messages."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import logging
    from huggingface_hub.utils._http import default_client_factory

    def factory() -> Any:
        client = default_client_factory()
        hooks = client.event_hooks
        hooks["request"].append(_limit_silence)
        hooks["response"].append(_give_back)
        client.event_hooks = hooks
        return client

    set_client_factory(factory)
    # What a lost connection costs: a block that is not whole is not written.
    constants.DOWNLOAD_CHUNK_SIZE = min(constants.DOWNLOAD_CHUNK_SIZE, _BLOCK)
    logging.set_verbosity_error()


def _limit_silence(request: Any) -> None:
    if not any((request.extensions.get("timeout") or {}).values()):
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = dict.fromkeys(kinds, _SECONDS_WITHOUT_AN_ANSWER)


def _give_back(response: Any) -> None:
    status, name = response.status_code, _host(str(response.request.url))
    asked = _seconds_asked(response.headers)
    if status == 429 or (status == 503 and asked is not None):
        raise Wait(name, asked)
    if status == 408 or status >= 500:
        raise TryAgain(f"{name} answered {status}")
    if status in (401, 403) and name != host():
        raise TryAgain(f"{name} answered {status}; its signed address may be too old")


def _seconds_asked(headers: Any) -> float | None:
    """The wait that a server asks for, from RateLimit or Retry-After (seconds or a date)."""
    found = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    if found:
        return float(found[1])
    return retry_after_s(headers.get("Retry-After"))


@contextmanager
def plain_errors(repo_id: str, repo_type: str, revision: str | None) -> Iterator[None]:
    """Turn what the library can raise into TryAgain, Wait or UserError; a full disk stays an OSError."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be downloaded; unset it") from error
    # hf_xet, which carries large files unless HF_HUB_DISABLE_XET is set, raises RuntimeError and ValueError.
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        chain = list(_causes(error))
        for cause in chain:
            if isinstance(cause, (TryAgain, Wait)):
                raise cause from None
        for cause in chain:
            if isinstance(cause, HfHubHTTPError):
                raise _refusal(cause, repo_id, repo_type, revision) from error
        first = next((cause for cause in chain if isinstance(cause, HTTPError)), None)
        if first is not None:
            raise TryAgain(f"cannot read from {host()}: {clean_text(first)}") from error
        if isinstance(error, OSError) and error.errno is not None and not _passes(error):
            raise
        raise TryAgain(clean_text(error)) from error


def _passes(error: OSError) -> bool:
    """Whether an error with a number is one of the network, or of another process that tidied up, not of the disk."""
    return isinstance(error, (ConnectionError, TimeoutError, FileNotFoundError))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _refusal(error: Any, repo_id: str, repo_type: str, revision: str | None) -> Exception:
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RevisionNotFoundError

    status = error.response.status_code
    with_token = "your token may not read it" if get_token() else "it is private: run `hf auth login`, or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        advice = f"{repo_id} is gated: accept its terms on its page, then run `hf auth login`, or set HF_TOKEN"
    elif isinstance(error, RevisionNotFoundError):
        advice = f"{repo_id} has no revision {revision!r}; leave --revision out, or name a branch, tag or commit"
    elif isinstance(error, RemoteEntryNotFoundError):
        name = urlsplit(str(error.response.request.url)).path
        advice = f"{name} is not in {repo_id} any more; --revision main takes the newest"
    elif status == 404:
        advice = f"there is no {repo_type} {repo_id}, or {with_token}. Check the name"
    elif status in (401, 403):
        advice = f"{repo_type} {repo_id} is refused; either there is none of this name, or {with_token}"
    else:
        advice = f"{error.server_message or 'no reason given'}"
    return UserError(f"{host()} answered {status}: {advice}")


def clean_text(error: BaseException) -> str:
    """The first line of an error, without the queries of addresses."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(https?://)(?:[^\s/@]*@)?([^\s?]*)\?[^\s'\"]*", r"\1\2", text)


class Patience:
    """How long to insist, shared by all workers: while the server asks one of them to wait, all do.

    A request is tried `tries` times, with pauses that double from `first_pause_s`; waits that the server asks for do
    not count as tries, but end with an error if none of them helped, or if one exceeds `longest_wait_s`.
    """

    def __init__(self, tries: int = 6, first_pause_s: float = 1.0, longest_wait_s: float = 900.0) -> None:
        self.tries, self.first_pause_s, self.longest_wait_s = tries, first_pause_s, longest_wait_s
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._closed_until = 0.0
        self._waits_in_a_row = 0

    def insist(self, what: str, call: Callable[[], T], tries: int | None = None) -> T:
        """The result of `call`, once it neither raises Wait nor TryAgain. DownloadFailed names `what`."""
        failures = 0
        while True:
            self._wait_for_turn()
            asked_at = time.monotonic()
            try:
                result = call()
            except Wait as wait:
                self._close(wait, asked_at)
            except TryAgain as error:
                failures += 1
                if failures >= (tries or self.tries):
                    raise DownloadFailed(f"{what}: {error} ({failures} tries)") from error
                pause = min(_LONGEST_PAUSE_S, self.first_pause_s * 2 ** (failures - 1)) * random.uniform(0.6, 1.4)
                say(f"{what}: {error}; try {failures + 1} of {tries or self.tries} in {pause:.1f} s")
                self._sleep(pause)
            else:
                with self._lock:
                    self._waits_in_a_row = 0
                return result

    def _wait_for_turn(self) -> None:
        while (left := self._closed_until - time.monotonic()) > 0:
            # Not all at the same instant.
            self._sleep(left + random.uniform(0.0, min(2.0, self.first_pause_s)))

    def _close(self, wait: Wait, asked_at: float) -> None:
        with self._lock:
            now = time.monotonic()
            if self._closed_until > asked_at:
                return  # another worker was told the same
            self._waits_in_a_row += 1
            if self._waits_in_a_row > _MOST_WAITS_IN_A_ROW:
                raise UserError(
                    f"{wait.host} still refuses after {_MOST_WAITS_IN_A_ROW} waits (429, too many requests). The same "
                    "command goes on where it was; try it later, or with a token (`hf auth login`)"
                )
            seconds = wait.seconds
            if seconds is None:
                seconds = min(_USUAL_WINDOW_S, self.first_pause_s * 10 * 2 ** (self._waits_in_a_row - 1))
            if seconds > self.longest_wait_s:
                raise UserError(
                    f"{wait.host} asks to wait {seconds:.0f} s, more than --longest_wait_s {self.longest_wait_s:.0f}. "
                    "The same command goes on where it was"
                )
            self._closed_until = now + seconds
        at = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
        say(f"{wait.host}: too many requests; waiting {seconds:.0f} s as it asks, until {at}")

    def _sleep(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise DownloadFailed("stopped")
