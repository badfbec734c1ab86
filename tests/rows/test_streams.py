"""Rows read as they come: from any place on, in turn from several sources, pass after pass."""

import gzip
import json

import pytest
from datasets import Dataset

from configs.errors import UserError
from leap.rows.data_sets import MediaFolder
from leap.rows.streams import LineStream
from tests.rows.test_data_sets import pictured


@pytest.fixture
def sources(tmp_path):
    """Five rows in a file, one of which is empty, and three in a data set."""
    lines = [json.dumps({"text": f"a{i}"}) for i in range(5)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join([lines[0], "", *lines[1:]]).encode()))
    Dataset.from_list([{"text": f"b{i}"} for i in range(3)]).save_to_disk(tmp_path / "b")
    return [tmp_path / "a.jsonl.gz", tmp_path / "b"]


def stream_of(sources):
    return LineStream(sources, MediaFolder(sources[0]))


def texts(lines):
    return [json.loads(line.text)["text"] for line in lines]


def test_sources_take_turns_until_the_last_one_ends_and_begin_again(sources):
    lines = stream_of(sources).read(19)
    one_pass = ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "a4"]
    assert texts(lines) == [*one_pass, *one_pass, *one_pass[:3]]
    assert [line.number for line in lines[:8]] == [1, 1, 3, 2, 4, 3, 5, 6]


@pytest.mark.parametrize("count", range(0, 18))
def test_a_stream_goes_on_from_any_place(sources, count):
    stream = stream_of(sources)
    stream.read(count)
    position = json.loads(json.dumps(stream.position()))
    expected = stream.read(10)
    again = stream_of(sources)
    again.go_to(position)
    assert again.read(10) == expected


def test_sources_without_rows_end_in_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match=r"a.jsonl: no row is there to train on"):
        stream_of([tmp_path / "a.jsonl"]).read(1)


def test_pictures_go_to_the_folder_that_is_named_at_that_time(tmp_path):
    pictured(("red", "blue"), ("green", "green")).save_to_disk(tmp_path / "set")
    media = MediaFolder(tmp_path / "set")
    stream = LineStream([tmp_path / "set"], media)
    for number, pictures in enumerate([2, 1]):
        media.folder = tmp_path / str(number)
        [line] = stream.read(1)
        assert all(name.startswith(str(media.folder)) for name in json.loads(line.text)["images"])
        assert len(list(media.folder.glob("*/*"))) == pictures
    assert not list(tmp_path.glob(".*"))
