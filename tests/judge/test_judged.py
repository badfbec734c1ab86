"""Judgements of what changed since."""

import json

import pytest

from leap.judge.judgements import CONTROLS
from tests.judge.review import MODELS


def test_judgements_of_plans_that_changed_since_do_not_count(analyse, review, server):
    analyse("--judge_model", "judge-1", "--repeats", "1", url=server.url)
    path = review / "outputs.jsonl"
    path.write_text(path.read_text().replace("1. Pick up the red cup 0", "1. Throw the red cup 0"))
    _, printed = analyse("--judge", "reference")
    assert "1 judgement of other rows, models or bases, or of plans, references or pictures that changed" in printed
    summary = json.loads((review / "summary.json").read_text())
    assert summary["judges"]["judge-1"]["models"]["checkpoint-100"]["items"] == 9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"reference": "1) Pick up the red cup 0.', '"reference": "1) Paint the red cup 0.'),
        ('"prompt": "Task name: Clear cup 0.', '"prompt": "Task name: Paint cup 0.'),
        ('"task_name": "Clear cup 0"', '"task_name": "Paint cup 0"'),
        ("images/0-0.png", "images/1-0.png"),
    ],
)
def test_judgements_beside_another_reference_task_or_picture_do_not_count_nor_do_those_of_controls(
    analyse, review, server, old, new
):
    analyse("--judge_model", "judge-1", "--repeats", "1", url=server.url)
    path = review / "outputs.jsonl"
    assert path.read_text().count(old) == len(MODELS)
    path.write_text(path.read_text().replace(old, new))
    _, printed = analyse("--judge", "reference")
    found = json.loads((review / "summary.json").read_text())
    judge = found["judges"]["judge-1"]
    assert {of["items"] for of in judge["models"].values()} == {9}
    assert {of["items"] for of in judge["controls"].values()} == {9}
    assert found["left_out"] == len(MODELS) + len(CONTROLS)
    assert "10 judgements of other rows" in printed


def test_a_picture_that_cannot_be_found_any_more_shows_no_change_and_one_that_turns_up_does(analyse, review, server):
    picture = review / "images" / "0-0.png"
    analyse("--judge_model", "judge-1", "--repeats", "1", url=server.url)
    content = picture.read_bytes()
    picture.unlink()
    analyse("--judge", "reference")
    assert json.loads((review / "summary.json").read_text())["left_out"] == 0
    analyse("--judge_model", "judge-1", "--repeats", "1", url=server.url)  # sees no picture in row 0
    picture.write_bytes(content)
    analyse("--judge", "reference")
    assert json.loads((review / "summary.json").read_text())["left_out"] == len(MODELS) + len(CONTROLS)
