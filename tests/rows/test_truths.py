"""Rows whose plan is a benchmark's ground truth: which forms are taken, and what is said of a truth that is none."""

import json

import pytest

from configs.errors import UserError
from leap.plans.reading import read_official
from leap.rows.sources import form_of, planning_record
from leap.rows.truths import is_truth

SEQUENCE = [
    {"name": "pick", "params": {"target_entity_name": 2}},
    {"name": "place", "params": {"target_container_name": 5}},
]
TURNS = [{"role": "user", "content": "<image>Plan."}]
PICTURE = {"messages": TURNS, "images": ["a.png"]}
PROMPT = [{"type": "text", "text": "Plan."}, {"type": "image", "image": "tagged_image"}]
BENCHMARK = {"prompt": json.dumps(PROMPT), "tagged_image": "b.png", "image": {"bytes": 1}}
BENCHMARK |= {"skill_sequence": json.dumps(SEQUENCE), "instruction": "Pick it. ", "task": "t", "example": 3}


def row_of(record, tmp_path):
    return planning_record(record, "rows.jsonl:7", tmp_path)[1]


@pytest.mark.parametrize(
    "truth",
    [
        {"skill_sequence": SEQUENCE},
        {"skill_sequence": json.dumps(SEQUENCE)},
        {"operation_sequence": {"skill_sequence": SEQUENCE}},
        {"operation_sequence": json.dumps({"skill_sequence": SEQUENCE})},
        {"target": {"skill_sequence": SEQUENCE}},
        {"target": SEQUENCE, "skill_sequence": SEQUENCE},
    ],
)
def test_a_truth_becomes_the_fenced_list_that_the_official_parser_reads(truth, tmp_path):
    row = row_of(PICTURE | truth, tmp_path)
    assert read_official(row.steps) == SEQUENCE
    assert [item["type"] for item in row.messages[0]["content"]] == ["image", "text"]
    assert form_of(PICTURE | truth) == "VLABench skill sequences"


def test_the_conversation_may_be_in_any_form(tmp_path):
    truth = {"skill_sequence": SEQUENCE}
    sharegpt = {"conversations": [{"from": "human", "value": "<image>Plan."}], "images": ["a.png"]}
    for record in (sharegpt, {"prompt": TURNS, "images": ["a.png"]}, {"prompt": "<image>Plan.", "image": "a.png"}):
        row = row_of(record | truth, tmp_path)
        assert row.messages[0]["content"][0] == {"type": "image", "image": "a.png"}
        assert read_official(row.steps) == SEQUENCE


def test_a_row_of_the_benchmark_in_hugging_face_form_shows_the_columns_that_its_prompt_names(tmp_path):
    row = row_of(BENCHMARK | {"dimension": "Spatial", "image": "a.png"}, tmp_path)
    shown = row.messages[0]["content"]
    assert [item.get("image", item.get("text")) for item in shown[:2]] == ["Plan.", "b.png"]
    assert (row.id, row.task_name) == ("Spatial-t-3", "Pick it.")


def test_words_that_answer_are_the_plan_whatever_stands_beside_them():
    answer = {"role": "assistant", "content": "1) Go."}
    for record in (
        {"messages": TURNS, "target": {"steps": "1) Go."}},
        {"messages": [*TURNS, answer]},
        {"conversations": [{"from": "human", "value": "Plan."}, {"from": "gpt", "value": "1) Go."}]},
        {"prompt": TURNS, "completion": [answer]},
    ):
        assert not is_truth(record | {"skill_sequence": SEQUENCE})


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ([], "no list of skills"),
        ("[{", "no list of skills"),
        ([{"params": {}}], "a skill without a name"),
        ([SEQUENCE[0], {"name": "grasp", "params": {}}], "skill 2 is 'grasp', not one of pick, place"),
    ],
)
def test_a_truth_that_is_none_is_said_with_its_row(truth, words, tmp_path):
    with pytest.raises(UserError, match="rows.jsonl:7: skill_sequence") as error:
        row_of(PICTURE | {"skill_sequence": truth}, tmp_path)
    assert words in str(error.value)


def test_a_column_that_the_prompt_shows_must_hold_a_picture(tmp_path):
    record = BENCHMARK | {"tagged_image": None}
    with pytest.raises(UserError, match="rows.jsonl:7: the prompt shows the column 'tagged_image', which holds no"):
        row_of(record, tmp_path)
