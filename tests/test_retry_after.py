"""A busy endpoint is waited for as long as it asks."""

import email.utils
import time

import pytest

from leap.models.answer import Answer
from tests.endpoint_planner import ask, planner_of, query
from tests.endpoint_server import Reply


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date", "none", "nonsense"])
def test_a_busy_endpoint_is_waited_for_as_long_as_it_asks(server, form, status):
    asked = {
        "seconds": {"Retry-After": "0.5"},
        "date": {"Retry-After": email.utils.formatdate(time.time() + 1.6, usegmt=True)},  # whole seconds: 0.6 to 1.6
        "none": {},
        "nonsense": {"Retry-After": "soon"},
    }[form]
    server.reply_in_turn(Reply({"error": {"message": "slow down"}}, status, headers=asked))
    began = time.monotonic()
    assert ask(planner_of(server), query()) == {"plan": Answer("ok", 3, "end")}
    assert time.monotonic() - began > {"seconds": 0.5, "date": 0.4}.get(form, 0.0)
