"""Many plans: journaled, continued, drawn, with rows that fail apart."""

import json

import pytest
from PIL import Image

from leap.files import read_jsonl
from tests.conftest import assert_one_line_error, read_status, run_script
from tests.endpoint_server import Reply, completion
from tests.planning.conftest import SKILLS, STEPS

SCRIPT = "evaluation/plan.py"


@pytest.fixture
def rows(photo, tmp_path):
    """Five rows: with tags, without, the same again, with a picture that is not there, a planning row."""
    content = [{"type": "image", "image": photo.name}, {"type": "text", "text": "Task name: Fold it.\nPlan!"}]
    records = [
        {"instruction": "Move the cup", "image": photo.name, "tags": {"1": [50, 50]}, "id": "a"},
        {"instruction": "Move the cup", "image": photo.name},
        {"instruction": "Move the cup", "image": str(photo), "id": "c"},
        {"instruction": "Move the cup", "image": "missing.png"},
        {"messages": [{"role": "user", "content": content}], "target": {"steps": "1) Secret."}},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def ask(space, served, server, rows):
    def run(*arguments):
        return run_script(
            *(SCRIPT, "--planner", "openai", "--base_url", server.url, "--model", "served", "--max_retries", "0"),
            *("--rows", rows, *arguments),
        )

    return run


@pytest.fixture
def folder(space):
    return space / "eva_results" / "plans" / "served"


def test_each_row_gets_its_plan_and_one_that_fails_is_named(ask, folder, server, tmp_path):
    done = ask("--drawing", tmp_path / "drawn")
    assert done.returncode == 1
    assert "4 of 5 rows have a plan" in done.stdout
    assert "row 3: unreadable image" in done.stdout
    plans = read_jsonl(folder / "plans.jsonl")
    assert [(line["row"], line["id"]) for line in plans] == [(0, "a"), (1, None), (2, "c"), (4, None)]
    assert [line["text"] for line in plans] == [SKILLS, STEPS, STEPS, STEPS]
    assert [line["row"] for line in read_jsonl(folder / "failures.jsonl")] == [3]
    assert len(server.requests) == 3  # equal rows are asked once
    assert "Secret" not in json.dumps(server.requests)
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [f"000{row}.png" for row in (0, 1, 2, 4)]
    status = read_status(folder / "status.json")
    assert (status.state, status.done, status.total) == ("finished", 4, 4)


def test_a_second_run_asks_nobody_and_changes_nothing(ask, folder, server):
    ask()
    content = (folder / "plans.jsonl").read_bytes()
    ask()
    assert len(server.requests) == 3
    assert (folder / "plans.jsonl").read_bytes() == content


def test_a_run_that_was_cut_ends_with_the_same_file(ask, folder, server):
    ask()
    content = (folder / "plans.jsonl").read_bytes()
    (folder / "plans.jsonl").write_bytes(content[:-20])
    ask()
    assert len(server.requests) == 4
    assert (folder / "plans.jsonl").read_bytes() == content


def test_a_failed_machine_is_asked_again_when_told_to(ask, folder, server):
    good = server.reply
    server.reply = lambda number, body: Reply({"error": "no"}, status=500)
    assert "0 of 5 rows have a plan" in ask().stdout
    server.reply = good
    assert "0 of 5 rows have a plan" in ask().stdout
    assert "4 of 5 rows have a plan" in ask("--retry_failed").stdout
    assert [line["row"] for line in read_jsonl(folder / "failures.jsonl")] == [3]


def test_other_settings_are_refused_unless_they_may_overwrite(ask, folder, server):
    ask()
    assert_one_line_error(ask("--max_new_tokens", "9"), "max_tokens", "--overwrite", "--suffix")
    assert len(server.requests) == 3
    assert "4 of 5 rows" in ask("--max_new_tokens", "9", "--suffix", "short").stdout
    assert (folder.parent / "served_short" / "plans.jsonl").is_file()
    assert "4 of 5 rows" in ask("--max_new_tokens", "9", "--overwrite").stdout
    assert len(server.requests) == 9


def test_a_row_that_changed_is_asked_again_and_the_others_stay(ask, rows, folder, server, photo):
    ask()
    server.reply = lambda number, body: Reply(completion("1) Something else."))
    lines = rows.read_text().splitlines()
    other = photo.with_name("other.png")
    Image.new("RGB", (30, 20)).save(other)
    lines[1] = json.dumps({"instruction": "Move the cup", "image": other.name})
    rows.write_text("\n".join(lines) + "\n")
    ask()
    texts = [line["text"] for line in read_jsonl(folder / "plans.jsonl")]
    assert texts == [SKILLS, "1) Something else.", STEPS, STEPS]
    assert len(server.requests) == 4


def test_several_plans_are_drawn_to_a_row_and_more_of_them_keep_those_that_are_there(ask, folder, server, tmp_path):
    drawn = folder.with_name("served_T0.5")
    done = ask("--temperature", "0.5", "--num_samples", "2", "--drawing", tmp_path / "drawn")
    assert "4 of 5 rows have a plan, 8 plans drawn" in done.stdout
    lines = read_jsonl(drawn / "plans.jsonl")
    assert [(line["row"], line["sample"]) for line in lines] == [(row, n) for row in (0, 1, 2, 4) for n in (0, 1)]
    assert [line["row"] for line in read_jsonl(drawn / "failures.jsonl")] == [3]
    assert len(server.requests) == 6
    assert (tmp_path / "drawn" / "0004-2.png").is_file()
    ask("--temperature", "0.5", "--num_samples", "3")
    assert len(server.requests) == 9
    kept = [line for line in read_jsonl(drawn / "plans.jsonl") if line["sample"] < 2]
    assert kept == lines
    assert_one_line_error(ask("--temperature", "0.5", "--seed", "1"), "other settings", "seed")
