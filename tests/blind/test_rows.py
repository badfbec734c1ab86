"""Rows of a review as they are shown to a model; one that cannot be shown fails alone."""

import pytest

from tests.blind.asking import MODELS, edit


def missing_picture(record, data):
    record["messages"][0]["content"][0]["image"] = "images/nowhere.png"


def unprintable_picture(record, data):
    record["messages"][0]["content"][0]["image"] = "images/\ud83d.png"


def cut_picture(record, data):
    picture = data.parent / record["messages"][0]["content"][0]["image"]
    picture.write_bytes(picture.read_bytes()[:-40])


def video(record, data):
    record["messages"][0]["content"][0] = {"type": "video", "video": "clip.mp4"}


def torn_words(record, data):
    record["messages"][0]["content"][1]["text"] = "Fold \ud800"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (missing_picture, "blind_10.jsonl:6: image not found: images/nowhere.png"),
        (unprintable_picture, r"image not found: images/\ud83d.png"),
        (cut_picture, "blind-000005-plain.png is no intact picture"),
        (video, "a review shows no videos"),
        (torn_words, "its words are no Unicode text"),
    ],
)
def test_a_row_that_cannot_be_asked_fails_alone(asking, data, spoil, reason):
    edit(data, lambda records: spoil(records[5], data))
    outputs = asking()
    assert sum(asking.asked("base")) == 9
    for output in outputs:
        assert (output.failure is None) == (output.sample != 5)
    assert outputs[5].failure["kind"] == "data"
    assert reason in outputs[5].failure["reason"]
    assert outputs[5].failure["reason"].encode()


def test_earlier_turns_and_several_pictures_are_shown(asking, data):
    shown = []

    def note(query):
        shown.append(query.messages)
        return "1) Do it."

    def talk(records):
        del records[1:]
        turns = records[0]["messages"]
        picture = dict(turns[0]["content"][0])
        turns[0]["content"].insert(0, picture)
        records[0]["messages"] = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            *turns,
        ]

    edit(data, talk)
    asking.answers = {"base": note}
    [output] = asking(MODELS[:1])
    assert [turn["role"] for turn in shown[0]] == ["system", "user", "assistant", "user"]
    pictures = [item["image"] for item in shown[0][-1]["content"] if item["type"] == "image"]
    assert pictures == [str(data.parent / "images" / "blind-000000-plain.png")] * 2
    assert output.images == ["images/blind-000000-plain.png"] * 2
    assert output.prompt.startswith("[system] Be brief.\n\n[user] Hello\n\n[assistant] Hi\n\n[user] Task name: ")
