"""A planner that asks the tests' own endpoint, with short waits."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.blind.options import OutputOptions
from leap.endpoint import Endpoint
from leap.planners import Query
from leap.planners.endpoint import EndpointPlanner

SECRET = "sk-very-secret-0123456789"


@dataclass(frozen=True)
class QuickOptions(OutputOptions):
    """With drawing, and with short waits."""

    concurrency: int = 1
    backoff_s: float = 0.01
    max_retries: int = 3
    request_timeout_s: float = 10.0


def planner_of(server, model="served", key=SECRET, **options) -> EndpointPlanner:
    options = QuickOptions(**{"base_url": server.url} | options)
    return EndpointPlanner(Endpoint(options, model, key), options)


def query(text="plan", *pictures: Path, blank=False) -> Query:
    items = [{"type": "image", "image": str(path)} for path in pictures] + [{"type": "text", "text": text}]
    return Query(text, "task", [{"role": "user", "content": items}], blank)


def ask(planner, *queries):
    """The answers by key."""
    found = [pair for answered in planner.answer(planner.batches(queries)) for pair in answered]
    assert len({asked.key for asked, _ in found}) == len(found)
    return {asked.key: answer for asked, answer in found}


def refused_once(planner, match) -> str:
    with pytest.raises(UserError, match=match) as error:
        ask(planner, query())
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)
