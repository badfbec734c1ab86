"""Rows checked against the files that they name."""

import pytest

from configs.errors import UserError
from leap.data.row_checks import read_file
from tests.data.picture_rows import write_rows


def test_a_file_without_any_planning_row_is_an_error_that_names_its_first_line(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [b"\n", {"a": 1}, {"b": 1}])
    with pytest.raises(UserError, match=r"a.jsonl:2: 'messages' must be a list"):
        read_file(path, tested=False, image_root=None, workspace=tmp_path, moved={})
