import json

import pytest

from configs.errors import UserError
from leap.rows.records import read_rows, row_from_record

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
