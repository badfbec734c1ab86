"""Rows in a mapped file: taken out one by one, kept where it can be written, replaced when the data changes."""

import os
import pickle

import numpy as np
import pyarrow as pa
import pytest

from configs.errors import UserError
from leap.rows import arrow
from leap.rows.arrow import SCHEMA, PlanningRows, find_table, open_table, rows_at, table_name, with_rows, write_table
from tests.training.planning_lines import row

CONTENT, SETTINGS = "c" * 64, "5" * 64


def batch(*texts, first=1):
    records = [{"number": first + i, "text": text.encode(), "media": []} for i, text in enumerate(texts)]
    return pa.RecordBatch.from_pylist(records, SCHEMA)


def written(data, *texts, content=CONTENT, settings=SETTINGS):
    return write_table(data, table_name(data, content, settings), lambda: [batch(*texts)])


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "rows.jsonl"


def test_a_row_is_built_when_it_is_taken_out_and_knows_its_line(data):
    file = written(data, row("a"), row("b"), "{", row("d"))
    rows = PlanningRows(file, data, np.array([0, 1, 3]), {3: 17})
    assert [taken.where for taken in rows] == [f"{data}:{number}" for number in (1, 2, 4)]
    assert [taken.image_tokens for taken in rows] == [None, None, 17]
    assert [taken.where for taken in rows[1:]] == [f"{data}:2", f"{data}:4"]
    assert rows[-1].messages[0]["content"][0]["text"] == "d"
    with pytest.raises(IndexError):
        rows[3]
    with pytest.raises(UserError, match=r"rows.jsonl:3: not valid JSON"):
        PlanningRows(file, data, np.array([2]))[0]


def test_rows_stay_where_the_data_and_their_table_vanish(data):
    data.write_text(row("a"))
    file = written(data, row("a"))
    rows = PlanningRows(file, data, np.array([0]))
    data.unlink()
    file.unlink()
    assert rows[0].steps == "1) Go. 2) Stop."


def test_a_process_that_gets_the_rows_gets_the_name_of_their_file_alone(data):
    file = written(data, *[row("word " * 1000)] * 500)
    rows = PlanningRows(file, data, np.arange(500))
    assert len(pickle.dumps(rows)) < 10_000 < os.path.getsize(file)
    assert pickle.loads(pickle.dumps(rows))[499] == rows[499]


def test_rows_are_replaced_in_large_tables_too(data, monkeypatch):
    monkeypatch.setattr(arrow, "_BATCH", 4)
    name = table_name(data, CONTENT, SETTINGS)
    file = write_table(data, name, lambda: (batch(f"old {i}", first=i) for i in range(10)))
    table = open_table(file)
    assert [len(part) for part in table.to_batches()] == [4, 4, 2]
    fresh = pa.Table.from_batches([batch("new 0"), batch("new 5"), batch("new 9")])
    write_table(data, name, lambda: with_rows(table, np.array([0, 5, 9]), fresh))
    taken = rows_at(open_table(file), np.array([0, 3, 4, 9])).column("text").to_pylist()
    assert taken == [b"new 0", b"old 3", b"old 4", b"new 9"]
    texts = [text.decode() for text in open_table(file).column("text").to_pylist()]
    assert texts == ["new 0", *[f"old {i}" for i in range(1, 5)], "new 5", *[f"old {i}" for i in range(6, 9)], "new 9"]


def test_changed_data_removes_the_tables_of_the_old_and_settings_keep_some_of_theirs(data):
    older_form = data.with_name(f".rows.{'0' * 16}.lengths.jsonl")
    other_data = data.with_name(f".other.jsonl.{'a' * 16}.{'b' * 16}.arrow")
    for file in (older_form, other_data):
        file.write_text("{}")
    files = [written(data, "a", settings=f"{i:016}") for i in range(6)]
    assert not older_form.exists()
    assert [file.exists() for file in files] == [False, False, True, True, True, True]
    new = written(data, "b", content="d" * 64)
    assert sorted(data.parent.iterdir()) == sorted([new, other_data])


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"{}"])
def test_a_file_that_is_no_whole_table_is_none(data, content):
    file = written(data, "a")
    assert find_table(data, file.name) == file
    file.write_bytes(content or file.read_bytes()[:-20])
    assert find_table(data, file.name) is None


def test_where_the_folder_of_the_data_cannot_be_written_the_cache_of_the_hub_has_the_table(data, monkeypatch):
    cache = data.parent.parent / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(cache))
    data = data.parent / "absent" / "rows.jsonl"
    data.parent.write_text("a file, in which nobody can write files, root neither")
    file = written(data, "a")
    assert file.is_relative_to(cache)
    assert find_table(data, file.name) == file
    cache.rename(cache.with_name("moved"))
    cache.write_text("")
    with pytest.raises(UserError, match="cannot be written .*HF_HOME"):
        written(data, "a")
