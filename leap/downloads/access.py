"""The way to the Hub: which host is asked, what its answers mean, and how long to insist.

Each 429, 5xx and lost connection comes back to `RetryPolicy`, which waits as the server says, tries again with a bound,
and says so. What more tries cannot mend is a UserError. No message holds a token or an address with its query, which
may be signed.
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
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from configs.errors import UserError
from leap.files import is_disk_full
from leap.progress import say
from leap.retry_after import retry_after_s
from leap.text import first_line

T = TypeVar("T")

MIRROR = "https://hf-mirror.com"
_SILENCE_S = 60.0  # without an answer, where the library sets no limit
_LONGEST_PAUSE_S = 60.0  # between two tries, unless the server asks for more
_USUAL_WINDOW_S = 300.0  # the Hub counts requests in windows of five minutes
_MOST_WAITS = 8
# hf_xet asks the Hub for a token of its own, at .../xet-read-token/...
_XET_TOKEN = re.compile(r"/xet-[a-z-]*token\b")
_XET_ADVICE = "HF_HUB_DISABLE_XET=1 takes plain HTTP"


class TransientError(Exception):
    """A request that failed in a way that may pass; the text is the reason."""


class RateLimited(Exception):
    """The server asks to come back later, in `seconds` if it says."""

    def __init__(self, host_name: str, seconds: float | None) -> None:
        super().__init__(f"{host_name} asks to wait")
        self.host_name, self.seconds = host_name, seconds


class DownloadFailed(Exception):
    """All tries are used up; the text says what failed how. Later it may work."""


class NoSpace(UserError):
    """The disk is full."""


def checked_repo_id(repo_id: str) -> str:
    """`repo_id` itself; UserError unless it is `owner/name` as the Hub allows."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"repo id {repo_id!r} is malformed: {error}. Use owner/name, as in me/my-planner") from error
    if repo_id.count("/") != 1:
        raise UserError(f"repo id {repo_id!r} names no owner; use owner/name, as in me/my-planner")
    return repo_id


def choose_host(*, mirror: bool) -> None:
    """Fix the host that is asked, before huggingface_hub is imported and reads it from the environment.

    It is the library's default, or HF_ENDPOINT; `mirror` takes the well-known mirror, without Xet (large files then
    come over plain HTTP) and without the user's token. The library's usage statistics are off unless the user has set
    them.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    endpoint = os.environ.get("HF_ENDPOINT", "")
    if endpoint and not re.match(r"https?://[^\s/]+", endpoint):
        raise UserError(f"HF_ENDPOINT is {endpoint!r}; it must be an address such as https://huggingface.co")
    if not mirror:
        return
    if endpoint.rstrip("/") not in ("", MIRROR):
        raise UserError(f"HF_ENDPOINT names {_host(endpoint)} and --mirror means {_host(MIRROR)}; leave one out")
    if "huggingface_hub" in sys.modules:
        raise RuntimeError("huggingface_hub is imported already, so the mirror would not be asked")
    os.environ |= {"HF_ENDPOINT": MIRROR, "HF_HUB_DISABLE_XET": "1"}
    os.environ.setdefault("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    say(
        f"asking the mirror {_host(MIRROR)}, which others run: it carries no Xet data, so large files come over "
        "plain HTTP, and your token is not sent to it"
    )


def mirror_advice() -> str:
    """What to try where the Hub itself cannot be reached; nothing where another host is asked already."""
    if os.environ.get("HF_ENDPOINT", "").rstrip("/") in ("", "https://huggingface.co"):
        return f"Where huggingface.co cannot be reached, --mirror asks {_host(MIRROR)}"
    return ""


def host() -> str:
    """Name (and port) of the host that is asked."""
    from huggingface_hub import HfApi

    return _host(HfApi().endpoint)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


@cache
def prepare_client() -> None:
    """Make the library's client raise at each 429 and 5xx, which it would wait out in silence; hide its messages."""
    from huggingface_hub import get_session, logging, set_client_factory

    default = get_session()
    hooks = default.event_hooks
    hooks["response"] = [*hooks["response"], _raise_transient]
    set_client_factory(lambda: type(default)(event_hooks=hooks, follow_redirects=True, timeout=_SILENCE_S))
    logging.set_verbosity_error()


def _raise_transient(response: Any) -> None:
    from huggingface_hub.utils import parse_ratelimit_headers

    status, host_name = response.status_code, _host(str(response.request.url))
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        seconds: float | None = limit.reset_in_seconds
    else:
        seconds = retry_after_s(response.headers.get("Retry-After"))
    if status == 429 or (status == 503 and seconds is not None):
        raise RateLimited(host_name, seconds)
    if status == 408 or status >= 500:
        raise TransientError(f"{host_name} answered {status}")
    if status in (401, 403) and host_name != host():
        raise TransientError(f"{host_name} answered {status}; its signed address may be too old")


@contextmanager
def plain_errors(repo_id: str, repo_type: str, revision: str | None) -> Iterator[None]:
    """Turn what the library can raise into TransientError, RateLimited or UserError (NoSpace for a full disk)."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    # hf_xet, which carries large files unless HF_HUB_DISABLE_XET is set, raises RuntimeError and ValueError too.
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise _plain_error(error, repo_id, repo_type, revision) from None


def _plain_error(error: Exception, repo_id: str, repo_type: str, revision: str | None) -> Exception:
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    chain = _causes(error)
    for cause in chain:
        if isinstance(cause, (TransientError, RateLimited, DownloadFailed)):
            return cause
        if isinstance(cause, OfflineModeIsEnabled):
            return UserError("HF_HUB_OFFLINE is set, so nothing can be downloaded; unset it")
        if isinstance(cause, HfHubHTTPError):
            return _refusal(cause, repo_id, repo_type, revision)
    if is_disk_full(error):
        return NoSpace("no space left on the disk")
    for cause in chain:
        if isinstance(cause, HTTPError):
            return TransientError(f"cannot read from {host()}: {clean_text(cause)}")
    # An OSError with a number is the disk's, but for those of the network, or of another process that tidied up.
    passing = (ConnectionError, TimeoutError, FileNotFoundError)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, passing):
        return UserError(f"cannot write {error.filename}: {error.strerror or error}")
    # A size that is not the listed one comes with the end of a signed address in parentheses.
    reason = clean_text(error).partition(" (")[0]
    return TransientError(f"{reason}; {_XET_ADVICE}" if isinstance(error, RuntimeError) else reason)


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _refusal(error: Any, repo_id: str, repo_type: str, revision: str | None) -> Exception:
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RevisionNotFoundError

    status, path = error.response.status_code, urlsplit(str(error.response.request.url)).path
    with_token = "your token may not read it" if get_token() else "it is private: run `hf auth login`, or set HF_TOKEN"
    if _XET_TOKEN.search(path):
        return TransientError(f"{host()} gives no token for Xet ({status}); {_XET_ADVICE}")
    if isinstance(error, GatedRepoError):
        advice = f"{repo_id} is gated: accept its terms on its page, then run `hf auth login`, or set HF_TOKEN"
    elif isinstance(error, RevisionNotFoundError):
        advice = f"{repo_id} has no revision {revision!r}; leave --revision out, or name a branch, tag or commit"
    elif isinstance(error, RemoteEntryNotFoundError):
        advice = f"{path} is not in {repo_id} any more; --revision main takes the newest"
    elif status == 404:
        advice = f"there is no {repo_type} {repo_id}, or {with_token}. Check the name"
    elif status in (401, 403):
        advice = f"{repo_type} {repo_id} is refused; either there is none of this name, or {with_token}"
    else:
        advice = error.server_message or "no reason given"
    return UserError(f"{host()} answered {status}: {advice}")


def clean_text(error: BaseException) -> str:
    """The first line of an error, without the queries of addresses."""
    text = first_line(error)
    return re.sub(r"(https?://)(?:[^\s/@]*@)?([^\s?]*)\?[^\s'\"]*", r"\1\2", text)


@dataclass
class RetryPolicy:
    """How long to insist, shared by all workers: while the server asks one of them to wait, all do.

    A request is tried `tries` times, with pauses that double from `first_pause_s`; waits that the server asks for do
    not count as tries, but end with an error if none of them helped, or if one exceeds `longest_wait_s`.
    """

    tries: int = 6
    first_pause_s: float = 1.0
    longest_wait_s: float = 900.0
    stopped: threading.Event = field(default_factory=threading.Event)
    _opens: float = 0.0  # on the monotonic clock

    def call(self, what: str, request: Callable[[], T]) -> T:
        """The result of `request`, once it raises neither RateLimited nor TransientError; DownloadFailed names
        `what`."""
        failures = waits = 0
        while True:
            while (left := self._opens - time.monotonic()) > 0:
                self._sleep(left + random.uniform(0.0, min(2.0, self.first_pause_s)))  # not all at the same instant
            try:
                return request()
            except RateLimited as limit:
                waits += 1
                self._close(limit, waits)
            except TransientError as error:
                failures += 1
                if failures >= self.tries:
                    raise DownloadFailed(f"{what}: {error} ({failures} tries)") from error
                pause = min(_LONGEST_PAUSE_S, self.first_pause_s * 2 ** (failures - 1)) * random.uniform(0.6, 1.4)
                say(f"{what}: {error}; try {failures + 1} of {self.tries} in {pause:.1f} s")
                self._sleep(pause)

    def _close(self, limit: RateLimited, waits: int) -> None:
        if waits > _MOST_WAITS:
            raise UserError(
                f"{limit.host_name} still refuses after {_MOST_WAITS} waits (429, too many requests). The same command "
                "goes on where it was; try it later, or with a token (`hf auth login`)"
            )
        seconds = limit.seconds
        if seconds is None:
            seconds = min(_USUAL_WINDOW_S, self.first_pause_s * 10 * 2 ** (waits - 1))
        if seconds > self.longest_wait_s:
            raise UserError(
                f"{limit.host_name} asks to wait {seconds:.0f} s, more than --longest_wait_s "
                f"{self.longest_wait_s:.0f}. The same command goes on where it was"
            )
        opens = time.monotonic() + seconds
        if opens > self._opens + 1.0:  # else another worker has heard the same
            clock = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
            say(f"{limit.host_name}: too many requests; waiting {seconds:.0f} s as it asks, until {clock}")
        self._opens = max(self._opens, opens)

    def _sleep(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise DownloadFailed("stopped")
