"""Where rows come from: files of several formats, each in its share, and what is said of those that cannot be read."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from configs.errors import UserError
from leap.rows.sources import JoinedRows, Mixture, Source, count_lines, data_named, numbered_lines, words_of
from leap.training.preflight import check_file
from tests.training.planning_lines import GOOD, row

CHAT = {"messages": [{"role": "user", "content": "Plan."}, {"role": "assistant", "content": "1) Go."}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "<image>Plan."}, {"from": "gpt", "value": "1) Go."}]}
SHAREGPT |= {"images": ["a.png"]}


@pytest.fixture
def folder(workspace):
    Image.new("RGB", (64, 64), "red").save(workspace / "a.png")
    return workspace


def parquet(path, records, row_group_size=2):
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=row_group_size)
    return path


def test_a_path_may_have_a_weight_and_several_are_a_mixture(tmp_path):
    assert data_named(["a.jsonl"]) == data_named(["a.jsonl:1"]) == (tmp_path / "a.jsonl").relative_to(tmp_path)
    mixture = data_named(["a.jsonl:0.7", "b:c/d.parquet", "e.jsonl.gz:2"])
    assert [(str(source.path), source.weight) for source in mixture.sources] == [
        ("a.jsonl", 0.7), ("b:c/d.parquet", 1.0), ("e.jsonl.gz", 2.0)
    ]  # fmt: skip
    assert data_named(words_of(mixture)) == mixture
    odd = tmp_path / "rows:3"
    odd.touch()
    assert data_named([str(odd)]) == odd, "a file of that name is no weight"


@pytest.mark.parametrize("weight", ["x", "0", "-1", "nan", "inf", ""])
def test_a_weight_that_is_no_number_above_0_is_refused(weight):
    with pytest.raises(UserError, match=re.escape(f"a.jsonl:{weight}: the weight of a file must be a number above 0")):
        data_named([f"a.jsonl:{weight}", "b.jsonl"])


def test_a_file_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a.jsonl is named twice; name it once, with a weight"):
        data_named([str(tmp_path / "a.jsonl"), str(tmp_path / "b" / ".." / "a.jsonl:2")])


def test_jsonl_gzip_and_parquet_hold_the_same_rows(folder, collator):
    records = [json.loads(row("a")), json.loads(row("b", image="a.png")), json.loads(row("c", task_name="t"))]
    text = "\n".join(["", *map(json.dumps, records), ""])
    plain, zipped = folder / "rows.jsonl", folder / "rows.jsonl.gz"
    plain.write_text(text)
    zipped.write_bytes(gzip.compress(text.encode()))
    checks = [check_file(path, collator, 256) for path in (plain, zipped, parquet(folder / "rows.parquet", records))]
    for check in checks[1:]:
        assert [(taken.messages, taken.steps) for taken in check.rows] == [
            (taken.messages, taken.steps) for taken in checks[0].rows
        ]
        assert check.lengths == checks[0].lengths
        assert (check.remarks, check.rejected) == ({}, [])
    assert [check.rows[1].where for check in checks] == [
        f"{plain}:3", f"{zipped}:3", f"{folder / 'rows.parquet'}:2"
    ]  # fmt: skip
    assert [count_lines(check.path) for check in checks] == [3, 3, 3]


@pytest.mark.parametrize(
    ("record", "form"),
    [
        (CHAT, "chats"),
        (SHAREGPT, "ShareGPT conversations"),
        ({"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:]}, "prompts with completions"),
    ],
)
def test_conversations_of_other_formats_are_read_and_said(folder, collator, record, form):
    (folder / "theirs.jsonl").write_text(json.dumps(record))
    for _ in range(2):
        check = check_file(folder / "theirs.jsonl", collator, 256)
        assert check.rows[0].steps == "1) Go."
        assert f"read as {form}" in check.text()


def test_a_conversation_stays_what_it_was_written_as_when_its_picture_changes(folder, collator):
    (folder / "theirs.jsonl").write_text(json.dumps(SHAREGPT))
    small = check_file(folder / "theirs.jsonl", collator, 256).lengths[0].visual
    Image.new("RGB", (256, 64), "red").save(folder / "a.png")
    check = check_file(folder / "theirs.jsonl", collator, 256)
    assert check.lengths[0].visual > small
    assert check.form == "ShareGPT conversations"


def test_a_planning_row_may_mark_the_pictures_of_a_column(folder, collator):
    turn = {"role": "user", "content": "<image>Plan."}
    (folder / "rows.jsonl").write_text(json.dumps(GOOD | {"messages": [turn], "images": ["a.png"]}) + "\n" + row())
    check = check_file(folder / "rows.jsonl", collator, 256)
    assert check.rows[0].messages[0]["content"][0] == {"type": "image", "image": "a.png"}
    assert check.lengths[0].visual > 0


def test_two_formats_in_one_file_are_refused_where_the_second_begins(folder, collator):
    (folder / "rows.jsonl").write_text("\n".join([row(), row("b"), json.dumps(CHAT), json.dumps(SHAREGPT)]))
    with pytest.raises(UserError, match=r"rows.jsonl:3: one of chats, where LEAP rows come first"):
        check_file(folder / "rows.jsonl", collator, 256)


def test_a_damaged_file_names_the_line_or_the_row_group(folder):
    zipped = folder / "rows.jsonl.gz"
    zipped.write_bytes(gzip.compress("\n".join(row(str(i)) for i in range(50)).encode())[:-30])
    with pytest.raises(UserError, match=r"rows.jsonl.gz:\d+: cannot be read"):
        list(numbered_lines(zipped))
    table = parquet(folder / "rows.parquet", [json.loads(row("word " * 50 + str(i))) for i in range(6)])
    offset = pq.ParquetFile(table).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(table.read_bytes())
    content[offset : offset + 20] = b"\xff" * 20
    table.write_bytes(content)
    lines = numbered_lines(table)
    assert [next(lines)[0], next(lines)[0]] == [1, 2]
    with pytest.raises(UserError, match=r"rows.parquet: row group 2 of 3, row 3: cannot be read"):
        next(lines)
    table.write_text("{}")
    with pytest.raises(UserError, match="no Parquet file that can be read"):
        count_lines(table)
    with pytest.raises(UserError, match=r"rows.parquet:1: the row holds bytes outside of image"):
        list(numbered_lines(parquet(table, [{"messages": [], "sound": b"WAV"}])))


@pytest.mark.parametrize("column", ["image", "images"])
def test_pictures_in_a_parquet_table_are_shown(folder, collator, column):
    content = (folder / "a.png").read_bytes()
    turns = [{"role": "user", "content": "<image>Plan."}, CHAT["messages"][1]]
    pictures = {"image": content, "images": [{"bytes": content, "path": "a.png"}]}
    check = check_file(
        parquet(folder / "rows.parquet", [{"messages": turns, column: pictures[column]}] * 2), collator, 256
    )
    assert check.rejected == []
    assert {collator.pictures(row)[0].getpixel((0, 0)) for row in check.rows} == {(255, 0, 0)}


def test_rows_of_several_files_stand_one_behind_the_other():
    rows = JoinedRows([["a", "b"], ["c"], ["d", "e"]])
    assert list(rows) == ["a", "b", "c", "d", "e"]
    assert (rows[-1], rows[2], rows[1:4], len(rows)) == ("e", "c", ["b", "c", "d"], 5)
    for index in (5, -6):
        with pytest.raises(IndexError):
            rows[index]


def test_a_mixture_is_written_as_it_is_named(tmp_path):
    mixture = Mixture((Source(tmp_path / "a.jsonl", 0.25), Source(tmp_path / "b.jsonl")))
    assert words_of(mixture) == [f"{tmp_path}/a.jsonl:0.25", f"{tmp_path}/b.jsonl:1"]
