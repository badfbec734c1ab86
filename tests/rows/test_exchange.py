"""Rows in the formats of other trainers and back: nothing of a row is lost, and what a format cannot say is refused."""

import json

import datasets
import pytest
from PIL import Image

from configs.errors import UserError
from leap.files import read_jsonl
from leap.models.loading import load_processor
from leap.rows.chat import chat_messages, image_items, resolve_image
from leap.rows.exchange import FORMATS, exported, files_beside, imported
from leap.rows.records import iter_rows, read_rows, row_from_record
from tests.conftest import assert_one_line_error, run_script

EXPORT, IMPORT = "utils/export_rows.py", "utils/import_rows.py"


@pytest.fixture
def rows(tmp_path):
    """A file with rows of one picture and of none, with a system turn, an earlier turn and pictures between words."""
    for name in ("a", "b"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / f"{name}.png")

    def text(words):
        return {"type": "text", "text": words}

    def picture(name):
        return {"type": "image", "image": name}

    conversations = [
        [{"role": "user", "content": [picture("a.png"), text("Task name: wipe.\nPlan \u00e9\n")]}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Plan."}],
        [
            {"role": "user", "content": [text("From "), picture("b.png"), text(" to "), picture("a.png")]},
            {"role": "assistant", "content": "Why?"},
            {"role": "user", "content": [text("Just plan.")]},
        ],
    ]
    lines = [json.dumps({"messages": turns, "target": {"steps": "1) Go."}}) for turns in conversations]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "rows.jsonl"


def content(file):
    """Turns, pictures as their files, and the plan of each row."""
    return [
        (
            [
                [dict(item, image="") if item["type"] == "image" else item for item in t["content"]]
                for t in row.messages
            ],
            [resolve_image(written, row, None, file.parent).resolve() for written in image_items(row)],
            row.steps,
        )
        for row in iter_rows(file)
    ]


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_rows_come_back_from_every_format_as_they_were(rows, tmp_path, form, relative):
    there = tmp_path / "there"
    flags = ("--relative",) if relative else ()
    done = run_script(EXPORT, "--rows", rows, "--to", form, "--output_dir", there, *flags)
    assert done.returncode == 0, done.stderr
    written = there / f"rows_{form}.jsonl"
    assert {path.startswith("/") for record in read_jsonl(written) for path in record.get("images", [])} == {
        not relative
    }
    done = run_script(IMPORT, "--conversations", written, "--output", tmp_path / "deeper" / "back.jsonl")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "deeper" / "back.jsonl") == content(rows)


def test_the_formats_are_those_that_the_other_trainers_document(rows):
    row = read_rows(rows)[2]
    trl, sharegpt, swift = (exported(row, form, str) for form in ("trl", "sharegpt", "swift"))
    tagged = "From <image> to <image>"
    assert sharegpt == {
        "conversations": [
            {"from": "human", "value": tagged},
            {"from": "gpt", "value": "Why?"},
            {"from": "human", "value": "Just plan."},
            {"from": "gpt", "value": "1) Go."},
        ],
        "images": ["b.png", "a.png"],
    }
    assert [turn["role"] for turn in swift["messages"]] == ["user", "assistant", "user", "assistant"]
    assert (swift["messages"][0]["content"], swift["images"]) == (tagged, ["b.png", "a.png"])
    assert trl["prompt"][0]["content"][1] == {"type": "image"}
    assert trl["completion"] == [{"role": "assistant", "content": [{"type": "text", "text": "1) Go."}]}]
    assert exported(read_rows(rows)[1], "sharegpt", str)["system"] == "Be brief."


def test_a_chat_template_makes_the_same_prompt_of_rows_for_trl_as_of_ours(rows, demo, tmp_path):
    assert run_script(EXPORT, "--rows", rows, "--to", "trl").returncode == 0
    table = datasets.load_dataset(
        "json", data_files=str(tmp_path / "rows_trl.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    ).cast_column("images", datasets.List(datasets.Image()))
    processor = load_processor(demo / "models" / "tiny-planner")
    for record, row in zip(table, read_rows(rows), strict=True):
        assert [picture.size for picture in record["images"] or []] == [(32, 32)] * len(image_items(row))
        theirs = processor.apply_chat_template(record["prompt"] + record["completion"], tokenize=False)
        assert theirs == processor.apply_chat_template(chat_messages(row, row.steps), tokenize=False)


TURN = [{"role": "user", "content": "Plan."}, {"role": "assistant", "content": "1) Go."}]
URL = {"type": "image_url", "image_url": {"url": "a.png"}}


@pytest.mark.parametrize(
    "record",
    [
        {"image": "a.png", "conversations": [{"from": "human", "value": "<image>Go"}, {"from": "gpt", "value": "1)"}]},
        {"messages": [{"role": "user", "content": [URL, {"type": "text", "text": "Go"}]}, TURN[1] | {"content": "1)"}]},
        {"images": ["a.png"], "messages": [{"role": "user", "content": "<image>Go"}], "target": {"steps": "1)"}},
    ],
)
def test_conversations_of_other_makers_become_rows(record, tmp_path):
    row = row_from_record(imported(record | {"task_id": 7, "extra": 1}, "f:1", tmp_path), "f:1", tmp_path)
    assert row.messages[0]["content"] == [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Go"}]
    assert (row.steps, row.task_id) == ("1)", "7")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "no conversation"),
        ({"messages": TURN[:1]}, "must be the assistant's"),
        ({"messages": TURN, "images": ["a.png"]}, "1 of the images beside the turns are shown in none"),
        ({"messages": [{"role": "user", "content": "<image>"}, TURN[1]]}, "more images than the column 'images'"),
        ({"messages": TURN, "tools": "[]"}, "tools"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "function_call"),
        ({"conversations": ["x"]}, "a turn must be from"),
        ({"messages": [TURN[0], {"role": "assistant", "content": [{"type": "image"}]}]}, "words alone"),
        ({"messages": [{"role": "robot", "content": "x"}, TURN[1]]}, "needs a role"),
        ({"messages": [{"role": "user", "content": None}, TURN[1]]}, "text or a list of items"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}, TURN[1]]}, "found {'type': 'audio'}"),
        (
            {"messages": [{"role": "user", "content": "<image>"}, TURN[1]], "images": ["http://x/a.png"]},
            "must be files here",
        ),
    ],
)
def test_what_is_no_conversation_with_a_plan_is_refused_with_its_line(record, words, tmp_path):
    with pytest.raises(UserError, match=r"^f:1: ") as error:
        imported(record, "f:1", tmp_path)
    assert words in str(error.value)


def test_what_a_format_cannot_say_is_refused(rows, tmp_path):
    def row_with(*items):
        record = {"messages": [{"role": "user", "content": list(items)}], "target": {"steps": "1)"}}
        return row_from_record(record, "f:1", tmp_path)

    tagged = row_with({"type": "image", "image": "a.png"}, {"type": "text", "text": "what <image> means"})
    for form in ("sharegpt", "swift"):
        with pytest.raises(UserError, match="f:1: <image> stands in the words"):
            exported(tagged, form, str)
    assert exported(tagged, "trl", str)["images"] == ["a.png"]
    for video in (["0.png", "1.png"], "a.mp4"):
        framed = row_with({"type": "video", "video": video, "fps": 1.0})
        with pytest.raises(UserError, match="cannot say the frames or the bounds"):
            exported(framed, "swift", str)
    with pytest.raises(UserError, match="f:1: image not found"):
        exported(row_with({"type": "image", "image": "gone.png"}), "trl", files_beside(tagged, None, None, tmp_path))


def test_nothing_is_written_where_a_line_is_bad(rows, tmp_path):
    rows.write_text(rows.read_text() + "{torn\n")
    assert_one_line_error(run_script(EXPORT, "--rows", rows, "--to", "swift"), "rows.jsonl:4")
    assert_one_line_error(run_script(IMPORT, "--conversations", rows), "rows.jsonl:4")
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["rows.jsonl"]
    listed = tmp_path / "theirs.json"
    listed.write_text(json.dumps([{"messages": TURN}, 3]))
    assert_one_line_error(run_script(IMPORT, "--conversations", listed), "item 2", "found int")
    listed.write_text(json.dumps([{"messages": TURN}]))
    assert run_script(IMPORT, "--conversations", listed).returncode == 0
    assert read_rows(tmp_path / "theirs_planning.jsonl")[0].steps == "1) Go."
