"""Which files of a folder are planning files, and which are tested on."""

from pathlib import Path

from leap.data.planning_files import default_files, is_tested, planning_files
from tests.conftest import run_script
from tests.data.picture_rows import CLEAN, row, write_rows


def test_sides_follow_from_file_names():
    tested = ["test", "my_test", "test-2", "blind_10", "val", "all_val", "eval.small", "dev"]
    assert all(is_tested(Path(f"{name}.jsonl")) for name in tested)
    assert not any(is_tested(Path(f"{name}.jsonl")) for name in ("train", "contest", "valve", "devices", "latest"))


def test_the_planning_files_of_a_folder_leave_out_what_is_none(data):
    assert run_script(CLEAN).returncode == 1
    write_rows(data / "other.jsonl", [{"a": 1}])
    (data / "empty.jsonl").write_bytes(b"")
    assert [path.name for path in planning_files(data)] == ["test.jsonl", "train.jsonl"]


def test_a_file_that_holds_a_split_as_a_whole_counts_only_where_it_is_named_or_alone(data):
    names = ["agibot_all.jsonl", "all_rows.jsonl", "all_val.jsonl"]
    for name in names:
        write_rows(data / name, [row("images/327-1.png")])
    files, left_out = default_files(data)
    assert [path.name for path in files] == ["all_val.jsonl", "test.jsonl", "train.jsonl"]
    assert [path.name for path in left_out] == names[:2]
    said = run_script(CLEAN).stdout
    assert "left out: agibot_all.jsonl all_rows.jsonl" in said
    assert not (data / "agibot_all.cleaned.jsonl").exists()
    run_script(CLEAN, "--files", data / "agibot_all.jsonl", data / "test.jsonl")
    assert (data / "agibot_all.cleaned.jsonl").exists()
    (data / "train.jsonl").unlink()
    assert default_files(data) == (planning_files(data), [])
