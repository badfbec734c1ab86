"""AgiBot archives from a hub: fetched, read, deleted; through troubles of the network and kills."""

import json
import os
import random
import subprocess
import time

import pytest

from configs.config import next_line
from leap.files import read_jsonl
from tests.agibot.archives import file, frame, picture, task_archive, write_archive
from tests.conftest import run_script, start_script
from tests.hub_server import Hub, Trouble, serving

SCRIPT = "utils/prepare_love_agibot.py"
REPO = "EvanSirius/LOVE-Agibot-Beta"
TASKS = ("327", "352", "1001")
EPISODES = {str(episode): [2, 0, 1] for episode in range(1, 41)}


@pytest.fixture
def hub(tmp_path):
    files = {}
    for task in TASKS:
        files[f"image/task_{task}.tar.gz"] = task_archive(tmp_path / "made", task, EPISODES).read_bytes()
        rows = [
            {
                "episode_dir": f"Agiot_processed/{task}/{episode}",
                "task_general": f"Task {task}",
                "task_detail": "1) Pick up the cup. 2) Put it down.",
            }
            for episode in EPISODES
        ]
        files[f"json/output_{task}.json"] = json.dumps(rows).encode()
    with serving() as running:
        running.add("dataset", REPO, files | {"README.md": b"# LOVE"})
        yield running


def start(hub: Hub | str, *arguments, script=SCRIPT):
    """Start a script with the real client, which reads its address when it is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "http", "HTTP", "ALL"))}
    url = hub if isinstance(hub, str) else hub.url
    kept |= {"HF_ENDPOINT": url, "HF_HOME": os.environ["LEAP_WORKSPACE"] + " home", "NO_PROXY": "127.0.0.1"}
    return start_script(script, *arguments, env=kept)


def ended(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def in_place(root):
    """The files of the workspace that stay, but for the lock of the archives."""
    files = {path.relative_to(root / "data").as_posix() for path in (root / "data").rglob("*") if path.is_file()}
    return files - {"agibot/archives/.lock"}


def wanted(tasks=TASKS):
    images = {f"images/{task}-{episode}.png" for task in tasks for episode in EPISODES}
    return images | {f"agibot/{kind}_{task}.json" for kind in ("task", "json/output") for task in tasks}


@pytest.mark.slow
def test_frames_and_annotations_come_from_the_hub_and_give_rows(hub, root):
    status, out, err = ended(start(hub, "--workers", "2"))
    assert status == 0, out + err
    assert in_place(root) == wanted()
    assert (root / "data" / "images" / "352-7.png").read_bytes() == frame("352", "7", 0)
    manifest = json.loads((root / "data" / "agibot" / "task_352.json").read_text())
    assert manifest["revision"] == hub.repos["dataset", REPO].head
    assert len(manifest["sha256"]) == 64
    command = f"{SCRIPT} --annotations '{root}/data/agibot/json' --split"
    assert out.splitlines()[-1] == next_line(f"python scripts/{command}")
    asked = len([request for request in hub.requests if "resolve" in request])
    assert ended(start(hub))[0] == 0
    assert len([request for request in hub.requests if "resolve" in request]) == asked
    done = run_script(SCRIPT, "--annotations", root / "data" / "agibot" / "json")
    assert "120 rows, 0 entries quarantined" in done.stdout
    assert read_jsonl(root / "data" / "agibot_all.jsonl")[0]["target"]["steps"] == "1) Pick up the cup. 2) Put it down."


@pytest.mark.slow
def test_a_rough_network_is_waited_out(hub, root):
    hub.troubles = [
        Trouble(r"task_327", cut=20_000),
        Trouble(r"task_352", status=503, method="HEAD"),
        Trouble(r"task_352", corrupt=True),
    ]
    status, out, err = ended(start(hub, "--tasks", "327", "352"))
    assert status == 0, out + err
    assert in_place(root) == wanted(("327", "352"))


@pytest.mark.slow
def test_an_archive_that_stays_wrong_is_listed_and_the_others_are_done(hub, root):
    hub.troubles = [Trouble(r"task_352", turns=1000, corrupt=True)]
    status, out, err = ended(start(hub, "--workers", "1"))
    assert status == 1, out + err
    assert "failed: task 352" in err
    assert in_place(root) == wanted(("327", "1001")) | {"agibot/json/output_352.json"}
    hub.troubles = []
    assert ended(start(hub, "--keep_archives"))[0] == 0
    assert in_place(root) == wanted() | {"agibot/archives/image/task_352.tar.gz"}


@pytest.mark.slow
def test_a_repository_without_archives_or_none_is_an_error(hub, root):
    hub.add("dataset", "me/other", {"README.md": b"x"})
    for repo, word in (("me/other", "has no image/task_<id>.tar.gz"), ("me/none", "me/none")):
        status, _, err = ended(start(hub, "--repo_id", repo))
        assert (status, word in err) == (2, True), err


@pytest.mark.slow
def test_kills_fetch_nothing_twice_that_was_done(hub, root):
    for task in TASKS:
        hub.troubles.append(Trouble(rf"task_{task}", turns=1000, pause_s=0.3))
    moments = random.Random(3)
    for _ in range(4):
        process = start(hub, "--workers", "1")
        time.sleep(moments.uniform(1.0, 3.5))
        process.kill()
        ended(process)
        for path in (root / "data" / "images").glob("*.png") if root.exists() else ():
            task, episode = path.stem.split("-")
            assert path.read_bytes() == frame(task, episode, 0)
    done = {task for task in TASKS if (root / "data" / "agibot" / f"task_{task}.json").exists()}
    before = {task: hub.fetched(f"image/task_{task}.tar.gz") for task in done}
    status, out, err = ended(start(hub, "--workers", "1"))
    assert status == 0, out + err
    assert {task: hub.fetched(f"image/task_{task}.tar.gz") for task in done} == before
    assert in_place(root) == wanted()


@pytest.mark.slow
def test_an_archive_that_gives_no_frame_is_a_failure_and_is_not_deleted(hub, root, tmp_path):
    archive = write_archive(tmp_path / "odd.tar.gz", [file("327/1/first.png", picture(1))])
    hub.add("dataset", "me/odd", {"image/task_327.tar.gz": archive.read_bytes()})
    for _ in range(2):
        status, out, err = ended(start(hub, "--repo_id", "me/odd"))
        assert status == 1, out + err
        assert "failed: task 327" in err
        assert "episode 1 has no frame" in err
        assert in_place(root) == {"agibot/archives/image/task_327.tar.gz"}
    assert hub.sent["image/task_327.tar.gz"] == archive.stat().st_size


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_that_was_fetched_and_a_run_that_fits_goes_through(hub, tmp_path, monkeypatch):
    noise = random.Random(0).randbytes(6_000_000)  # more than the disk has
    made = {}
    for task in "1234":
        members = [file(f"{task}/1/0.png", picture(1)), file(f"{task}/1/noise.bin", noise[: 6_000_000 // int(task)])]
        made[f"image/task_{task}.tar.gz"] = write_archive(tmp_path / "made.tar.gz", members).read_bytes()
    hub.add("dataset", "me/large", made)
    disk = tmp_path / "small disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, timeout=20).returncode != 0:
        pytest.skip("may not mount a small disk here")
    monkeypatch.setenv("LEAP_WORKSPACE", str(disk))
    try:
        status, out, err = ended(start(hub, "--repo_id", "me/large"))
        assert status == 1, out + err
        assert "error: no space left on the disk" in err
        assert "Traceback" not in err
        assert not {name for name in in_place(disk) if "archives" in name}
        status, out, err = ended(start(hub, "--repo_id", "me/large", "--workers", "1", "--tasks", "4"))
        assert status == 0, out + err
        assert "images/4-1.png" in in_place(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=20)


@pytest.mark.slow
def test_pictures_of_the_published_rows_and_first_frames_stay_beside_each_other(hub, root, tmp_path):
    other = picture(77, (41, 30))
    rows = write_archive(tmp_path / "images.tar.gz", [file("images/327-1.png", other)])
    hub.add("dataset", "me/rows", {"train_1.jsonl": b"{}\n", "images.tar.gz": rows.read_bytes()})
    for _ in range(2):
        fetched = start(hub, "--repo_id", "me/rows", script="download/download_dataset.py")
        assert ended(fetched)[0] == 0
        status, out, err = ended(start(hub, "--tasks", "327"))
        assert status == 0, out + err
        assert (root / "data" / "images" / "327-1.png").read_bytes() == other
        assert (root / "data" / "images" / "327-2.png").read_bytes() == frame("327", "2", 0)
    first_frames = tmp_path / "made" / "image" / "task_327.tar.gz"
    archives = {"images.tar.gz": rows, "image/task_327.tar.gz": first_frames}
    assert {name: hub.sent[name] for name in archives} == {name: path.stat().st_size for name, path in archives.items()}
    done = run_script(SCRIPT, "--annotations", root / "data" / "agibot" / "json", "--tasks", "327")
    assert "40 rows, 0 entries quarantined" in done.stdout


def test_an_address_that_is_none_is_one_line_at_once(root):
    started = time.monotonic()
    status, _, err = ended(start("hf-mirror.invalid", "--tasks", "1"))
    assert (status, len(err.splitlines())) == (2, 1), err
    assert "HF_ENDPOINT is 'hf-mirror.invalid'" in err
    assert time.monotonic() - started < 20
