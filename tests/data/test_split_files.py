"""Split files on disk: their lines, their names, and what is refused."""

from itertools import chain

import pytest

from leap.files import numbered_jsonl, read_json, read_jsonl
from tests.conftest import assert_one_line_error, run_script
from tests.data.split_rows import line, write_lines


def test_the_script_writes_lines_as_they_were_and_a_second_run_changes_nothing(published):
    with published.open("ab") as file:  # odd bytes that must survive: CRLF, spaces, no last line break
        file.write(b"\n" + line("images/300-0.png", "Task 0").encode().replace(b"\n", b" \r\n"))
        file.write(line("images/301-0.png", "Task 0").encode().rstrip(b"\n"))
    arguments = ["utils/split_dataset.py", "--source", published, "--by", "task", "--val_fraction", 0.1, "--blind", 3]
    done = run_script(*arguments)
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_bytes() for path in published.parent.glob("*.json*") if path != published}
    assert set(written) == {"all_train.jsonl", "all_val.jsonl", "all_test.jsonl", "blind_3.jsonl", "split_report.json"}
    source = [found for found in (published.read_bytes() + b"\n").splitlines(keepends=True) if found.strip()]
    parts = [written[f"all_{side}.jsonl"].splitlines(keepends=True) for side in ("train", "val", "test")]
    assert sorted(chain(*parts)) == sorted(source)
    tested = set(parts[2])
    assert parts[2] == [found for found in source if found in tested]
    assert set(written["blind_3.jsonl"].splitlines(keepends=True)) <= tested
    report = read_json(published.parent / "split_report.json")
    assert report["overlap"]["train / test"]["tasks"] == {"shared": 0, "rows": 0, "unknown": 0, "share": 0.0}
    assert "train / test" in done.stdout
    assert run_script(*arguments).returncode == 0
    assert written == {name: (published.parent / name).read_bytes() for name in written}


def test_files_of_another_split_are_kept_unless_told_otherwise(published):
    arguments = ["utils/split_dataset.py", "--source", published]
    assert run_script(*arguments).returncode == 0
    before = (published.parent / "all_train.jsonl").read_bytes()
    assert_one_line_error(run_script(*arguments, "--seed", 7), "all_train.jsonl holds something else", "--overwrite")
    assert (published.parent / "all_train.jsonl").read_bytes() == before
    assert run_script(*arguments, "--seed", 7, "--overwrite").returncode == 0
    assert (published.parent / "all_train.jsonl").read_bytes() != before
    # Validation rows of an earlier split would be trained on.
    assert run_script(*arguments, "--seed", 7, "--overwrite", "--val_fraction", 0.1).returncode == 0
    assert_one_line_error(run_script(*arguments, "--overwrite"), "all_val.jsonl is of another split")


def test_a_folder_from_which_the_pictures_are_not_found_is_refused(published, tmp_path):
    arguments = ["utils/split_dataset.py", "--source", published]
    near, far = tmp_path / "splits", tmp_path / "far" / "away"
    assert run_script(*arguments, "--output_dir", near).returncode == 0
    assert_one_line_error(run_script(*arguments, "--output_dir", far), "would lead elsewhere", "--image_root")
    assert not far.exists()
    assert run_script(*arguments, "--output_dir", far, "--image_root", tmp_path).returncode == 0
    assert read_jsonl(far / "all_test.jsonl") == read_jsonl(near / "all_test.jsonl")


def test_several_sources_make_one_split_under_a_name_of_its_own(tmp_path):
    files = [write_lines(tmp_path / f"{n}.jsonl", [line(task_id=n, steps=f"1) {i}") for i in range(5)]) for n in "ab"]
    assert_one_line_error(run_script("utils/split_dataset.py", "--source", *files), "--name")
    arguments = ["--source", *files, "--name", "both", "--by", "task", "--test_fraction", 0.5]
    assert run_script("utils/split_dataset.py", *arguments).returncode == 0
    for side in ("train", "test"):
        assert len({record["task_id"] for record in read_jsonl(tmp_path / f"both_{side}.jsonl")}) == 1


def test_the_script_reports_on_files_and_draws_from_a_file_that_are_there_already(published, tmp_path):
    assert run_script("utils/split_dataset.py", "--source", published, "--blind", 5).returncode == 0
    train, test = (published.parent / f"all_{side}.jsonl" for side in ("train", "test"))
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run_script("utils/split_dataset.py", "--report_only", train, test)
    assert done.returncode == 0, done.stderr
    assert "all_train.jsonl / all_test.jsonl" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    done = run_script("utils/split_dataset.py", "--blind_from", test, "--blind", 5, "--output_dir", tmp_path / "blind")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "blind/blind_5.jsonl").read_bytes() == (published.parent / "blind_5.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--rows", "--report_only"]),
        (["--source", "gone.jsonl"], ["planning file not found", "gone.jsonl"]),
        (["--source", "bad.jsonl"], ["bad.jsonl:2: not valid JSON"]),
        (["--source", "empty.jsonl"], ["empty.jsonl holds no planning rows"]),
        (["--source", "one.jsonl", "--by", "task"], ["of 1 tasks cannot fill train and test", "--by episode"]),
        (["--source", "one.jsonl", "one.jsonl", "--name", "x"], ["named twice"]),
        (["--source", "one.jsonl", "--name", "a/b"], ["--name", "--output_dir"]),
        (["--source", "one.jsonl", "--test_fraction", 0.6, "--val_fraction", 0.4], ["leave nothing to train on"]),
        (["--source", "x_test.jsonl", "--name", "x", "--overwrite"], ["x_test.jsonl is a source"]),
        (["--source", "one.jsonl", "--output_dir", "bad.jsonl"], ["cannot write", "bad.jsonl is in the way"]),
        (["--report_only", "one.jsonl"], ["two files"]),
        (["--blind_from", "one.jsonl"], ["--blind 10"]),
    ],
)
def test_what_cannot_be_split_is_one_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    one = [line(task_id=1, episode_id=1), line(task_id=1, episode_id=2)]
    for name, lines in {"one": one, "bad": [line(), "{\n"], "empty": ["\n"], "x_test": one}.items():
        write_lines(tmp_path / f"{name}.jsonl", lines)
    assert_one_line_error(run_script("utils/split_dataset.py", *arguments), *words)
    assert len(list(tmp_path.iterdir())) == 4


def test_line_numbers_are_those_of_the_bytes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a":\r1}\n{"a": 2}\r\n')
    assert list(numbered_jsonl(path)) == [(1, {"a": 1}), (2, {"a": 2})]
