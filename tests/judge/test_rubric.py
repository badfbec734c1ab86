import json
import time

import pytest

from leap.judge.judgements import SCALES
from leap.judge.rubric import (
    ANCHORS,
    TITLES,
    InvalidReply,
    PairReply,
    RubricReply,
    read_pair,
    read_rubric,
    response_format,
)

GOOD = {"reasoning": "It works.", "scores": dict.fromkeys(SCALES, 4)}


def test_a_reply_gives_the_four_scores_and_its_reasons():
    scores, reasoning = read_rubric(json.dumps(GOOD))
    assert (scores, reasoning) == (dict.fromkeys(SCALES, 4), "It works.")


def test_a_fence_around_the_reply_and_a_mean_of_its_own_do_no_harm():
    assert read_rubric(f"```json\n{json.dumps(GOOD | {'final_score': 5})}\n```")[0] == GOOD["scores"]


@pytest.mark.parametrize("form", ["```\n{}\n```", "\n ```json {}``` \n", "```json\n\n\n{}\n\n```\n", "  {}\n"])
def test_a_fence_is_known_by_its_ends(form):
    assert read_rubric(form.replace("{}", json.dumps(GOOD)))[0] == GOOD["scores"]


@pytest.mark.parametrize(
    "form",
    [
        "<think>Perhaps {other}?</think>{reply}",
        "Here is my judgement:\n```json\n{reply}\n```\nI hope it helps.",
        "A bad plan would get {other}. Mine:\n{reply}",
    ],
)
def test_the_last_object_behind_a_thought_or_among_words_is_the_reply(form):
    other = json.dumps(GOOD | {"scores": dict.fromkeys(SCALES, 1)})
    assert read_rubric(form.format(other=other, reply=json.dumps(GOOD)))[0] == GOOD["scores"]


def test_a_reply_of_line_breaks_takes_no_time():
    for text in ("```json\n" + "\n" * 100_000 + "x", "```" * 50_000, " " * 200_000, "```json\n" + "`\n" * 50_000):
        began = time.process_time()
        with pytest.raises(InvalidReply):
            read_rubric(text)
        assert time.process_time() - began < 0.5


@pytest.mark.parametrize("value", [0, 6, -3, 4.5, 6.0, "4", "4.0", None, True, [4], 1e400])
def test_a_score_is_a_whole_number_from_1_to_5(value):
    for scale in SCALES:
        with pytest.raises(InvalidReply, match=scale):
            read_rubric(json.dumps(GOOD | {"scores": GOOD["scores"] | {scale: value}}))


@pytest.mark.parametrize("form", ["4.0", "4.00", "4e0"])
def test_a_whole_number_written_as_a_float_is_one(form):
    scores, _ = read_rubric(json.dumps(GOOD).replace(": 4", f": {form}"))
    assert scores == GOOD["scores"]
    assert all(type(score) is int for score in scores.values())


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_must_be_there(scale):
    scores = {other: 3 for other in SCALES if other != scale}
    with pytest.raises(InvalidReply, match=f"{scale}.*required"):
        read_rubric(json.dumps(GOOD | {"scores": scores}))


@pytest.mark.parametrize("text", ["", "5 5 5 5", "[]", "null", '{"reasoning": "x"', "[" * 100_000])
def test_what_is_no_json_object_is_no_reply(text):
    with pytest.raises(InvalidReply):
        read_rubric(text)


def test_a_pair_is_a_b_or_a_tie():
    assert read_pair('{"reasoning": "shorter", "better": "B"}') == ("B", "shorter")
    for wrong in ("C", "a", "A or B", None, 1):
        with pytest.raises(InvalidReply, match="better"):
            read_pair(json.dumps({"reasoning": "", "better": wrong}))


@pytest.mark.parametrize("model", [RubricReply, PairReply])
def test_the_schema_is_closed_and_complete_at_every_level(model):
    def check(node):
        if isinstance(node, dict):
            assert not {"$ref", "$defs", "default"} & node.keys()
            if node.get("type") == "object":
                assert node["additionalProperties"] is False
                assert set(node["required"]) == set(node["properties"])
            for value in node.values():
                check(value)

    check(response_format(model)["json_schema"]["schema"])


def test_every_scale_has_a_title_and_its_anchors():
    assert set(TITLES) == set(ANCHORS) == set(SCALES)
    assert all(set(anchors) == {5, 3, 1} for anchors in ANCHORS.values())
