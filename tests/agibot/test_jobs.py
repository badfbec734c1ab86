"""One archive a process: killed, on a full disk, and what was fetched is deleted."""

import errno
import os
import random
import subprocess
import time
from dataclasses import replace

import pytest

from leap.agibot import frames as frames_module
from leap.agibot.jobs import ArchiveJob, archives_folder, jobs_of_folder, prepare_task, remove_leftovers, still_to_do
from leap.downloads.fetch import STAGING
from leap.files import locked
from tests.agibot.annotated import SCRIPT, files_of
from tests.agibot.archives import cut_off, frame, task_archive
from tests.conftest import run_script, start_script

REPO = "EvanSirius/LOVE-Agibot-Beta"


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


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_leave_no_part(root, source, tmp_path):
    assert run_script(SCRIPT, "--source", source, "--workers", 2).returncode == 0
    wanted = files_of(root / "data")
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
        for name, content in files_of(killed / "data").items() if killed.exists() else ():
            assert ".part/" in name or name.endswith((".part", ".own.json")) or wanted[name] == content
    process = start_script(SCRIPT, "--source", source, "--workers", 2, env=environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert files_of(killed / "data") == wanted


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


@pytest.mark.slow
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


def job_of(root, task, **fields):
    """The job of an archive that is in its place, as a killed run fetched it."""
    path = task_archive(root / "data" / "agibot" / "archives", task, {"1": [0]})
    job = ArchiveJob(task, f"image/task_{task}.tar.gz", path.stat().st_size, root / "data", REPO, "main")
    return path, replace(job, **fields)


def test_what_was_fetched_of_a_task_that_is_done_is_deleted_at_the_next_start(root):
    path, job = job_of(root, "327")
    content = path.read_bytes()
    jobs = [replace(job, path=str(path), repo_id=None), job]
    assert prepare_task(jobs[0]).frames == 1
    assert still_to_do([replace(job, keep=True)]) == []
    assert still_to_do(jobs[:1]) == []
    assert path.exists()
    assert still_to_do([job]) == []  # killed between the manifest and the deletion
    assert not path.exists()
    path.write_bytes(content)
    (root / "data" / "images" / "327-1.png").unlink()
    assert still_to_do([job]) == [job]
    assert path.exists()


def test_half_fetched_files_are_removed_unless_a_run_is_fetching(root):
    data = root / "data"
    job = ArchiveJob("1", "image/task_1.tar.gz", 9, data, REPO, "main")
    parts = [folder / STAGING / "x" / "part" for folder in (data / "agibot", archives_folder(data))]
    for part in parts:
        part.parent.mkdir(parents=True)
        part.write_bytes(b"half")
    with open(archives_folder(data) / ".lock", "ab") as another_run:
        assert locked(another_run)
        remove_leftovers(data, [job])
        assert all(part.exists() for part in parts)
    remove_leftovers(data, [replace(job, repo_id=None)])  # of a folder: nothing is fetched
    assert all(part.exists() for part in parts)
    remove_leftovers(data, [job])
    assert not any(part.exists() for part in parts)
