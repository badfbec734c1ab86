"""AgiBot archives from a hub: fetched, read, deleted; through troubles of the network and kills."""

import json
import os
import random
import time

import pytest

from leap.files import read_jsonl
from tests.agibot.archives import frame, task_archive
from tests.conftest import run_script, start_script
from tests.hub_download_server import Hub, Trouble, serving

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


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path / "work space"))
    return tmp_path / "work space"


def start(hub: Hub, *arguments):
    """Start the script with the real client, which reads its address when it is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "http", "HTTP", "ALL"))}
    kept |= {"HF_ENDPOINT": hub.url, "HF_HOME": os.environ["LEAP_WORKSPACE"] + " home", "NO_PROXY": "127.0.0.1"}
    return start_script(SCRIPT, *arguments, env=kept)


def ended(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def in_place(root):
    """The files of the workspace that stay."""
    return {path.relative_to(root / "data").as_posix() for path in (root / "data").rglob("*") if path.is_file()}


def wanted(tasks=TASKS):
    images = {f"images/{task}-{episode}.png" for task in tasks for episode in EPISODES}
    return images | {f"agibot/{kind}_{task}.json" for kind in ("task", "json/output") for task in tasks}


def test_frames_and_annotations_come_from_the_hub_and_give_rows(hub, root):
    status, out, err = ended(start(hub, "--workers", "2"))
    assert status == 0, out + err
    assert in_place(root) == wanted()
    assert (root / "data" / "images" / "352-7.png").read_bytes() == frame("352", "7", 0)
    manifest = json.loads((root / "data" / "agibot" / "task_352.json").read_text())
    assert manifest["revision"] == hub.repos["dataset", REPO].head
    assert len(manifest["sha256"]) == 64
    asked = len([request for request in hub.requests if "resolve" in request])
    assert ended(start(hub))[0] == 0
    assert len([request for request in hub.requests if "resolve" in request]) == asked
    done = run_script(SCRIPT, "--annotations", root / "data" / "agibot" / "json")
    assert "120 rows, 0 entries quarantined" in done.stdout
    assert read_jsonl(root / "data" / "agibot_all.jsonl")[0]["target"]["steps"] == "1) Pick up the cup. 2) Put it down."


def test_a_rough_network_is_waited_out(hub, root):
    hub.troubles = [
        Trouble(r"task_327", cut=20_000),
        Trouble(r"task_352", status=503, method="HEAD"),
        Trouble(r"task_352", corrupt=True),
    ]
    status, out, err = ended(start(hub, "--tasks", "327", "352"))
    assert status == 0, out + err
    assert in_place(root) == wanted(("327", "352"))


def test_an_archive_that_stays_wrong_is_listed_and_the_others_are_done(hub, root):
    hub.troubles = [Trouble(r"task_352", turns=1000, corrupt=True)]
    status, out, err = ended(start(hub, "--workers", "1"))
    assert status == 1, out + err
    assert "failed: task 352" in err
    assert in_place(root) == wanted(("327", "1001")) | {"agibot/json/output_352.json"}
    hub.troubles = []
    assert ended(start(hub, "--keep_archives"))[0] == 0
    assert in_place(root) == wanted() | {"agibot/archives/image/task_352.tar.gz"}


def test_a_repository_without_archives_or_none_is_an_error(hub, root):
    hub.add("dataset", "me/other", {"README.md": b"x"})
    for repo, word in (("me/other", "has no image/task_<id>.tar.gz"), ("me/none", "me/none")):
        status, _, err = ended(start(hub, "--repo_id", repo))
        assert (status, word in err) == (2, True), err


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
