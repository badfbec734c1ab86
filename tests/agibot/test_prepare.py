"""prepare_love_agibot.py: from archives to rows that training accepts, killed on the way, on a full disk."""

from configs.config import next_line
from leap.files import read_jsonl
from leap.rows.records import read_rows
from tests.agibot.annotated import SCRIPT, files_of
from tests.agibot.archives import frame
from tests.conftest import assert_one_line_error, run_script


def test_from_archives_and_annotations_to_rows_that_training_accepts(workspace, source, tmp_path):
    data = tmp_path / "own data"
    data.mkdir()
    (workspace / "data").unlink()
    (workspace / "data").symlink_to(data)
    done = run_script(SCRIPT, "--source", source, "--annotations", source / "task_info", "--split", "--blind", 3)
    assert done.returncode == 0, done.stderr
    assert "36 rows, 0 entries quarantined" in done.stdout
    rows = read_rows(data / "agibot_all.jsonl")
    assert [row.id for row in rows[:2]] == ["327-1", "327-2"]
    command = f"validate_data.py --rows '{workspace}/data/agibot_train.jsonl'"
    assert done.stdout.splitlines()[-1] == next_line(f"python scripts/training/{command}")
    assert rows[0].steps == "1) Pick up the cup. 2) Put it down."
    assert (rows[0].task_id, rows[0].episode_id, rows[0].task_name) == ("327", "1", "Task 327")
    assert rows[0].messages[0]["content"][0] == {"type": "image", "image": "images/327-1.png"}
    assert (data / "images" / "327-1.png").read_bytes() == frame("327", "1", 1)
    metadata = read_jsonl(data / "agibot" / "metadata.jsonl")
    assert [one["id"] for one in metadata] == [row.id for row in rows]
    assert metadata[0]["skills"] == ["Pick", "Put"]
    assert metadata[0]["frames"] == [[0, 8], [9, 17]]
    assert metadata[0]["licence"] == "CC BY-NC-SA 4.0"
    assert metadata[0]["source"] == "task_info/task_327.json[0]"
    sides = [len(read_jsonl(data / f"{name}.jsonl")) for name in ("agibot_train", "agibot_test", "agibot_blind_3")]
    assert sides[0] + sides[1] == 36
    assert 1 <= sides[2] <= 3
    model = workspace / "models" / "tiny-planner"
    arguments = ["--model_name_or_path", model, "--train_file", data / "agibot_train.jsonl", "--workers", 1]
    checked = run_script("training/validate_data.py", *arguments)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_same_input_gives_the_same_bytes_and_nothing_is_done_twice(root, source):
    arguments = ["--source", source, "--annotations", source / "task_info"]
    assert run_script(SCRIPT, *arguments, "--workers", 1).returncode == 0
    first = files_of(root)
    again = run_script(SCRIPT, *arguments)
    assert "3 tasks, 3 done" in again.stdout
    assert next_line(f"python scripts/utils/split_dataset.py --rows '{root}/data/agibot_all.jsonl'") in again.stdout
    assert files_of(root) == first


def test_tasks_are_chosen_and_only_what_is_missing_or_changed_is_done(root, source):
    done = run_script(SCRIPT, "--source", source, "--tasks", 352, 1001, "--max_tasks", 1, "--num-workers", 1)
    assert "tasks done: 1, first frames: 12" in done.stdout
    assert f"--annotations {source}/task_info --tasks 352 1001 --split" in done.stdout.splitlines()[-1]
    images = root / "data" / "images"
    assert {path.name.split("-")[0] for path in images.iterdir()} == {"352"}
    picture = images / "352-3.png"
    picture.write_bytes(picture.read_bytes()[:-1] + b"X")
    assert "1 tasks, 1 done" in run_script(SCRIPT, "--source", source, "--tasks", 352).stdout
    assert "1 tasks, 0 done" in run_script(SCRIPT, "--source", source, "--tasks", 352, "--verify").stdout
    assert picture.read_bytes() == frame("352", "3", 1)
    assert_one_line_error(run_script(SCRIPT, "--source", source, "--tasks", 9), "no archive of task 9")
    assert_one_line_error(run_script(SCRIPT, "--source", root), "no archive task_<id>.tar.gz")
    assert_one_line_error(run_script(SCRIPT, "--split"), "--annotations")


def test_a_split_that_cannot_be_is_refused_before_any_archive_is_read(root, source):
    arguments = ("--source", source, "--annotations", source / "task_info", "--split", "--test_fraction", 1.5)
    assert_one_line_error(run_script(SCRIPT, *arguments), "test_fraction 1.5", "nothing to train on")
    assert not root.exists()
