import time

import pytest

from leap.judge.plan_text import normalised, steps_of_text
from leap.plans.metrics import MOST_CHARACTERS


@pytest.mark.parametrize(
    "text",
    [
        "1) Pick up the cup. 2) Place it.",
        "1. Pick up the cup.\n2. Place it.",
        "Sure! Here is the plan:\n\n1. **Pick up** the `cup`.\n2. Place it.",
        "Step 1: Pick up the cup. Step 2: Place it.",
        "- Pick up the cup.\n- Place it.",
        "* Pick up the cup.\n\n* Place it.",
        "Pick up the cup.\n\nPlace it.\n",
    ],
)
def test_a_plan_looks_the_same_however_it_was_written(text):
    assert normalised(text) == "1. Pick up the cup.\n2. Place it."


@pytest.mark.parametrize(
    "text",
    [
        "<think>1) Open the door. 2) Leave.</think>\n1) Pick up the cup. 2) Place it.",
        "1. Open the door.\n2. Leave.\n</think>\n1. Pick up the cup.\n2. Place it.",
        "Draft:\n1. Open the door.\n2. Leave.\n\nFinal plan:\n1. Pick up the cup.\n2. Place it.",
        "\u25c1think\u25b7" + "Hm. " * 10_000 + "\u25c1/think\u25b71. Pick up the cup.\n2. Place it.",
    ],
)
def test_what_was_thought_or_drafted_is_not_shown(text):
    assert normalised(text) == "1. Pick up the cup.\n2. Place it."


def test_a_list_behind_the_plan_does_not_replace_it():
    text = "1. Pick up the cup.\n2. Place it.\n\nNotes:\n1. Be careful.\n2. It is hot."
    assert steps_of_text(text)[0] == "Pick up the cup."


def test_a_thought_that_never_ends_is_no_plan():
    assert normalised("<think>1) Pick up the cup. 2) Place it.") == ""


def test_a_skill_list_is_put_into_words():
    skills = (
        '```json\n[{"name": "pick", "params": {"target_entity_name": "3"}},'
        ' {"name": "pour", "params": {"target_container_name": 5}}, {"name": "open_door", "params": {}}]\n```'
    )
    assert normalised(skills) == "1. pick 3\n2. pour to 5\n3. open door"


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u200b\x00\n"])
def test_a_text_without_a_word_is_an_empty_plan(text):
    assert (steps_of_text(text), normalised(text)) == ([], "")


def test_control_characters_and_half_surrogates_do_not_reach_a_judge():
    assert normalised("1) Pick\x1b[31m up \ud83d the\u202e cup") == "1. Pick [31m up the cup"


def test_a_long_plan_is_cut_behind_a_step_and_says_so():
    text = "\n".join(f"{i}. Turn the knob once more." for i in range(1, 100))
    shown = normalised(text, 300)
    *steps, last = shown.splitlines()
    assert all(step.endswith("Turn the knob once more.") for step in steps)
    assert last == f"[cut here; the plan goes on, {len(text):,} characters in all]"
    assert len("\n".join(steps)) <= 300


def test_one_endless_step_is_cut_inside():
    shown = normalised("word " * 1000, 100)
    assert shown.startswith("1. word word")
    assert "[cut here; the plan goes on, 5,000 characters in all]" in shown


def test_what_is_not_read_any_more_is_said_to_be_cut():
    loop = "1) Go. " + "x" * MOST_CHARACTERS
    assert "[cut here" in normalised(loop, 10 * MOST_CHARACTERS)
    many = " ".join(f"{i}) Go." for i in range(1, 400))
    assert "[cut here" in normalised(many, 10 * MOST_CHARACTERS)


def test_a_plan_of_line_breaks_takes_no_time():
    for text in ("\n" * MOST_CHARACTERS, "1) Go." + "\n" * MOST_CHARACTERS, "- Go\n" + "\n\r" * MOST_CHARACTERS):
        began = time.process_time()
        normalised(text)
        assert time.process_time() - began < 0.5
