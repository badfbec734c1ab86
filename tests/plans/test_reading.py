import itertools
from functools import partial
from pathlib import Path

import pytest

from leap.files import read_jsonl
from leap.plans.reading import (
    FormatError,
    Step,
    canonical_id,
    canonical_skill,
    ends_with_a_plan,
    fenced,
    final_object,
    read_official,
    read_tolerant,
    subtasks,
)
from leap.plans.scoring import score_grounded, score_official

# Answers as models write them, with the plan that a person reads in each and a line of reasoning.
ANSWERS = Path(__file__).parent / "answers.jsonl"

PICK = '{"name": "pick", "params": {"target_entity_name": 3}}'
PLACE = '{"name": "place", "params": {"target_container_name": "5"}}'
PLAN = [Step("pick", 3, None), Step("place", None, 5)]


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n[{PICK}, {PLACE}]\n```",
        f"Sure:\n```\n[{PICK}, {PLACE}]\n``` done",
        f"[{PICK}, {PLACE}]",
        f'Answer: {{"skill_sequence": [{PICK}, {PLACE}]}}',
        f"```json\n[{PICK}, {PLACE}]",  # the closing fence was cut off
        f"[3] steps, [1, 2], [{{}}] and [{PICK}, {PLACE}]",
        f"[{PICK}] and then [{PICK}, {PLACE}]",
        f'Objects: [{{"name": "apple", "tag": 1}}]. Plan: [{PICK}, {PLACE}]',
    ],
)
def test_the_tolerant_reader_finds_the_valid_list(text):
    assert read_tolerant(text) == PLAN


@pytest.mark.parametrize("answer", read_jsonl(ANSWERS), ids=lambda answer: f"{answer['id']}-{answer['family']}")
def test_an_answer_is_read_as_a_person_reads_it(answer):
    if answer["expected"] is None:
        with pytest.raises(FormatError):
            read_tolerant(answer["text"])
    else:
        assert [list(step) for step in read_tolerant(answer["text"])] == answer["expected"], answer["why"]


def test_an_early_stop_changes_no_reading_but_that_of_an_answer_that_corrects_itself():
    changed, stopped = [], 0
    for answer in read_jsonl(ANSWERS):
        text = answer["text"]
        ends = (i for i in range(len(text) + 1) if text[:i].endswith("`") and ends_with_a_plan(text[:i]))
        end = next(ends, None)
        if end is not None:
            stopped += 1
            if [list(step) for step in read_tolerant(text[:end])] != answer["expected"]:
                changed.append(answer["why"])
    assert changed == ["The model corrects itself: what it says last counts."]
    assert stopped > 15


@pytest.mark.parametrize(
    "opening", ["<think>", "Sure. <thinking>", "\u25c1think\u25b7", "[THINK]", "<|channel|>analysis<|message|>"]
)
def test_an_answer_never_stops_inside_a_thought(opening):
    assert not ends_with_a_plan(f"{opening}\n```json\n{ANSWER}\n```")


def test_an_answer_may_stop_behind_a_thought_that_held_a_plan():
    assert ends_with_a_plan(f"<think>```json\n{ANSWER}\n```</think>\n```json\n{ANSWER}\n```")


def test_the_list_in_a_wrapper_that_is_cut_off_counts_if_it_is_whole():
    assert read_tolerant(f'{{"skill_sequence": [{PICK}, {PLACE}], "note": "no') == PLAN


def test_the_last_object_of_a_reply_counts_and_not_what_was_thought():
    assert final_object('<think>{"a": 1}</think> First {"a": 2}, no: {"a": {"b": 3}}.') == {"a": {"b": 3}}
    with pytest.raises(FormatError, match="no JSON object"):
        final_object('<think>{"a": 1}')


@pytest.mark.parametrize("name", ["open_door", "Open Door", " OPEN_DOOR ", "open-door", "OpenDoor"])
def test_a_skill_is_known_whatever_its_case_and_blanks(name):
    assert canonical_skill(name) == "open_door"


def test_an_unknown_skill_keeps_its_name():
    assert canonical_skill(" Grasp ") == "grasp"


def test_missing_params_are_none():
    assert read_tolerant('[{"name": "lift"}, {"name": "pull", "params": null}]') == [
        Step("lift", None, None),
        Step("pull", None, None),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no list of skills"),
        ("I would pick the apple.", "no list of skills"),
        ("```json\n[]\n```", "no list of skills"),
        (f"[{PICK}, ", "broken JSON"),
        ('[{"params": {}}]', "a skill without a name"),
        ('[{"name": 3}]', "a skill without a name"),
        ('[{"name": "apple", "tag": 1}]', "no known skill"),
        ('[{"name": "pick", "params": [1]}]', "params that are no object"),
        ("[" * 100_000, "no list of skills"),
        ('[{"a":' * 50_000, "broken JSON"),
    ],
)
def test_the_tolerant_reader_names_the_reason_why_not(text, reason):
    with pytest.raises(FormatError, match=reason):
        read_tolerant(text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (3, 3),
        ("3", 3),
        (" 3 ", 3),
        (3.0, 3),
        ("3.0", 3),
        (None, None),
        ("cup", "cup"),
        (3.5, "3.5"),
        (True, "true"),
        ([3], 3),
        (["3"], 3),
        ([3, 4], "[3, 4]"),
        ("[3]", 3),
        ("#3", 3),
        ("object 3", 3),
        ("Object_3", 3),
        ("\u7f16\u53f73", 3),
        ("3\u53f7", 3),
        ("cup 3", "cup 3"),
        ("3 cups", "3 cups"),
        ("", None),
        ("None", None),
        (float("nan"), "NaN"),
        ("9" * 30, "9" * 30),
    ],
)
def test_ids_are_canonical(written, meant):
    assert canonical_id(written) == meant
    assert type(canonical_id(written)) is type(meant)


def test_the_official_reader_takes_what_stands_in_the_first_json_fence():
    assert read_official("a ```json [1] ``` ```json [2] ```") == [1]
    for text in ("[1]", "``` [1] ```", "```json [1", "```json\n{'a': 1}\n```", "```json" + "[" * 100_000):
        with pytest.raises(FormatError):
            read_official(text) if text != "```json [1" else read_official(text + ",")


def test_subtasks_are_cut_in_the_official_order_and_the_rest_is_skipped():
    assert subtasks(["pick", "pour", "place", "lift", "press", "pick"]) == [(0, 3), (4, 5)]
    assert subtasks(["pick", "push", "pull", "pick", "push"]) == [(0, 3), (3, 5)]
    assert subtasks([]) == []


def test_a_fenced_plan_is_read_by_both_readers():
    sequence = [{"name": "pick", "params": {"target_entity_name": 3}}]
    assert read_official(fenced(sequence)) == sequence
    assert read_tolerant(fenced(sequence)) == [Step("pick", 3, None)]


ANSWER = '[{"name":"pick","params":{"target_entity_name":2}},{"name":"place","params":{"target_container_name":"4"}}]'
OPENINGS = (
    "",
    "Here it is: ",
    "[1, 2] is a list. ",
    "`code` ",
    '{"note": 1}',
    '[{"name": "pick"',
    "```json nothing",
    "a ``` b ",
)
INSIDES = (
    ANSWER,
    f'{{"skill_sequence": {ANSWER}}}',
    f"  {ANSWER}\n",
    "[]",
    '{"a": 1}',
    ANSWER[:-1],
    f"[{ANSWER}]",
    ANSWER + ANSWER,
)
ENDINGS = ("```", "```\n", "```json", "``", "``` and")
REST = (
    "]}\n```",
    "```",
    '"}]',
    "I am done.",
    "For example: " + '[{"name":"press","params":{}}]',
    '{"name":"press","params":{}}',
)
SECOND_PLANS = (
    f"```json\n{ANSWER.replace('2', '7')}\n```",
    ANSWER.replace("pick", "push"),
    "I was wrong. " + '[{"name":"press","params":{}}]',
)


def test_behind_a_finished_plan_only_a_second_plan_can_change_a_score():
    truth = [{"name": "pick", "params": {"target_entity_name": 2}}, {"name": "place", "params": {}}]
    finished = 0
    for opening, inside, ending in itertools.product(OPENINGS, INSIDES, ENDINGS):
        text = f"{opening}```json\n{inside}{ending}"
        if not ends_with_a_plan(text):
            continue
        finished += 1
        for scorer, rests in ((score_official, REST + SECOND_PLANS), (score_grounded, REST)):
            score = partial(scorer, ground_truth=truth, order_independent=False)
            for rest in rests:
                assert score(text + rest) == score(text), (text, rest)
    assert finished > 20


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{ANSWER}",
        f"```json\n{ANSWER}``",
        f"```\n{ANSWER}\n```",
        f"Draft:\n```json\n{ANSWER}\n```",
        f"For example:\n```json\n{ANSWER}\n```",
        "```json\n" + '{"name": "pick", "params": {"target_entity_name": 2}}' + "\n```",
        "Step 1:\n```json\n" + '[{"name": "pick", "params": {"target_entity_name": 2}}]' + "\n```",
        "```json\n[]\n```",
        '```json\n[{"name": "juggle"}]\n```',
    ],
)
def test_a_plan_that_may_yet_change_is_not_finished(text):
    assert not ends_with_a_plan(text)
