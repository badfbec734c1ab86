"""prepare_love_agibot.py: from archives to rows that training accepts, killed on the way, on a full disk."""

import errno
import json
import os
import random
import subprocess
import time

import pytest

from leap.agibot import frames as frames_module
from leap.agibot.jobs import ArchiveJob, jobs_of_folder, prepare_task
from leap.files import read_jsonl
from leap.rows.records import read_rows
from tests.agibot.archives import cut_off, frame, task_archive
from tests.conftest import assert_one_line_error, run_script, start_script

SCRIPT = "utils/prepare_love_agibot.py"
EPISODES = {str(episode): [3, 1, 2] for episode in range(1, 13)}


def annotation(task, episode, **fields):
    texts = ("Pick up the cup.", "Put it down.")
    config = [
        {"start_frame": 9 * i, "end_frame": 9 * i + 8, "action_text": text, "skill": text.split()[0]}
        for i, text in enumerate(texts)
    ]
    return {
        "episode_id": int(episode),
        "task_id": int(task),
        "task_name": f"Task {task}",
        "label_info": {"action_config": config},
    } | fields


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A workspace without anything."""
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path / "work space"))
    return tmp_path / "work space"


@pytest.fixture
def source(tmp_path):
    """Archives of three tasks and their annotations."""
    for task in ("327", "352", "1001"):
        task_archive(tmp_path / "source", task, EPISODES)
        folder = tmp_path / "source" / "task_info"
        folder.mkdir(exist_ok=True)
        entries = [annotation(task, episode) for episode in EPISODES]
        (folder / f"task_{task}.json").write_text(json.dumps(entries))
    return tmp_path / "source"


def files_of(root):
    """Every file of the workspace, hidden ones too, with its content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


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
    command = f"validate_data.py --train_file '{workspace}/data/agibot_train.jsonl'"
    assert done.stdout.splitlines()[-1] == f"next: python scripts/training/{command}"
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
    assert f"next: python scripts/utils/split_dataset.py --source '{root}/data/agibot_all.jsonl'" in again.stdout
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


def test_failures_end_in_a_list_and_a_status_while_the_others_are_done(root, source):
    archive = source / "image" / "task_352.tar.gz"
    whole = archive.read_bytes()
    cut_off(archive, 5000)
    done = run_script(SCRIPT, "--source", source, "--workers", 2)
    assert done.returncode == 1
    assert "failed: task 352" in done.stderr
    assert "cut off" in done.stderr
    assert "tasks done: 2, first frames: 24" in done.stdout
    archive.write_bytes(whole)
    assert run_script(SCRIPT, "--source", source, "--workers", 2).returncode == 0
    assert len(list((root / "data" / "images").iterdir())) == 36


def test_entries_that_make_no_row_are_listed_with_their_reasons(root, source):
    entries = [
        annotation(327, 1),
        annotation(327, 2),
        annotation(327, 2),
        annotation(327, 3, label_info={"action_config": []}),
        annotation(327, 77),
        annotation(327, 2, task_name="Other"),
        annotation(328, 4),
        annotation(327, 5),
    ]
    task_archive(source, "327", EPISODES | {"6": [0]})
    assert run_script(SCRIPT, "--source", source, "--tasks", 327, "--workers", 1).returncode == 0
    picture = root / "data" / "images" / "327-5.png"
    picture.write_bytes(picture.read_bytes()[:-10])
    notes = source / "task_327.json"
    notes.write_text(json.dumps(entries))
    done = run_script(SCRIPT, "--annotations", notes)
    assert done.returncode == 0, done.stderr
    assert [row.id for row in read_rows(root / "data" / "agibot_all.jsonl")] == ["327-1", "327-2"]
    left_out = read_jsonl(root / "data" / "agibot" / "quarantine.jsonl")
    reasons = {one["source"]: one["reason"] for one in left_out}
    assert {source.rpartition("[")[2]: reason.split(":")[0] for source, reason in reasons.items()} == {
        "2]": "duplicate episode",
        "3]": "has no steps",
        "4]": "missing image",
        "5]": "duplicate episode",
        "6]": "task id is 327 by the file's name, 328 by task_id",
        "7]": "damaged image",
    }
    assert "another plan" in reasons["source/task_327.json[5]"]
    assert "the same plan" in reasons["source/task_327.json[2]"]
    assert "9 first frames have no usable annotation" in done.stdout
    # What gives no rows takes none away.
    before = files_of(root)
    notes.write_text("[]")
    assert_one_line_error(run_script(SCRIPT, "--annotations", notes), f"no entry in {notes}")
    assert files_of(root) == before
    notes.write_text(json.dumps([annotation(327, 1, label_info={"action_config": []})]))
    assert_one_line_error(run_script(SCRIPT, "--annotations", notes), "no rows", "quarantine.jsonl")
    after = files_of(root)
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"data/agibot/quarantine.jsonl"}


def test_a_split_that_cannot_be_is_refused_before_any_archive_is_read(root, source):
    arguments = ("--source", source, "--annotations", source / "task_info", "--split", "--test_fraction", 1.5)
    assert_one_line_error(run_script(SCRIPT, *arguments), "test_fraction 1.5", "nothing to train on")
    assert not root.exists()


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_leave_no_part(root, source, tmp_path):
    assert run_script(SCRIPT, "--source", source, "--workers", 2).returncode == 0
    wanted = files_of(root)
    started = time.monotonic()
    process = start_script(SCRIPT, "--source", source, env=os.environ | {"LEAP_WORKSPACE": str(tmp_path / "timed")})
    process.communicate(timeout=60)
    whole = time.monotonic() - started
    killed = tmp_path / "killed"
    environment = os.environ | {"LEAP_WORKSPACE": str(killed)}
    moments = random.Random(0)
    for _ in range(6):
        process = start_script(SCRIPT, "--source", source, "--workers", 2, env=environment)
        time.sleep(whole * moments.uniform(0.3, 1.0))
        process.kill()
        process.communicate(timeout=60)
        for name, content in files_of(killed).items() if killed.exists() else ():
            assert ".part/" in name or name.endswith((".part", ".own.json")) or wanted[name] == content
    process = start_script(SCRIPT, "--source", source, "--workers", 2, env=environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert files_of(killed) == wanted


def test_what_kills_left_of_frames_and_manifests_is_removed_at_the_next_start(root, source):
    assert run_script(SCRIPT, "--source", source, "--workers", 1).returncode == 0
    wanted = files_of(root)
    frames = root / "data" / "images" / ".task_9999.part"
    frames.mkdir()
    (frames / "9999-1").write_bytes(b"half")
    for name in (".task_327.json.abc.part", ".task_9999.json.abc.part"):
        (root / "data" / "agibot" / name).write_bytes(b"{")
    (root / "data" / "images" / ".task_327.own.json").write_bytes(b"[]")
    assert "3 tasks, 3 done" in run_script(SCRIPT, "--source", source).stdout
    assert files_of(root) == wanted
    assert not frames.exists()


def test_a_full_disk_stops_the_run_and_leaves_no_part(source, tmp_path):
    disk = tmp_path / "small disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, timeout=20).returncode != 0:
        pytest.skip("may not mount a small disk here")
    try:
        process = start_script(SCRIPT, "--source", source, env=os.environ | {"LEAP_WORKSPACE": str(disk)})
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1, out + err
        assert "error: no space left on the disk" in err
        assert "bytes while it is done" in err
        left = files_of(disk)
        assert not [name for name in left if ".part" in name]
        for name, content in left.items():
            if name.startswith("data/images/") and "/." not in name:
                task, episode = name.removeprefix("data/images/").removesuffix(".png").split("-")
                assert content == frame(task, episode, 1)
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True, timeout=20)
        process = start_script(SCRIPT, "--source", source, env=os.environ | {"LEAP_WORKSPACE": str(disk)})
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
        assert len(list((disk / "data" / "images").iterdir())) == 36
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=20)


def test_a_disk_that_fills_in_the_middle_of_a_frame_is_told_apart_from_a_bad_archive(root, source, monkeypatch):
    class Full(type(source)):
        def write_bytes(self, content):
            super().write_bytes(content[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(self))

    (root / "data").mkdir(parents=True)
    place = frames_module.work_path
    monkeypatch.setattr(frames_module, "work_path", lambda *names: Full(place(*names)))
    job = jobs_of_folder(source, root / "data")[0]
    outcome = prepare_task(job)
    assert outcome.disk_full
    assert files_of(root) == {}


def test_a_worker_that_does_not_see_the_workspace_says_so(root):
    assert "all machines must see it" in prepare_task(ArchiveJob("1", "task_1.tar.gz", 1, root / "data")).problem
