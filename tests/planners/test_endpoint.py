"""The planner that asks an endpoint: what it sends, and what of a reply is an answer."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from configs.errors import UserError
from leap.models.answer import Answer
from leap.planners import MachineFailure, Query, UnreadablePicture, open_planner
from leap.vlabench.options import EvaluationOptions
from tests.endpoint_planner import SECRET, ask, planner_of, query
from tests.endpoint_server import Reply, completion


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    for name, size in (("a.png", (8, 6)), ("b.jpg", (10, 4))):
        Image.new("RGB", size, "red").save(tmp_path / name)
    return [tmp_path / "a.png", tmp_path / "b.jpg"]


def test_the_prompt_goes_out_in_its_order_with_the_very_bytes_of_the_pictures(server, pictures):
    system = {"role": "system", "content": [{"type": "text", "text": "be brief"}]}
    items = [{"type": "text", "text": "one"}, {"type": "image", "image": str(pictures[0])}]
    items += [{"type": "image", "image": str(pictures[1])}, {"type": "text", "text": "two\n"}]
    ask(planner_of(server, max_new_tokens=77), Query("k", "t", [system, {"role": "user", "content": items}]))
    [sent] = server.requests
    assert sent["messages"][0] == system
    parts = sent["messages"][1]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "image_url", "text"]
    assert [parts[0]["text"], parts[3]["text"]] == ["one", "two\n"]
    for part, path, kind in zip(parts[1:3], pictures, ("png", "jpeg"), strict=True):
        head, _, data = part["image_url"]["url"].partition(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(data) == path.read_bytes()
    assert {key: sent[key] for key in ("model", "temperature", "max_tokens")} == {
        "model": "served",
        "temperature": 0,
        "max_tokens": 77,
    }
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"


def test_blank_pictures_are_grey_and_of_the_same_size(server, pictures):
    ask(planner_of(server), query("plan", *pictures, blank=True))
    for part, path in zip(server.requests[0]["messages"][0]["content"], pictures, strict=False):
        shown = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
        assert shown.size == Image.open(path).size
        assert shown.getcolors() == [(shown.width * shown.height, (128, 128, 128))]


def test_a_damaged_picture_fails_its_own_example_only(server, pictures):
    pictures[0].write_bytes(pictures[0].read_bytes()[:40])
    answers = ask(planner_of(server), query("bad", *pictures), query("good", pictures[1]))
    assert str(pictures[0]) in str(answers["bad"])
    assert isinstance(answers["bad"], UnreadablePicture)
    assert answers["good"] == Answer("ok", 3, "end")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (completion("cut", "length", 512), Answer("cut", 512, "length")),
        (completion(None), Answer("", 3, "end")),
        (completion("", "length"), Answer("", 3, "length")),
        (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Answer("ab", 3, "end")),
        (completion("no count", used=None), Answer("no count", None, "end")),
        (completion("no reason", finish=None), Answer("no reason", 3, "end")),
        (completion("\ud800 lone"), Answer("\ud800 lone", 3, "end")),
        (completion("no refusal", refusal=""), Answer("no refusal", 3, "end")),
        (completion("no tool", tool_calls={}), Answer("no tool", 3, "end")),
        (completion("odd usage") | {"usage": [3]}, Answer("odd usage", None, "end")),
        *((completion(str(used), used=used), Answer(str(used), None, "end")) for used in (-1, True, "3", 10**30, {})),
    ],
)
def test_what_the_model_said_is_its_answer(server, body, answer):
    server.reply_in_turn(Reply(body))
    assert ask(planner_of(server), query()) == {"plan": answer}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (completion(None, refusal=f"I cannot\n help {SECRET}"), "refused: I cannot help ***"),
        (completion(None, refusal="no \ud83d"), "refused: no ?"),
        (completion("half", "content_filter"), "content filter"),
        (completion(None, "tool_calls", tool_calls=[{"id": "1"}]), "tool call"),
    ],
)
def test_what_the_service_withheld_is_no_answer_of_the_model(server, body, words):
    server.reply_in_turn(Reply(body))
    failure = ask(planner_of(server), query())["plan"]
    assert isinstance(failure, MachineFailure)
    assert words in str(failure)
    assert len(server.requests) == 1


def test_the_identity_says_what_was_asked_of_whom_and_holds_no_secret(server):
    plain = planner_of(server)
    assert plain.identity()["endpoint"] == server.url
    assert planner_of(server, concurrency=5, max_retries=1).identity() == plain.identity()
    assert planner_of(server, max_new_tokens=9).identity() != plain.identity()
    assert planner_of(server, "other").identity() != plain.identity()
    addresses = (server.url, "http://elsewhere/v1")
    named = [planner_of(server, base_url=address, endpoint_id="sha") for address in addresses]
    assert named[0].identity() == named[1].identity()
    assert (len(plain.notes), named[0].notes) == (1, [])
    assert SECRET not in json.dumps(plain.identity())


def test_the_flags_and_the_environment_name_the_endpoint(server, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="give --base_url"):
        open_planner(EvaluationOptions(planner="openai", model="served"), None)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(UserError, match="needs --model"):
        open_planner(EvaluationOptions(planner="openai"), None)
    planner = open_planner(EvaluationOptions(planner="openai", model="served", max_new_tokens=5), None)
    ask(planner, query())
    assert server.requests[0]["max_tokens"] == 5
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    elsewhere = EvaluationOptions(planner="openai", model="served", base_url="http://127.0.0.1:9/v1")
    other = open_planner(elsewhere, None)
    assert other.identity()["endpoint"] == "http://127.0.0.1:9/v1"


def test_drawn_answers_are_asked_for_with_the_seed_of_their_query(server):
    planner = planner_of(server, temperature=0.7, top_p=0.9)
    list(planner.answer([[Query("a", "task", query().messages, seed=17)]]))
    sent = server.requests[0]
    assert (sent["temperature"], sent["top_p"], sent["seed"]) == (0.7, 0.9, 17)
    decoding = planner.identity()["decoding"]
    assert (decoding["temperature"], decoding["top_p"]) == (0.7, 0.9)


def test_parameters_that_the_endpoint_refuses_are_left_out_and_noted(server):
    refused = ("max_tokens", "temperature", "seed")

    def reply(number, body):
        name = next((name for name in refused if name in body), None)
        error = {"error": {"message": f"Unsupported parameter: '{name}' is not supported with this model."}}
        return Reply(error, status=400) if name else Reply(completion("done"))

    server.reply = reply
    planner = planner_of(server, max_new_tokens=77, endpoint_id="mine")
    assert planner.notes == []
    assert {answer.text for answer in ask(planner, query("a"), query("b")).values()} == {"done"}
    assert len(server.requests) == 5, "what was refused once is not tried again"
    assert server.requests[-1]["max_completion_tokens"] == 77
    assert "frequency_penalty" in server.requests[-1]
    [note] = planner.notes
    assert "refuses seed, temperature: " in note


def test_a_prompt_that_is_refused_for_another_reason_fails_at_once(server):
    server.reply = lambda number, body: Reply({"error": {"message": "the prompt is too long"}}, status=400)
    [failure] = ask(planner_of(server), query()).values()
    assert "too long" in str(failure)
    assert len(server.requests) == 1
