"""A teacher's thoughts: asked for once, kept where the plan is right, written as targets that training reads."""

import json
import re
import time

import pytest

from leap.files import read_jsonl
from leap.plans.reading import read_tolerant
from leap.rows.chat import resolve_image
from leap.rows.records import read_rows
from leap.training.distillation import UselessAnswer, target_of
from leap.training.rewards import ThoughtRule, reward_terms
from tests.conftest import assert_one_line_error, run_script, start_script
from tests.endpoint_server import Reply, completion

SCRIPT = "utils/distill_reasoning.py"
RULE = ThoughtRule(200)
SKILLS = '```json\n[{"name":"pick","params":{"target_entity_name":%d}},{"name":"pull","params":{}}]\n```'


def answer(plan, thought="The novel carries a 3."):
    return f"Thought: {thought}\nPlan:\n{plan}"


@pytest.fixture
def rows(demo, tmp_path, monkeypatch):
    """Three rows with skill lists and one that lists objects, whose words hold their number."""
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path))
    picture = next((demo / "data" / "images").iterdir())
    file = tmp_path / "data" / "mine.jsonl"
    file.parent.mkdir()
    (file.parent / "a.png").write_bytes(picture.read_bytes())
    plans = [SKILLS % 1, SKILLS % 2, SKILLS % 3, "apple 1 lemon 2"]
    with open(file, "w") as lines:
        for number, plan in enumerate(plans, 1):
            content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": f"Take out book {number}."}]
            record = {"id": str(number), "messages": [{"role": "user", "content": content}], "target": {"steps": plan}}
            lines.write(json.dumps(record) + "\n")
    return file


def book_of(body):
    """Which book a request is about."""
    text = json.dumps(body["messages"])
    return int(re.search(r"Take out book (\d)", text)[1])


def right(n, body):
    return Reply(completion(answer(SKILLS % book_of(body)), used=7))


def distil(rows, server, *flags):
    words = ("--rows", rows, "--base_url", server.url, "--model", "local", "--concurrency", 1, "--max_retries", 0)
    return run_script(SCRIPT, *words, *flags)


def thoughts(rows):
    return rows.with_name("mine_thoughts.jsonl")


def test_right_answers_become_targets_that_end_in_the_plan(rows, server):
    server.reply = right
    done = distil(rows, server)
    assert done.returncode == 0, done.stderr
    assert "left out: 1 row without a plan that can be compared" in done.stdout
    assert "3 of 3 rows got a thought with a right plan" in done.stdout
    for number, row in enumerate(read_rows(thoughts(rows)), 1):
        assert row.steps == f"<think>\nThe novel carries a 3.\n</think>\n{SKILLS % number}"
        assert reward_terms(row.steps, SKILLS % number, thought=RULE)["plan"] == 1
        assert row.messages == read_rows(rows)[number - 1].messages
    assert {record["teacher"] for record in read_jsonl(thoughts(rows))} == {"local"}


def test_the_teacher_sees_the_picture_and_the_question_and_not_the_plan(rows, server):
    server.reply = right
    distil(rows, server)
    for body in server.requests:
        [turn] = body["messages"]
        assert [part["type"] for part in turn["content"]] == ["image_url", "text", "text"]
        assert "Thought:" in turn["content"][2]["text"]
        assert "target_entity_name" not in json.dumps(body)


def test_wrong_plans_and_answers_without_a_thought_are_dropped_and_counted(rows, server):
    answers = {1: answer(SKILLS % 9), 2: SKILLS % 2, 3: answer(SKILLS % 3)}
    server.reply = lambda n, body: Reply(completion(answers[book_of(body)]))
    done = distil(rows, server)
    assert done.returncode == 0, done.stderr
    assert "1 got a plan that is not right" in done.stdout
    assert "1 got no thought in front of a plan" in done.stdout
    assert [row.id for row in read_rows(thoughts(rows))] == ["3"]


def test_what_was_answered_is_not_asked_again_and_what_failed_is(rows, server):
    server.reply = lambda n, body: Reply({}, 400) if book_of(body) == 2 else right(n, body)
    done = distil(rows, server)
    assert done.returncode == 1
    assert "1 answer failed" in done.stdout
    assert len(read_rows(thoughts(rows))) == 2
    server.reply = right
    sent = len(server.requests)
    assert distil(rows, server).returncode == 0
    assert [book_of(body) for body in server.requests[sent:]] == [2]
    assert [row.id for row in read_rows(thoughts(rows))] == ["1", "2", "3"]
    assert distil(rows, server).returncode == 0
    assert len(server.requests) == sent + 1


def test_a_killed_run_goes_on_where_it_was(rows, server):
    def slowly(n, body):
        reply = right(n, body)
        reply.delay_s = 0.0 if n == 0 else 60.0
        return reply

    server.reply = slowly
    words = ("--rows", rows, "--base_url", server.url, "--model", "local", "--concurrency", 1, "--max_retries", 0)
    child = start_script(SCRIPT, *words)
    limit_s = time.monotonic() + 60
    while len(server.requests) < 2 and time.monotonic() < limit_s:
        time.sleep(0.02)
    child.kill()
    child.communicate(timeout=60)
    assert not thoughts(rows).exists()
    server.reply = right
    assert distil(rows, server).returncode == 0
    assert [book_of(body) for body in server.requests] == [1, 2, 2, 3], "what was in flight is asked again, no other"
    assert len(read_rows(thoughts(rows))) == 3


def test_another_teacher_has_answers_of_its_own(rows, server):
    server.reply = right
    distil(rows, server)
    assert distil(rows, server, "--max_new_tokens", 99).returncode == 0
    assert len(server.requests) == 6
    assert distil(rows, server).returncode == 0
    assert len(server.requests) == 6


def test_a_wrong_answer_is_drawn_again_and_a_right_one_is_not(rows, server):
    asked = []

    def second_time(n, body):
        asked.append(book_of(body))
        return right(n, body) if book_of(body) == 1 or asked.count(book_of(body)) == 2 else Reply(completion("No."))

    server.reply = second_time
    done = distil(rows, server, "--draws", 3, "--temperature", 0.7)
    assert "3 of 3 rows" in done.stdout
    assert sorted(asked) == [1, 2, 2, 3, 3]
    assert len({body["seed"] for body in server.requests}) == 5


@pytest.mark.parametrize("limit", [("--max_requests", 2), ("--budget", 0.05)])
def test_limits_hold_over_all_runs(rows, server, tmp_path, limit):
    server.reply = right
    prices = tmp_path / "prices.yaml"
    # At most 1,000 tokens go in and 7 come out: about 0.02 a request.
    prices.write_text("local: {input: 10, output: 10, picture_tokens_most: 100}\n")
    flags = ("--prices", prices, "--max_new_tokens", 800, *limit)
    done = distil(rows, server, *flags)
    assert done.returncode == 1
    assert "not asked for" in done.stdout
    sent = len(server.requests)
    assert 1 <= sent <= 2
    assert sent == len(read_rows(thoughts(rows)))
    if limit[0] == "--max_requests":
        assert distil(rows, server, *flags).returncode == 1
        assert len(server.requests) == sent


def test_a_dry_run_says_what_it_takes_and_asks_nobody(rows, server):
    done = distil(rows, server, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "3 rows, 0 answered already, 3 to ask" in done.stdout
    assert "cost 0.0000" in done.stdout
    assert server.requests == []


def test_pictures_are_found_from_another_folder(rows, server, tmp_path):
    server.reply = right
    output = tmp_path / "elsewhere" / "t.jsonl"
    assert distil(rows, server, "--output", output).returncode == 0
    row = read_rows(output)[0]
    written = row.messages[0]["content"][0]["image"]
    assert resolve_image(written, row, None, tmp_path / "nowhere").samefile(rows.parent / "a.png")


def test_an_endpoint_that_refuses_ends_in_a_line_and_keeps_what_came(rows, server):
    server.reply = lambda n, body: right(n, body) if n == 0 else Reply({}, 401)
    assert_one_line_error(distil(rows, server), "401", "OPENAI_API_KEY")
    assert len(read_rows(thoughts(rows))) == 1


def test_without_rows_teacher_or_endpoint_the_error_is_one_line(rows, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert_one_line_error(run_script(SCRIPT), "--rows")
    assert_one_line_error(run_script(SCRIPT, "--rows", rows), "--model")
    assert_one_line_error(run_script(SCRIPT, "--rows", rows, "--model", "local"), "no endpoint named")
    assert_one_line_error(
        run_script(SCRIPT, "--rows", rows, "--planner", "huggingface", "--model", "x"), "--base_model"
    )
    assert_one_line_error(run_script(SCRIPT, "--rows", rows, "--output", rows, "--model", "x"), "is a source")
    assert_one_line_error(run_script(SCRIPT, "--rows", rows, "--draws", 2), "--temperature")
    words = ("--model", "unpriced", "--base_url", "http://127.0.0.1:9/v1", "--budget", 1)
    assert_one_line_error(run_script(SCRIPT, "--rows", rows, *words), "needs the price of unpriced")


def test_a_model_in_a_folder_can_be_the_teacher(rows, demo):
    words = ("--planner", "huggingface", "--base_model", demo / "models" / "tiny-planner", "--max_new_tokens", 4)
    done = run_script(SCRIPT, "--rows", rows, *words)
    assert done.returncode == 0, done.stderr
    assert "0 of 3 rows got a thought" in done.stdout
    assert not thoughts(rows).exists()


# One answer each, all to a row whose plan is book 3.
FORMS = {
    "as asked": answer(SKILLS % 3),
    "in bold": f"**Thought:** The novel.\n\n**Plan:**\n{SKILLS % 3}",
    "without the word plan": f"Thought: The novel.\n{SKILLS % 3}",
    "between tags": f"<think>The novel.</think>\nPlan:\n{SKILLS % 3}",
    "after a thought of its own": f"<think>{'Hmm. ' * 100}</think>\n{answer(SKILLS % 3)}",
    "ids as words": answer('[{"name": "Pick", "params": {"target_entity_name": "3"}}, {"name": "pull"}]'),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_thought_and_a_plan_are_found_in_any_usual_form_and_written_in_one(text):
    target = target_of(text, SKILLS % 3, RULE, 0.9)
    thought, _, plan = target.partition("\n</think>\n")
    assert thought.startswith("<think>\nThe novel")
    assert plan == SKILLS % 3
    assert read_tolerant(target) == read_tolerant(SKILLS % 3)


USELESS = {
    "no thought": SKILLS % 3,
    "an empty one": answer(SKILLS % 3, thought=" "),
    "too long": answer(SKILLS % 3, thought="so " * 100),
    "a tag": answer(SKILLS % 3, thought="see <think> there"),
    "no plan": "Thought: The novel.\nPlan:\nnone",
    "a plan in the thought alone": f"<think>{SKILLS % 3}</think>",
    "too many steps": answer((SKILLS % 3).replace("]", ',{"name":"lift","params":{}}]')),
}


@pytest.mark.parametrize("text", USELESS.values(), ids=USELESS)
def test_other_answers_teach_nothing(text):
    with pytest.raises(UselessAnswer):
        target_of(text, SKILLS % 3, RULE, 0.9)


def test_numbered_steps_count_from_a_share_of_their_words():
    steps = "1) Pick up the red cup. 2) Place it on the tray."
    near = "1. Pick up the red cup.\n2. Place it on the wide tray."
    target = target_of(answer(near), steps, RULE, 0.9)
    assert target.endswith("</think>\n1) Pick up the red cup. 2) Place it on the wide tray.")
    with pytest.raises(UselessAnswer):
        target_of(answer(near), steps, RULE, 0.99)
    with pytest.raises(UselessAnswer):
        target_of(answer("1) Place it on the tray. 2) Pick up the red cup."), steps, RULE, 0.9)
