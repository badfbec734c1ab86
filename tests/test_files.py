import csv
import json
import os

import pytest

from configs.errors import UserError
from leap.files import (
    Journal,
    csv_reader,
    locked,
    numbered_jsonl,
    only_writer,
    read_jsonl,
    replacing,
    sha256_json,
    write_csv,
    write_json,
    write_jsonl,
)


def test_a_replaced_file_is_never_half_written(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("torn", [b'{"n": 2', b'{"n": 2}', b"\x00\xff", b'{"n": 2, "text": "' + b"x" * 200_000])
def test_a_torn_last_line_is_cut_off_and_the_journal_goes_on(tmp_path, torn):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append([{"n": 0}, {"n": 1}])
    with path.open("ab") as file:
        file.write(torn)
    with Journal(path) as journal:
        assert journal.repaired_bytes == len(torn)
        journal.append([{"n": 2}])
        assert journal.read() == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_journal_of_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"n"')
    with Journal(path) as journal:
        assert journal.read() == []


def test_a_journal_takes_any_text_a_model_may_write(tmp_path):
    text = "\ud800 \u2028 \x00 \n\r ``` 图"
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append([{"text": text}])
        assert journal.read() == [{"text": text}]


def test_a_journal_has_one_writer_at_a_time(tmp_path):
    with Journal(tmp_path / "journal.jsonl"), pytest.raises(UserError, match="being written by another process"):
        Journal(tmp_path / "journal.jsonl")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1}\n\n{"a"\n', ":3: not valid JSON"),
        (b"[1]\n", ":1: expected a JSON object, found list"),
        (b"\xff\xfe\n", "is not UTF-8"),
        (b"[" * 100_000, ":1: not valid JSON"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, content, words):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_jsonl(path)


def test_empty_lines_are_skipped_and_numbers_stay_those_of_the_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}')
    assert list(numbered_jsonl(path)) == [(2, {"a": 1}), (4, {"a": 2})]


def test_a_file_of_lines_is_written_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert write_jsonl(path, ({"n": n, "text": "\ud800"} for n in range(2))) == 2
    with pytest.raises(UserError, match="no rows"):
        write_jsonl(path, [], nothing=UserError("no rows"))
    with pytest.raises(ZeroDivisionError):
        write_jsonl(path, ({"n": 1 / n} for n in (1, 0)))
    assert read_jsonl(path) == [{"n": 0, "text": "\ud800"}, {"n": 1, "text": "\ud800"}]
    assert write_jsonl(path, []) == 0
    assert path.read_bytes() == b""


def test_the_hash_of_a_value_does_not_depend_on_the_order_of_keys():
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1}) != sha256_json({"a": 1, "b": [3]})


def test_a_shared_lock_keeps_out_only_who_wants_the_file_alone(tmp_path):
    with open(tmp_path / "lock", "a+b") as first, open(tmp_path / "lock", "a+b") as second:
        assert locked(first, shared=True)
        assert locked(second, shared=True)
        assert not locked(second)
    with open(tmp_path / "lock", "a+b") as third:
        assert locked(third)


def test_what_kills_left_of_files_goes_when_a_process_first_writes_into_their_folder(tmp_path):
    path, others = tmp_path / "a.json", [tmp_path / ".a.json.notes", tmp_path / ".folder.part"]
    left, young, busy = (tmp_path / f".a.json.{name}.part" for name in ("abcdefgh", "ijklmnop", "qrstuvwx"))
    of_another = tmp_path / ".b [1].json.ab_defg1.part"
    for part in (left, of_another, young, busy, *others):
        part.write_bytes(b"half")
        if part is not young:
            os.utime(part, (1, 1))
    with open(busy, "rb") as file:
        assert locked(file)
        write_json(path, 1)
    assert not left.exists()
    assert not of_another.exists()
    assert all(part.exists() for part in (young, busy, *others))


def test_a_folder_has_one_writer_and_goes_if_nothing_was_written(tmp_path):
    folder = tmp_path / "new" / "run"
    with pytest.raises(RuntimeError), only_writer(folder):
        with pytest.raises(UserError, match="run is being written by another process"), only_writer(folder):
            pass
        raise RuntimeError
    assert not folder.exists()
    with only_writer(folder):
        (folder / "file").touch()
    with only_writer(folder):
        assert (folder / "file").exists()


@pytest.mark.parametrize("cell", ["=1+1", "+SUM(A1)", "-2+3", "@x", "\t=1", "- Pick the cup", "'=1", "''-x"])
def test_a_spreadsheet_computes_no_text_of_a_csv_file_and_we_read_it_as_it_was(tmp_path, cell):
    write_csv(tmp_path / "a.csv", ["text", "number"], [[cell, -0.5], ["'quoted'", "-1.5e3"]])
    with open(tmp_path / "a.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["text"] == "'" + cell
    assert (first["number"], second["number"], second["text"]) == ("-0.5", "-1.5e3", "'quoted'")
    with open(tmp_path / "a.csv", newline="") as file:
        assert [row["text"] for row in csv_reader(file)] == [cell, "'quoted'"]
