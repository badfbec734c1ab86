"""The card of a data set: rows, tasks and pictures counted, the licence of their source."""

import json

import pytest

from configs.errors import UserError
from leap.demo.build import build_rows
from leap.publish.dataset_card import dataset_card
from tests.conftest import unaligned
from tests.publish.cards import front_matter


def test_a_data_sets_card_counts_rows_tasks_and_pictures(tmp_path):
    build_rows(tmp_path / "train.jsonl", "train", 30, seed=0)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    tasks = len({row["task_name"] for row in rows})
    pictures = len(list((tmp_path / "images").iterdir()))
    card = dataset_card([tmp_path / "train.jsonl"], "me/rows")
    assert f"| `train.jsonl` | 30 | {tasks} | - | {pictures} |" in unaligned(card)
    data = front_matter(card)
    assert data["size_categories"] == ["n<1K"]
    assert "license" not in data


def test_rows_with_pictures_named_as_agibots_carry_its_licence_unless_another_is_given(tmp_path):
    content = [{"type": "image", "image": "images/327-648642.png"}, {"type": "text", "text": "Task name: Wipe."}]
    row = {"messages": [{"role": "user", "content": content}], "target": {"steps": "1) Wipe."}, "task_id": 327}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row | {"episode_id": 648642}) + "\n")
    card = dataset_card([tmp_path / "rows.jsonl"], "me/rows")
    assert front_matter(card)["license"] == "cc-by-nc-sa-4.0"
    assert "| `rows.jsonl` | 1 | 1 | 1 | 1 |" in unaligned(card)
    assert front_matter(dataset_card([tmp_path / "rows.jsonl"], "me/rows", "mit"))["license"] == "mit"


def test_an_empty_data_set_has_no_card(tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(UserError, match="no planning rows"):
        dataset_card([tmp_path / "rows.jsonl"], "me/rows")
