import itertools
from functools import partial

import pytest

from leap.plans.reading import (
    FormatError,
    Step,
    canonical_id,
    ends_with_a_plan,
    fenced,
    read_official,
    read_tolerant,
    subtasks,
)
from leap.plans.scoring import score_grounded, score_official

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
        f"[{PICK}, {PLACE}] or [{PICK}]",
        f'Objects: [{{"name": "apple", "tag": 1}}]. Plan: [{PICK}, {PLACE}]',
    ],
)
def test_the_tolerant_reader_finds_the_first_valid_list(text):
    assert read_tolerant(text) == PLAN


def test_after_a_chain_of_thought_the_last_list_counts():
    assert read_tolerant(f"Maybe [{PICK}]. No: ```json\n[{PICK}, {PLACE}]\n```", last=True) == PLAN


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
        ([3], "[3]"),
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
    f"```json\n{ANSWER.replace('2', '7')}\n```",
    ANSWER.replace("pick", "push"),
    "]}\n```",
    "```",
    '"}]',
    "I was wrong. " + '[{"name":"press","params":{}}]',
)


def test_behind_a_finished_plan_nothing_can_change_a_score():
    truth = [{"name": "pick", "params": {"target_entity_name": 2}}, {"name": "place", "params": {}}]
    finished = 0
    for opening, inside, ending in itertools.product(OPENINGS, INSIDES, ENDINGS):
        text = f"{opening}```json\n{inside}{ending}"
        if not ends_with_a_plan(text):
            continue
        finished += 1
        for rest in REST:
            for scorer in (score_official, score_grounded):
                score = partial(scorer, ground_truth=truth, order_independent=False)
                assert score(text + rest) == score(text), (text, rest)
    assert finished > 20


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{ANSWER}",
        f"```json\n{ANSWER}``",
        f"```\n{ANSWER}\n```",
        f"{ANSWER}\n```json\n{ANSWER}\n```",
        "```json\n[]\n```",
        '```json\n[{"name": "juggle"}]\n```',
    ],
)
def test_a_plan_that_may_yet_change_is_not_finished(text):
    assert not ends_with_a_plan(text)
