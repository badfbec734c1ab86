import json
import re

import pytest

from configs.errors import UserError
from leap.endpoint import Endpoint
from leap.judge.client import LanguageModelJudge, content_of
from leap.judge.judgements import SCALES
from leap.judge.ledger import TokenCounts, most_tokens
from leap.judge.options import JudgeOptions
from leap.judge.prompts import rubric_request
from leap.judge.rubric import read_rubric
from leap.judge.run import assignments_of
from tests.endpoint_server import Reply
from tests.judge.judge_server import FAULTS, Judge, honest, plans_in, reply, scores
from tests.judge.judging import PRICE, SECRET, ask, judge_of, rows_of
from tests.judge.review import MODELS, write_review


@pytest.fixture
def rows(tmp_path):
    return rows_of(write_review(tmp_path, rows=2, models=MODELS[:3]))


def events_in(folder, *kinds):
    lines = (folder / "requests.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["event"] in kinds or not kinds]


def one(rows, plan="1. Pick up the cup."):
    return [rubric_request(rows[0], plan, 0, JudgeOptions(seed=1))]


def rubric_assignments(rows):
    """One judgement."""
    assignments = assignments_of(rows[:1], MODELS[:1], JudgeOptions(repeats=1))
    return [assignment for assignment in assignments if assignment.model == MODELS[0]]


def test_what_was_answered_is_not_asked_again(server, rows, tmp_path):
    assignments = assignments_of(rows, MODELS[:3], JudgeOptions(repeats=1))
    first = judge_of(server, tmp_path / "j")
    said = ask(first, assignments)
    first.close()
    sent = len(server.requests)
    second = judge_of(server, tmp_path / "j")
    assert ask(second, assignments) == said
    assert len(server.requests) == sent
    assert second.history.spent == first.history.spent


def test_another_temperature_or_model_is_another_judge(server, rows, tmp_path):
    request = one(rows)[0]
    keys = {judge_of(server, tmp_path / "a").key(request)}
    for model, temperature in (("other", 1.0), ("judge", 0.0)):
        options = JudgeOptions(base_url=server.url, temperature=temperature)
        keys.add(LanguageModelJudge("j", Endpoint(options, model), tmp_path / model, options).key(request))
    assert len(keys) == 3


@pytest.mark.parametrize("fault", ["429 and when", "429", "500", "html", "cut", "drop"])
def test_a_passing_failure_is_tried_again(server, rows, tmp_path, fault):
    good = server.reply
    server.reply = lambda n, body: FAULTS[fault][0](body) if n == 0 else good(n, body)
    judge = judge_of(server, tmp_path / "j", concurrency=1)
    judge.ask(one(rows), None)
    assert (len(server.requests), len(judge.history.valid)) == (2, 1)


@pytest.mark.parametrize("fault", ["six", "text", "refusal", "length"])
def test_an_invalid_reply_is_asked_again_a_bounded_number_of_times_and_then_counted(server, rows, tmp_path, fault):
    server.reply = lambda n, body: FAULTS[fault][0](body)
    judge = judge_of(server, tmp_path / "j", max_asks=3)
    request = one(rows)[0]
    judge.ask([request], None)
    assert len(server.requests) == 3
    assert "asked 3 times" in judge.why_failed(request)
    spent = judge.history.spent
    assert spent.prompt == sum(
        json.loads(json.dumps(reply("", body)))["usage"]["prompt_tokens"] for body in server.requests
    )
    server.reply = Judge(server)
    judge.ask([request], None)  # a failed one is asked again in the next run
    assert len(judge.history.valid) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_at_once_and_is_not_tried_again(server, rows, tmp_path, status):
    server.reply = lambda n, body: Reply({"error": {"message": f"bad key {SECRET}"}}, status)
    judge = judge_of(server, tmp_path / "j", concurrency=1)
    with pytest.raises(UserError, match="Check OPENAI_API_KEY") as error:
        judge.ask(one(rows) + one(rows, "1. Other"), None)
    assert len(server.requests) == 1
    assert SECRET not in str(error.value) + (tmp_path / "j" / "requests.jsonl").read_text()


@pytest.mark.parametrize(
    "refusal",
    [
        Reply({"error": {"message": f"bad key {SECRET}"}}, 401),
        Reply({"detail": "not you"}, 403),
        Reply(b"<html>no such page</html>", 404),
        Reply({}, 307, headers={"Location": "http://127.0.0.1:9/v1"}),
        Reply({"error": {"message": "pay first", "code": "insufficient_quota"}}, 429),
    ],
    ids=lambda reply: str(reply.status),
)
def test_refusals_that_stop_the_run_are_kept_raw_and_cost_nothing(server, rows, tmp_path, refusal):
    refusal.delay_s = 0.1  # so that several are in flight
    server.reply = lambda n, body: refusal
    requests = [rubric_request(rows[0], f"1. Pick {i}", 0, JudgeOptions(seed=1)) for i in range(12)]
    for run in (1, 2):
        judge = judge_of(server, tmp_path / "j", concurrency=4)
        with pytest.raises(UserError):
            judge.ask(requests, 1.0)
        assert len(server.requests) == 4 * run
        judge.close()
    assert len(events_in(tmp_path / "j", "sent")) == 8
    for event in events_in(tmp_path / "j", "refused"):
        assert event["status"] == refusal.status
        said = refusal.body.decode() if isinstance(refusal.body, bytes) else json.dumps(refusal.body)
        assert event["body"] == said.replace(SECRET, "***")
    judge = judge_of(server, tmp_path / "j")
    assert (judge.usage()["unreported_requests"], judge.spent_at_most()) == (0, 0.0)
    assert judge.why_failed(requests[0]) is None  # it says nothing of the request
    server.reply = Judge(server)
    judge.ask(requests, 1.0)
    assert len(judge.history.valid) == 12


def test_replies_in_flight_when_the_key_is_refused_are_kept(server, rows, tmp_path):
    good = Judge(server)

    def reply_to(n, body):
        answer = good(n, body)
        answer.delay_s = 0.5
        return Reply({"error": {"message": "expired"}}, 401, delay_s=0.1) if n == 1 else answer

    server.reply = reply_to
    judge = judge_of(server, tmp_path / "j", concurrency=3)
    with pytest.raises(UserError, match="expired"):
        judge.ask([rubric_request(rows[0], f"1. Pick {i}", 0, JudgeOptions(seed=1)) for i in range(9)], None)
    assert (len(server.requests), len(judge.history.valid), len(judge.history.unreported)) == (3, 2, 0)


@pytest.mark.parametrize("key", ["1", "0", "a", "null", "completeness", "reasoning", "EMPTY-KEY"])
def test_a_key_that_stands_in_replies_by_chance_does_not_change_them(server, rows, tmp_path, key):
    request = one(rows)[0]
    judge = judge_of(server, tmp_path / "j", key=key)
    judge.ask([request], None)
    judge.close()
    [event] = events_in(tmp_path / "j", "reply")
    assert json.loads(event["body"]) == json.loads(json.dumps(reply(honest(server.requests[0]), server.requests[0])))
    again = judge_of(server, tmp_path / "j")
    assert read_rubric(content_of(again.history.valid[again.key(request)]))[0] == scores(2)


def test_a_key_that_the_judge_sends_back_is_not_kept(server, rows, tmp_path):
    said = json.dumps({"reasoning": f"I was called with {SECRET}.", "scores": scores(3)})
    server.reply = lambda n, body: Reply(reply(said, body))
    judge = judge_of(server, tmp_path / "j")
    judge.ask(one(rows), None)
    assert len(judge.history.valid) == 1
    server.reply = lambda n, body: Reply(reply(None, body, refusal=f"I cannot help {SECRET}"))
    other = one(rows, "1. Other")[0]
    judge.ask([other], None)
    assert "I cannot help ***" in judge.why_failed(other)
    assert SECRET not in (tmp_path / "j" / "requests.jsonl").read_text()


def test_a_key_that_the_judge_sends_back_in_escapes_is_not_kept_either(server, rows, tmp_path):
    escaped = "".join(f"\\u{ord(character):04x}" for character in SECRET)
    said = '{"reasoning": "I was called with ' + escaped + '.", "scores": ' + json.dumps(scores(3)) + "}"
    server.reply = lambda n, body: Reply(reply(said, body))
    judge = judge_of(server, tmp_path / "j")
    [request] = one(rows)
    judge.ask([request], None)
    assert read_rubric(content_of(judge.history.valid[judge.key(request)]))[1] == "I was called with ***."


def test_of_a_long_reply_only_what_counts_is_kept(server, rows, tmp_path):
    judge = judge_of(server, tmp_path / "j", max_asks=1)
    thought = "so " * 200_000
    server.reply = lambda n, body: Reply(reply(honest(body), body, reasoning_content=thought))
    [valid] = one(rows)
    judge.ask([valid], None)
    assert read_rubric(content_of(judge.history.valid[judge.key(valid)]))[0] == scores(2)
    server.reply = lambda n, body: Reply(reply(thought, body))
    [invalid] = one(rows, "1. Other")
    judge.ask([invalid], None)
    assert judge.why_failed(invalid) is not None
    assert (tmp_path / "j" / "requests.jsonl").stat().st_size < 200_000


def test_a_reply_that_cannot_be_read_from_the_journal_any_more_is_asked_again(server, rows, tmp_path):
    request = one(rows)[0]
    first = judge_of(server, tmp_path / "j")
    first.ask([request], None)
    first.close()
    path = tmp_path / "j" / "requests.jsonl"
    path.write_text(path.read_text().replace(": 2,", ": ***,"))
    judge = judge_of(server, tmp_path / "j")
    assert judge.why_failed(request) == "the reply in the journal cannot be read"
    judge.ask([request], None)
    judge.close()
    assert (len(server.requests), len(judge_of(server, tmp_path / "j").history.valid)) == (2, 1)


@pytest.mark.parametrize("line", ["{}", '{"event": "reply", "id": 0}', '{"event": "sent", "id": "x", "request": "y"}'])
def test_a_line_that_is_none_of_the_journals_is_named(server, tmp_path, line):
    (tmp_path / "requests.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"requests\.jsonl:1: not a line"):
        judge_of(server, tmp_path)


@pytest.mark.parametrize("refusal", [True, {"text": "no"}, ["no"], 3])
def test_a_reply_of_odd_types_is_no_completion_and_kept_raw(server, rows, tmp_path, refusal):
    server.reply = lambda n, body: Reply(reply(None, body, refusal=refusal))
    judge = judge_of(server, tmp_path / "j", max_retries=1)
    request = one(rows)[0]
    judge.ask([request], None)
    assert "the endpoint sent no chat completion" in judge.why_failed(request)
    events = events_in(tmp_path / "j", "failed")
    assert [(json.dumps({"refusal": refusal})[1:-1] in e["body"], e["may_cost"]) for e in events] == [(True, True)] * 2


@pytest.mark.parametrize(
    "counts", [[1, 2], "12", {"prompt_tokens": -5, "completion_tokens": 7}, {"prompt_tokens": True}]
)
def test_usage_that_cannot_be_true_counts_as_not_reported(server, rows, tmp_path, counts):
    server.reply = lambda n, body: Reply(reply(honest(body), body) | {"usage": counts})
    judge = judge_of(server, tmp_path / "j")
    judge.ask(one(rows), 1.0)
    assert (len(judge.history.valid), judge.history.spent, len(judge.history.unreported)) == (1, TokenCounts(), 1)


def test_half_an_emoji_can_be_printed_and_stored(server, rows, tmp_path):
    said = json.dumps({"reasoning": "good \ud83d", "scores": scores(3)})
    server.reply = lambda n, body: Reply(reply(said, body))
    [judgement] = ask(judge_of(server, tmp_path / "a"), rubric_assignments(rows))
    assert judgement.reasoning == "good ?"
    server.reply = lambda n, body: Reply(reply(None, body, refusal="no \ud83d"))
    [judgement] = ask(judge_of(server, tmp_path / "b"), rubric_assignments(rows))
    assert judgement.failure == "refused (no ?); asked 3 times"


def test_a_reply_in_another_encoding_is_no_completion(server, rows, tmp_path):
    server.reply = lambda n, body: Reply(json.dumps(reply(honest(body), body)).encode("utf-16"))
    judge = judge_of(server, tmp_path / "j", max_retries=0)
    judge.ask(one(rows), None)
    assert not judge.history.valid
    assert events_in(tmp_path / "j", "failed")


def test_a_request_that_the_endpoint_finds_wrong_is_not_tried_again(server, rows, tmp_path):
    server.reply = lambda n, body: Reply({"error": {"message": "the image is too large"}}, 400)
    judge = judge_of(server, tmp_path / "j")
    request = one(rows)[0]
    judge.ask([request], None)
    assert len(server.requests) == 1
    assert "image is too large" in judge.why_failed(request)


def test_an_endpoint_that_hangs_is_given_up_and_may_have_charged(server, rows, tmp_path):
    server.reply = lambda n, body: Reply(reply(honest(body), body), delay_s=20)
    judge = judge_of(server, tmp_path / "j", request_timeout_s=0.2, max_retries=1)
    request = one(rows)[0]
    judge.ask([request], None)
    assert "no answer within 0.2 s" in judge.why_failed(request)
    assert len(judge.history.unreported) == 2
    assert judge.history.most_unreported == most_tokens(request, PRICE, 1024) + most_tokens(request, PRICE, 1024)


def test_an_address_that_nobody_listens_at_costs_nothing(rows, tmp_path):
    options = JudgeOptions(base_url="http://127.0.0.1:9/v1", max_retries=0, concurrency=1)
    judge = LanguageModelJudge("j", Endpoint(options, "m"), tmp_path / "j", options, PRICE)
    judge.ask(one(rows), None)
    assert (len(judge.history.unreported), judge.spent_at_most()) == (0, 0.0)


def test_parameters_that_the_endpoint_does_not_take_are_left_out_for_good(server, rows, tmp_path):
    good = Judge(server)

    def picky(n, body):
        if "response_format" in body:
            return Reply({"error": {"message": "response_format json_schema is not supported"}}, 400)
        if "max_tokens" in body:
            return Reply(
                {"error": {"message": "Unsupported parameter: 'max_tokens', use 'max_completion_tokens'"}}, 400
            )
        if "temperature" in body:
            return Reply({"error": {"message": "Unsupported value: 'temperature'"}}, 400)
        return good(n, body)

    server.reply = picky
    judge = judge_of(server, tmp_path / "j", concurrency=1)
    judge.ask(one(rows) + one(rows, "1. Other"), None)
    assert len(judge.history.valid) == 2
    assert len(server.requests) == 3 + 2
    assert server.requests[-1]["max_completion_tokens"] == 1024
    left_out = ["max_tokens", "response_format", "temperature"]
    assert judge.usage()["parameters_left_out"] == left_out
    assert [event["left_out"] for event in events_in(tmp_path / "j", "sent")][-1] == left_out
    judge.close()
    cached = judge_of(server, tmp_path / "j")
    cached.ask(one(rows), None)
    assert (len(server.requests), cached.usage()["parameters_left_out"]) == (3 + 2, left_out)


def test_the_schema_is_asked_for_strictly(server, rows, tmp_path):
    judge_of(server, tmp_path / "j").ask(one(rows), None)
    wanted = server.requests[0]["response_format"]["json_schema"]
    assert wanted["strict"] is True
    inner = wanted["schema"]["properties"]["scores"]
    assert (inner["additionalProperties"], set(inner["required"])) == (False, set(SCALES))


def test_repeats_are_asked_with_different_seeds(server, rows, tmp_path):
    requests = [rubric_request(rows[0], "1. Pick", repeat, JudgeOptions(seed=1)) for repeat in range(3)]
    judge_of(server, tmp_path / "j").ask(requests, None)
    assert len({body["seed"] for body in server.requests}) == 3


def test_the_budget_is_never_passed_and_the_rest_goes_on_with_a_larger_one(server, rows, tmp_path, capsys):
    assignments = assignments_of(rows, MODELS[:3], JudgeOptions(repeats=3))
    one_at_most = max(most_tokens(a.request, PRICE, 1024).cost(PRICE) for a in assignments)
    judge = judge_of(server, tmp_path / "j")
    said = ask(judge, assignments, budget=3.5 * one_at_most)
    assert f"{len(assignments)}/{len(assignments)}" not in capsys.readouterr().out  # what was not asked is no progress
    assert 0 < len(said) < len(assignments)  # what was not asked is no failure
    assert not [each for each in said if each.failure]
    assert judge.spent_at_most() <= 3.5 * one_at_most
    said = ask(judge, assignments, budget=1000 * one_at_most)
    assert len(said) == len(assignments)


def test_a_budget_counts_what_earlier_runs_spent(server, rows, tmp_path):
    first = judge_of(server, tmp_path / "j")
    first.ask(one(rows), 1.0)
    first.close()
    again = judge_of(server, tmp_path / "j")
    request = rubric_request(rows[0], "1. Another", 0, JudgeOptions(seed=1))
    again.ask([request], again.spent_at_most() + most_tokens(request, PRICE, 1024).cost(PRICE) * 0.99)
    assert len(server.requests) == 1
    assert again.key(request) not in again.history.valid


def test_usage_that_is_not_reported_is_counted_at_its_most(server, rows, tmp_path):
    server.reply = lambda n, body: Reply({k: v for k, v in reply(honest(body), body).items() if k != "usage"})
    judge = judge_of(server, tmp_path / "j")
    judge.ask(one(rows), None)
    assert (judge.history.spent.prompt, len(judge.history.unreported)) == (0, 1)
    assert judge.spent_at_most() > 0


def test_raw_replies_are_kept_also_the_bad_ones(server, rows, tmp_path):
    bad = FAULTS["six"][0]
    good = Judge(server)
    server.reply = lambda n, body: bad(body) if n == 0 else good(n, body)
    judge_of(server, tmp_path / "j").ask(one(rows), None)
    events = events_in(tmp_path / "j", "sent", "reply")
    assert [event.get("outcome") for event in events] == [None, "invalid", None, "valid"]
    assert "completeness" in events[1]["body"]


def test_what_the_judge_was_shown_is_written_once_pictures_by_their_hashes(server, rows, tmp_path):
    judge = judge_of(server, tmp_path / "j")
    judge.ask([rubric_request(rows[0], "1. Pick", repeat, JudgeOptions(seed=1)) for repeat in range(3)], None)
    judge.close()
    again = judge_of(server, tmp_path / "j")
    again.ask([rubric_request(rows[0], "1. Pick", 3, JudgeOptions(seed=1))], None)
    [prompt] = events_in(tmp_path / "j", "prompt")
    shown = server.requests[0]["messages"]
    sent = events_in(tmp_path / "j", "sent")
    nonce = next(event["nonce"] for event in sent if event["nonce"] in shown[0]["content"])
    assert prompt["system"].replace("NONCE", nonce) == shown[0]["content"]
    texts = [part["text"] for part in shown[1]["content"] if part["type"] == "text"]
    assert [prompt[name].replace("NONCE", nonce) for name in ("before", "after")] == texts
    assert prompt["pictures"] == rows[0].hashes
    assert [event["prompt"] for event in sent] == [prompt["prompt"]] * 4
    assert len({event["nonce"] for event in sent}) == 4


def test_two_processes_cannot_write_one_journal(server, rows, tmp_path):
    first = judge_of(server, tmp_path / "j")
    with pytest.raises(UserError, match="another process"):
        judge_of(server, tmp_path / "j")
    first.close()


def test_a_plan_of_50000_characters_is_cut_and_the_judge_is_told(server, rows, tmp_path):
    long = "1) Go on. " + " ".join(f"{i}) Turn the knob number {i} once more." for i in range(2, 1400))
    assert len(long) > 50_000
    judge_of(server, tmp_path / "j").ask(one(rows, long), None)
    shown = plans_in(server.requests[0])[0]
    assert len(shown) < 8_100
    assert re.search(rf"\[cut here; the plan goes on, {len(long):,} characters in all\]", shown)


def test_scores_that_are_no_scores_are_refused_whatever_their_form(server, rows, tmp_path):
    contents = [
        "[]",
        "null",
        "five stars",
        json.dumps({"scores": scores(3)}),
        json.dumps({"reasoning": "", "scores": {}}),
    ]
    contents += [json.dumps({"reasoning": "x", "scores": scores(value)}) for value in (0, 6, -1, 4.5, "4", None, True)]
    for i, content in enumerate(contents):
        server.reply = lambda n, body, content=content: Reply(reply(content, body))
        judge = judge_of(server, tmp_path / f"j{i}", max_asks=1)
        judge.ask(one(rows), None)
        assert not judge.history.valid, content
