"""Requests to an endpoint: how many at once, what is tried again, what stops the run, and what stays secret."""

import base64
import gzip
import json
import os
import signal
import socket
import time
import tracemalloc
from threading import Timer

import pytest

from configs.errors import UserError
from leap import endpoint
from leap.endpoint import Endpoint
from leap.models.answer import Answer
from leap.planners import MachineFailure
from leap.planners.endpoint import EndpointPlanner
from tests.endpoint_planner import SECRET, QuickOptions, ask, planner_of, query, refused_once
from tests.endpoint_server import Reply, completion, serving


def test_so_many_requests_are_in_flight_and_no_prompt_is_prepared_before_its_turn(server):
    server.reply = lambda n, body: Reply(completion(body["messages"][0]["content"][0]["text"]), delay_s=0.1)
    drawn = []
    queries = [query(f"{i}") for i in range(12)]
    stream = planner_of(server, concurrency=4).answer(drawn.append(q) or [q] for q in queries)
    answers = {}
    for answered in stream:
        answers |= {asked.key: answer.text for asked, answer in answered}
        assert len(drawn) <= len(answers) + 4
    assert answers == {q.key: q.key for q in queries}
    assert server.most_in_flight == 4


def test_an_answer_comes_out_before_a_slower_one_that_was_asked_first(server):
    server.reply = lambda n, body: Reply(completion(), delay_s=30.0 if "slow" in json.dumps(body) else 0.0)
    stream = planner_of(server, concurrency=2).answer([[query("slow")], [query("quick")]])
    [(asked, _)] = next(stream)
    assert asked.key == "quick"
    stream.close()


def test_who_stops_listening_leaves_no_request_behind(server):
    server.reply = lambda n, body: Reply(completion(), delay_s=0.3 if n == 0 else 30.0)
    stream = planner_of(server, concurrency=3).answer([[query(f"{i}")] for i in range(50)])
    next(stream)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 2
    deadline = time.monotonic() + 5
    while server.in_flight and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (len(server.requests), server.hung_up, server.in_flight) == (3, 2, 0)


def test_ctrl_c_ends_a_wait_at_once(server):
    server.reply = lambda n, body: Reply(completion(), delay_s=30.0)
    timer = Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(planner_of(server, concurrency=2), query("a"), query("b"), query("c"))
    timer.join()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"message": "boom"}}, 500),
        Reply({"error": {"message": "wait"}}, 408),
        Reply(b"<html><body>Bad gateway</body></html>", 502),
        Reply(b"<html><body>Welcome</body></html>", headers={"Content-Type": "text/html"}),
        Reply(json.dumps(completion()).encode()[:40]),
        Reply(completion(), cut=True),
        Reply({"choices": []}),
        Reply({"choices": [{"message": None}]}),
        Reply([1]),
        Reply(b"\xff\xfe\x00"),
        Reply(completion(finish="abort")),
        Reply(completion(finish=["stop"])),
        Reply(completion(content={"text": "no"})),
        Reply(completion(refusal=True)),
        Reply(completion(refusal={"text": "no"})),
        Reply(drop=True),
    ],
    ids=lambda reply: f"{reply.status} {str(reply.body)[:30]}{' cut' * reply.cut}{' drop' * reply.drop}",
)
def test_a_passing_trouble_is_tried_again(server, reply):
    server.reply_in_turn(reply, reply)
    assert ask(planner_of(server), query()) == {"plan": Answer("ok", 3, "end")}
    assert len(server.requests) == 3


def test_tries_are_bounded_and_the_failure_names_its_reason(server):
    server.reply_in_turn(*[Reply({"error": {"message": f"out of   luck, {SECRET}"}}, 500)] * 9)
    failure = ask(planner_of(server, concurrency=2), query())["plan"]
    assert isinstance(failure, MachineFailure)
    assert str(failure) == f"{server.url} answered 500: out of luck, ***; tried 4 times"
    assert len(server.requests) == 4


def test_no_wait_is_longer_than_the_bound(server, monkeypatch):
    monkeypatch.setattr(endpoint, "LONGEST_WAIT_S", 0.1)
    server.reply_in_turn(Reply(status=429, headers={"Retry-After": "86400"}))
    assert ask(planner_of(server), query()) == {"plan": Answer("ok", 3, "end")}


def test_used_up_quota_stops_the_run(server):
    server.reply_in_turn(Reply({"error": {"message": "pay first", "code": "insufficient_quota"}}, 429))
    refused_once(planner_of(server), "pay first")


@pytest.mark.parametrize(
    ("status", "match"),
    [
        (401, "401: bad key.*OPENAI_API_KEY"),
        (403, "403: bad key.*OPENAI_API_KEY"),
        (404, "404: bad key.*--model served"),
    ],
)
def test_wrong_key_address_or_model_stop_the_run_at_once(server, status, match):
    server.reply_in_turn(Reply({"error": {"message": f"bad key {SECRET}"}}, status))
    refused_once(planner_of(server), match)
    assert len(server.requests) == 1


def test_answers_that_came_before_a_refusal_are_handed_over(server):
    server.reply_in_turn(Reply(completion("first")), Reply({"detail": "who are you"}, 401))
    stream = planner_of(server).answer([[query("a")], [query("b")]])
    assert [answer.text for _, answer in next(stream)] == ["first"]
    with pytest.raises(UserError, match="who are you"):
        next(stream)


def test_answers_in_flight_at_a_refusal_are_handed_over_and_no_more_is_asked(server):
    def reply(n, body):
        return Reply({"detail": "expired"}, 401, delay_s=0.1) if n == 1 else Reply(completion(f"{n}"), delay_s=0.4)

    server.reply = reply
    planner, found = planner_of(server, concurrency=3), []
    with pytest.raises(UserError, match="expired"):
        for answered in planner.answer(planner.batches([query(f"{i}") for i in range(9)])):
            found += [answer.text for _, answer in answered]
    assert (sorted(found), len(server.requests)) == (["0", "2"], 3)


def test_a_refusal_does_not_wait_for_pauses_or_for_ever(server, monkeypatch):
    monkeypatch.setattr(endpoint, "LAST_REPLIES_S", 0.3)
    replies = [
        Reply({"error": {"message": "busy"}}, 429, headers={"Retry-After": "60"}),
        Reply({"detail": "expired"}, 401, delay_s=0.3),
        Reply(completion(), delay_s=30),
    ]
    server.reply_in_turn(*replies)
    began = time.monotonic()
    with pytest.raises(UserError, match="expired"):
        ask(planner_of(server, concurrency=3, request_timeout_s=60.0), *[query(f"{i}") for i in range(9)])
    assert time.monotonic() - began < 5
    assert len(server.requests) == 3


@pytest.mark.parametrize("key", ["0", "1", "none", "EMPTY"])
def test_a_placeholder_of_a_key_is_no_secret_and_leaves_messages_as_they_are(server, key):
    server.reply_in_turn(*[Reply({"error": {"message": "EMPTY none 10"}}, 500)] * 2)
    planner = planner_of(server, key=key, max_retries=0)
    assert str(ask(planner, query())["plan"]) == f"{server.url} answered 500: EMPTY none 10"


def test_a_redirect_is_not_followed(server):
    with serving() as elsewhere:
        target = elsewhere.url + "/chat/completions"
        server.reply_in_turn(Reply({}, 307, headers={"Location": target}))
        refused_once(planner_of(server), "redirects, which is not followed")
        assert elsewhere.requests == []


def test_a_prompt_that_is_too_long_fails_alone_and_is_not_tried_again(server):
    def reply(n, body):
        long = "long" in json.dumps(body)
        return Reply({"error": {"message": "context is 4096"}}, 400) if long else Reply(completion())

    server.reply = reply
    answers = ask(planner_of(server), query("short"), *[query(f"long {i}") for i in range(9)], query("short 2"))
    assert len(server.requests) == 11
    assert str(answers["long 3"]) == f"{server.url} answered 400: context is 4096"
    assert answers["short"] == answers["short 2"] == Answer("ok", 3, "end")


def test_an_endpoint_that_refuses_every_prompt_in_the_same_words_stops_the_run(server):
    server.reply = lambda n, body: Reply({"detail": "pinned to another model"}, 400)
    with pytest.raises(UserError, match="6 requests in a row brought no answer, the last: .*pinned to another model"):
        ask(planner_of(server, concurrency=2), *[query(f"{i}") for i in range(50)])


def test_nothing_at_the_address_stops_the_run_soon():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        options = QuickOptions(base_url=f"http://127.0.0.1:{closed.getsockname()[1]}/v1", concurrency=4, max_retries=6)
        planner = EndpointPlanner(Endpoint(options, "m"), options)
        began = time.monotonic()
        with pytest.raises(UserError, match=r"12 requests in a row .* to http://127.0.0.1:\d+/v1 failed .*Errno"):
            ask(planner, *[query(f"{i}") for i in range(4500)])
        assert time.monotonic() - began < 5


def test_an_endpoint_that_answered_is_given_more_patience(server):
    server.reply = lambda n, body: Reply(completion(), drop=n > 0)
    planner, found = planner_of(server), []
    with pytest.raises(UserError, match="12 requests in a row"):
        for answered in planner.answer(planner.batches([query(f"{i}") for i in range(50)])):
            found += [answer for _, answer in answered]
    assert found[0] == Answer("ok", 3, "end")
    assert ["tried 4 times" in str(failure) for failure in found[1:]] == [True, True]


@pytest.mark.parametrize("reply", [Reply(completion(), delay_s=30), Reply(completion(), trickle_s=0.1)])
def test_a_server_that_does_not_come_to_an_end_is_a_failure(server, reply):
    server.reply = lambda n, body: reply
    began = time.monotonic()
    failure = ask(planner_of(server, request_timeout_s=0.3, max_retries=1), query())["plan"]
    assert str(failure) == "no answer within 0.3 s; tried 2 times"
    assert time.monotonic() - began < 3


def test_a_password_in_the_address_goes_to_the_server_and_nowhere_else(server):
    server.reply_in_turn(Reply({"error": {"message": "no"}}, 500))
    planner = planner_of(server, key=None, base_url=server.url.replace("//", "//me:pass%3Aword@"), max_retries=0)
    failure = ask(planner, query())["plan"]
    assert planner.identity()["endpoint"] == server.url
    assert "pass" not in f"{failure} {planner.identity()}"
    assert base64.b64decode(server.headers[0]["Authorization"].removeprefix("Basic ")) == b"me:pass:word"


def test_an_address_that_is_none_is_an_error_that_does_not_repeat_it():
    for wrong in ("me:password@host/v1", "ftp://me:password@host", "http://me:password@host:x/v1", "http://h?password"):
        with pytest.raises(UserError, match="must be http") as error:
            Endpoint(QuickOptions(base_url=wrong), "m")
        assert "password" not in str(error.value)


def test_a_key_that_no_header_can_carry_is_an_error_that_does_not_repeat_it():
    for wrong in (SECRET + "\n", "clef-\xe9" + SECRET):
        with pytest.raises(UserError, match="OPENAI_API_KEY holds") as error:
            Endpoint(QuickOptions(base_url="http://127.0.0.1:9/v1"), "m", wrong)
        assert SECRET not in str(error.value)


def test_this_machine_is_reached_without_the_proxy_of_the_environment(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(planner_of(server), query()) == {"plan": Answer("ok", 3, "end")}


def packed(body, encoding="gzip", **reply):
    return Reply(gzip.compress(body), headers={"Content-Encoding": encoding}, **reply)


BOMB = json.dumps(completion()).encode() + b" " * 60 * 2**20  # 60 KB packed


@pytest.mark.parametrize("status", [200, 500])
def test_a_packed_reply_is_not_inflated_beyond_what_an_answer_may_have(server, status):
    bomb = packed(BOMB, status=status)
    server.reply = lambda n, body: bomb
    planner = planner_of(server, max_retries=0, concurrency=1)
    tracemalloc.start()
    failure = ask(planner, query())["plan"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(failure) == "the endpoint sent a reply of more than 8,388,608 bytes"
    assert peak < 4 * endpoint.MOST_BODY_BYTES


def test_a_long_reply_is_not_read_to_its_end_and_a_long_answer_is_none(server):
    server.reply_in_turn(
        Reply(b"x" * (endpoint.MOST_BODY_BYTES + 1)), Reply(completion("x" * (endpoint.MOST_TEXT + 1)))
    )
    planner = planner_of(server, max_retries=0, concurrency=2)
    first, second = ask(planner, query("a"), query("b")).values()
    assert {str(first)[:40], str(second)[:40]} == {
        "the endpoint sent a reply of more than 8",
        'the endpoint sent no chat completion: {"',
    }


def test_a_packed_reply_of_ordinary_length_is_read(server):
    server.reply_in_turn(packed(json.dumps(completion("packed")).encode()), packed(b"", "br"))
    planner = planner_of(server, max_retries=0)
    assert ask(planner, query())["plan"].text == "packed"
    assert server.headers[0]["Accept-Encoding"] == "identity"
    assert "packed by 'br'" in str(ask(planner, query())["plan"])


ESCAPED = "".join(f"\\u{ord(character):04X}" for character in SECRET)


@pytest.mark.parametrize(
    "echo",
    [
        SECRET,
        ESCAPED,
        ESCAPED.replace("\\", "\\\\"),
        base64.b64encode(b"someone:pass word/1").decode(),
        "someone:pass word/1",
        "pass%20word%2F1",
        r"pass word\/1",
    ],
    ids=["key", "escaped key", "key escaped twice", "token", "pair", "as in the address", "escaped password"],
)
def test_no_credential_comes_back_in_an_error_however_it_is_written(server, echo):
    server.url = server.url.replace("//", "//someone:pass%20word%2F1@")
    planner = planner_of(server, max_retries=0)
    body = b'{"error": {"message": "I got <' + echo.encode() + b'>"}}'
    server.reply = lambda n, asked: Reply(body, 500)
    assert str(ask(planner, query())["plan"]).endswith("answered 500: I got <***>")
    server.reply = lambda n, asked: Reply(completion(f"I got <{echo}>"))
    assert ask(planner, query())["plan"].text == "I got <***>"
