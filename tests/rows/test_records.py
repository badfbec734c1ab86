import json

import pytest

from configs.errors import UserError
from leap.rows.records import read_rows, row_from_record, unread_keys

GOOD = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Plan."}]}], "target": {"steps": " 1) Go. "}}


def test_a_row_is_typed_and_its_text_content_wrapped(tmp_path):
    record = {
        "messages": [{"role": "system", "content": "Be brief."}, *GOOD["messages"]],
        "target": GOOD["target"],
        "task_id": 327,
        "unknown": 1,
    }
    row = row_from_record(record, "f:1", tmp_path)
    assert row.messages[0] == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert (row.steps, row.task_id, row.id) == ("1) Go.", "327", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": None}, "'messages' must be a list"),
        ({"messages": []}, "'messages' must be a list"),
        ({"target": {}}, "'target.steps' must be the plan as text"),
        ({"target": {"steps": "  "}}, "'target.steps' must be the plan as text"),
        ({"target": "1) Go."}, "'target.steps' must be the plan as text"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "a turn needs a role"),
        ({"messages": [{"role": "user", "content": []}]}, "the user turn has no content"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "a content item must be"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": 3}]}]}, "a content item must be"),
        ({"images": ["a.png", "b.png"]}, "the key 'images' names 2 images, of which the turns show 0; write each as"),
        ({"image": "a.png"}, "the key 'image' names 1 images, of which the turns show 0"),
        ({"videos": ["a.mp4"]}, "the key 'videos' names 1 videos, of which the turns show 0"),
        ({"messages": [{"role": "user", "content": "<image>Plan."}]}, "<image> stands in the words"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "last turn must be"),
    ],
)
def test_a_defect_is_named_with_file_and_line(tmp_path, change, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | change) + "\n")
    with pytest.raises(UserError, match=words) as error:
        read_rows(path)
    assert str(error.value).startswith(f"{path}:2: ")


def test_an_empty_file_is_an_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no planning rows"):
        read_rows(path)


def test_a_column_of_pictures_that_the_turns_show_too_does_no_harm(tmp_path):
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "<image> Plan."}]
    record = GOOD | {"messages": [{"role": "user", "content": content}], "images": ["a.png"]}
    assert unread_keys(record, row_from_record(record, "f:1", tmp_path)) == []


def test_keys_that_might_change_a_prompt_and_are_not_read_are_named(tmp_path):
    content = [
        {"type": "image", "image": "a.png", "max_pixels": 9, "resized_height": 8},
        {"type": "video", "video": ["a.png"], "max_pixels": 9, "fps": 1.0},
        {"type": "video", "video": "a.mp4", "max_pixels": 9, "fps": 1.0},
    ]
    turns = [
        {"role": "assistant", "content": "x", "tool_calls": [1], "name": None},
        {"role": "user", "content": content},
    ]
    record = GOOD | {"messages": turns, "tools": ["grasp"], "source": "a robot", "system": ""}
    assert unread_keys(record, row_from_record(record, "f:1", tmp_path)) == [
        "'fps' of video items",
        "'max_pixels' of image items",
        "'resized_height' of image items",
        "'tool_calls' of a turn",
        "the key 'tools'",
    ]
