"""Downloads: the real client of the Hub against a server on the loopback that misbehaves, is refused, is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from configs.config import next_line
from leap.downloads.fetch import RECORD, STAGING
from tests.conftest import REPOSITORY, Done, assert_one_line_error
from tests.downloading import TOKEN, fetch, holds, start, wait_for
from tests.hub_server import Hub, Trouble

BASE = "Qwen/Qwen3-VL-2B-Instruct"
MODEL = "download/download_model.py"
WEIGHTS = random.Random(0).randbytes(400_000)
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "config.json": b'{"model_type": "qwen3_vl"}',
    "model.safetensors": WEIGHTS,
    "chat_template.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "optimizer.pt": b"momenta",
}
WANTED = {path: content for path, content in FILES.items() if not path.endswith((".bin", ".pt"))}


def test_a_model_arrives_verified_with_its_size_said_first_and_the_next_command_last(hub, space):
    hub.add("model", BASE, FILES)
    done = fetch(hub, MODEL)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    holds(folder, WANTED)
    assert "4 files (400 kB)" in done.stdout
    assert f"the disk of {folder} has" in done.stdout
    assert done.stdout.splitlines()[-1] == next_line("python scripts/evaluation/run_vlm_evaluation.py --dimension all")
    record = json.loads((folder / RECORD).read_text())
    assert record["commit"] == hub.repos["model", BASE].head
    assert record["repo_id"] == BASE
    assert set(record["files"]) == set(WANTED)
    # Two requests for the list, two for a file, none for anything else.
    assert len(hub.requests) == 2 + 2 * 4
    assert not list(space.glob("home/*"))


def test_a_second_run_asks_nothing_and_a_new_commit_only_on_request(hub, space):
    repo = hub.add("model", BASE, FILES)
    assert fetch(hub, MODEL).returncode == 0
    first = repo.head
    repo.commit(FILES | {"config.json": b'{"changed": 1}'})
    hub.requests.clear()
    done = fetch(hub, MODEL)
    assert done.returncode == 0
    assert f"commit {first[:12]} as recorded" in done.stdout
    assert not hub.requests
    done = fetch(hub, MODEL, "--revision", "main")
    assert done.returncode == 0
    assert "to fetch: 1 files" in done.stdout
    holds(space / "models" / "Qwen3-VL-2B-Instruct", WANTED | {"config.json": b'{"changed": 1}'})
    assert hub.fetched("model.safetensors") == 0


@pytest.mark.parametrize(
    "troubles",
    [
        [Trouble("config.json", status=429, headers={"Retry-After": "1"})],
        [Trouble("config.json", status=429, headers={"RateLimit": '"resolvers";r=0;t=1'})],
        [Trouble("/revision/|/api/models/[^/]+/[^/]+$", status=429, headers={"Retry-After": "1"})],
        [Trouble("/tree/", status=503), Trouble("config.json", status=500), Trouble("/storage/", status=502)],
        [Trouble("/storage/", status=403)],
        [Trouble("/storage/", cut=100_000, turns=2), Trouble("config.json", cut=5)],
        [Trouble("config.json", corrupt=True), Trouble("/storage/", corrupt=True)],
        [Trouble("/storage/", short=True), Trouble("config.json", short=True)],
    ],
    ids=["Retry-After", "RateLimit", "the list is limited", "5xx", "signature too old", "drops", "bytes", "length"],
)
def test_troubles_that_pass_are_waited_out_and_the_files_are_right(hub, space, troubles):
    hub.add("model", BASE, FILES)
    hub.troubles += troubles
    done = fetch(hub, MODEL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(trouble.turns == 0 for trouble in troubles)
    assert done.stderr == ""
    holds(space / "models" / "Qwen3-VL-2B-Instruct", WANTED)
    if any(trouble.status == 429 for trouble in troubles):
        assert "too many requests; waiting 1 s as it asks" in done.stdout


def test_xet_that_does_not_answer_ends_with_the_way_around_it(hub, space):
    hub.add("model", BASE, FILES).xet = True
    done = fetch(hub, MODEL, "--tries", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "HF_HUB_DISABLE_XET=1 takes plain HTTP (2 tries)" in done.stdout
    done = fetch(hub, MODEL, HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stdout + done.stderr
    holds(space / "models" / "Qwen3-VL-2B-Instruct", WANTED)


@pytest.mark.parametrize(
    ("name", "place"), [("model.safetensors", "/storage/"), ("config.json", "/resolve/.*config.json")]
)
def test_a_file_that_does_not_end_is_left_at_the_size_that_the_list_says(hub, space, name, place):
    hub.add("model", BASE, FILES)
    hub.troubles += [Trouble(place, turns=99, endless=True)]
    done = fetch(hub, MODEL, "--tries", "2")
    assert done.returncode == 1, done.stdout
    assert f"sends more than the {len(FILES[name]):,} bytes that it lists (2 tries)" in done.stdout
    assert hub.sent[name] < 40 << 20
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    assert not (folder / name).exists()
    assert not (folder / STAGING).exists()


def test_the_number_of_threads_does_not_grow_with_the_files(hub, space):
    hub.add("model", BASE, {f"{i}.safetensors": b"%d" % i for i in range(60)})
    code = "import atexit, threading\natexit.register(lambda: print(threading.active_count(), 'threads'))\n"
    done = fetch_changed(hub, code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1].removesuffix(" threads")) <= 6


def test_content_that_stays_wrong_is_reported_and_never_put_in_place(hub, space):
    hub.add("model", BASE, FILES)
    hub.troubles += [Trouble("/storage/", corrupt=True, turns=99)]
    done = fetch(hub, MODEL, "--tries", "3")
    assert done.returncode == 1, done.stdout
    assert "failed: model.safetensors: what 127.0.0.1" in done.stdout
    assert "1 of 4 files are not there" in done.stdout
    assert "next:" not in done.stdout
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    assert hub.sent["model.safetensors"] == 3 * len(WEIGHTS)
    assert (folder / "config.json").is_file()
    assert not (folder / "model.safetensors").exists()
    hub.troubles.clear()
    assert fetch(hub, MODEL).returncode == 0
    holds(folder, WANTED)


def test_a_server_that_is_down_ends_within_bounds(hub, space):
    hub.add("model", BASE, FILES)
    hub.troubles += [Trouble("/resolve/", method="HEAD", status=503, turns=10_000)]
    done = fetch(hub, MODEL, "--tries", "3")
    assert done.returncode == 1
    assert "4 of 4 files are not there" in done.stdout
    assert sum("/resolve/" in request for request in hub.requests) == 3 * 4


def test_a_wait_longer_than_allowed_ends_with_a_line(hub, space):
    hub.add("model", BASE, FILES)
    hub.troubles += [Trouble("/resolve/", status=429, headers={"Retry-After": "5000"}, turns=99)]
    assert_one_line_error(fetch(hub, MODEL), "asks to wait 5000 s", "--longest_wait_s")


@pytest.mark.parametrize(
    ("name", "options", "gated", "token", "words"),
    [
        ("Qwen/none", (), False, TOKEN, ("404", "there is no model Qwen/none", "your token may not")),
        ("Qwen/none", (), False, None, ("401", "Qwen/none", "hf auth login")),
        (BASE, (), True, TOKEN, ("403", "is gated", "accept its terms")),
        (BASE, ("--revision", "v9"), False, TOKEN, ("404", "no revision 'v9'")),
        ("planner", (), False, TOKEN, ("'planner'", "owner")),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do_and_is_not_tried_again(
    hub, space, name, options, gated, token, words
):
    hub.add("model", BASE, FILES).gated = gated
    assert_one_line_error(fetch(hub, MODEL, name, *options, token=token), *words)
    assert len(hub.requests) <= 1
    assert not list(space.glob("models/*"))


def test_offline_and_two_hosts_are_said_in_one_line(hub, space):
    assert_one_line_error(fetch(hub, MODEL, HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE", "unset")
    assert_one_line_error(fetch(hub, MODEL, "--mirror"), "127.0.0.1", "hf-mirror.com")
    assert not hub.requests


def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub, space):
    hub.add("model", BASE, FILES)
    assert fetch(hub, MODEL).returncode == 0  # the storage answers 403 to a request with a token
    assert hub.tokens == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "path", ["../out.txt", "/etc/out", "a/../../out", "a\\..\\out", "C:/out", STAGING + "/x", "a//b"]
)
def test_a_list_with_a_path_out_of_the_folder_is_refused_before_anything_is_fetched(hub, space, path):
    hub.add("model", BASE, FILES)
    hub.listed.append({"type": "file", "oid": "0" * 40, "size": 3, "path": path})
    assert_one_line_error(fetch(hub, MODEL), "may not be written", repr(path))
    assert not any("/resolve/" in request for request in hub.requests)


def test_nothing_is_written_through_a_symbolic_link_below_the_folder(hub, space, tmp_path):
    hub.add("model", BASE, FILES | {"sub/extra.txt": b"text"})
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    assert_one_line_error(fetch(hub, MODEL), "symbolic link", str(folder / "sub"))
    (folder / "sub").unlink()
    (folder / STAGING).symlink_to(tmp_path / "elsewhere")
    assert_one_line_error(fetch(hub, MODEL), "symbolic link", STAGING)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_is_there_is_kept_or_replaced_by_its_hash(hub, space):
    hub.add("model", BASE, FILES)
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_bytes(b"x" * len(FILES["config.json"]))
    done = fetch(hub, MODEL)
    assert done.returncode == 0
    assert "config.json has the sha1" in done.stdout
    assert hub.fetched("model.safetensors") == 0
    saved = {"config.json.changed-1": b"x" * len(FILES["config.json"])}
    holds(folder, WANTED | saved)
    # A file that changed behind the record's back is found by its time of change, one that hides it by --verify.
    state = (folder / "config.json").stat()
    (folder / "config.json").write_bytes(b"y" * state.st_size)
    os.utime(folder / "config.json", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "to fetch: 0 files" in fetch(hub, MODEL).stdout
    assert "to fetch: 1 files" in fetch(hub, MODEL, "--verify").stdout
    holds(folder, WANTED | saved | {"config.json.changed-2": b"y" * state.st_size})


def test_a_text_that_the_user_changed_is_kept_beside_the_one_that_is_fetched_again(hub, space):
    hub.add("model", BASE, FILES)
    fetch(hub, MODEL)
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    for number, edit in enumerate((b"{}", b'{"mine": true}'), 1):
        (folder / "config.json").write_bytes(edit)
        (folder / "model.safetensors").write_bytes(b"cut")
        done = fetch(hub, MODEL)
        assert f"what was there stays as config.json.changed-{number}" in done.stdout
        assert (folder / f"config.json.changed-{number}").read_bytes() == edit
    holds(folder, WANTED | {"config.json.changed-1": b"{}", "config.json.changed-2": edit})


def test_two_downloads_into_one_folder_do_not_meet(hub, space):
    hub.add("model", BASE, FILES)
    hub.troubles += [Trouble("/storage/", pause_s=20)]
    first = start(hub, MODEL)
    try:
        wait_for(lambda: any("/storage/" in request for request in hub.requests))
        assert_one_line_error(fetch(hub, MODEL), "another download into", "running")
        # Ctrl-C ends at once, though a transfer hangs.
        began = time.monotonic()
        first.send_signal(signal.SIGINT)
        _, err = first.communicate(timeout=20)
        assert time.monotonic() - began < 5
        assert first.returncode == 130
        assert err == "interrupted; the same command continues where it was\n"
    finally:
        first.kill()
    assert fetch(hub, MODEL).returncode == 0
    holds(space / "models" / "Qwen3-VL-2B-Instruct", WANTED)


def fetch_changed(hub: Hub, code: str, *arguments: str) -> Done:
    """Fetch the model in a process in which `code` was run first: for a disk that is not as ours."""
    script = str(REPOSITORY / "scripts" / MODEL)
    code += f"import runpy, sys\nsys.argv = {[script, *arguments]!r}\nrunpy.run_path({script!r}, run_name='__main__')"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": os.environ["LEAP_WORKSPACE"] + "/home"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(hub, space):
    hub.add("model", BASE, FILES)
    code = (
        "import collections, shutil\n"
        "shutil.disk_usage = lambda path: collections.namedtuple('Usage', 'total used free')(1, 1, 300_000)\n"
    )
    assert_one_line_error(fetch_changed(hub, code), "not enough space", "300,000 are free")
    assert not any("/resolve/" in request for request in hub.requests)


def test_a_disk_that_fills_stops_the_run_with_the_bytes_still_to_come(hub, space):
    hub.add("model", BASE, FILES)
    code = (
        "import errno, io, pathlib\n"
        "class Full(io.FileIO):\n"
        "    def write(self, content): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "real = pathlib.Path.open\n"
        "def opened(path, mode='r', *a, **k): return Full(path, mode) if mode == 'wb' else real(path, mode, *a, **k)\n"
        "pathlib.Path.open = opened\n"
    )
    assert_one_line_error(fetch_changed(hub, code), "no space left", "bytes are still to come")
    assert not list(space.rglob(STAGING))


@pytest.mark.slow
def test_kills_at_any_moment_lose_and_repeat_nothing(hub, space):
    rng = random.Random(7)
    files = {f"shard-{i:02}.safetensors": rng.randbytes(rng.randrange(1000, 60_000)) for i in range(40)}
    files |= {f"texts/{i}.json": rng.randbytes(rng.randrange(1, 300)) for i in range(40)}
    hub.add("model", BASE, files)
    hub.troubles += [Trouble("/storage/|/resolve/", pause_s=0.03, turns=10_000)]
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    whole: set[str] = set()
    for _ in range(8):
        process = start(hub, MODEL)
        count = len(hub.requests)
        wait_for(lambda count=count, process=process: len(hub.requests) > count + 2 or process.poll() is not None)
        time.sleep(rng.uniform(0, 0.35))
        process.kill()
        process.communicate(timeout=20)
        paths = [path for path in folder.rglob("*") if path.is_file() and STAGING not in path.parts]
        present = {path.relative_to(folder).as_posix() for path in paths}
        for path in present - {RECORD}:
            assert (folder / path).read_bytes() == files[path], path
        assert whole <= present
        whole = present
    hub.requests.clear()
    done = fetch(hub, MODEL)
    assert done.returncode == 0, done.stderr
    holds(folder, files)
    for path in whole - {RECORD}:
        assert hub.fetched(path) == 0, path
    assert len(whole) > 5, "some progress was made between the kills"


@pytest.mark.parametrize(("address", "words"), [("http://127.0.0.1:9", "Check the network"), ("foo", "an address")])
def test_a_hub_that_is_not_there_is_one_line(tmp_path, address, words):
    environment = os.environ | {"HF_ENDPOINT": address, "LEAP_WORKSPACE": str(tmp_path)}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/download/download_model.py", "me/x", "--tries", "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert_one_line_error(Done(done.returncode, done.stdout, done.stderr), words)


def test_dot_folders_of_a_host_are_left_there_and_git_is_refused(hub, space):
    hub.add("model", BASE, FILES | {".eval_results/mmlu.yaml": b"- score: 1", "a/.vscode/tasks.json": b"{}"})
    done = fetch(hub, MODEL)
    assert done.returncode == 0, done.stderr
    holds(space / "models" / "Qwen3-VL-2B-Instruct", WANTED)
    hub.add("model", "me/other", FILES | {".git/config": b"[core]\n\tfsmonitor = evil\n"})
    assert_one_line_error(fetch(hub, MODEL, "--repo_id", "me/other"), "'.git/config'", "nothing was fetched")


@pytest.mark.parametrize("path", [None, 7, "n" * 300])
def test_a_list_with_a_path_that_is_none_is_one_line(hub, space, path):
    hub.add("model", BASE, FILES)
    hub.listed.append({"type": "file", "oid": "0" * 40, "size": 3, "path": path})
    assert_one_line_error(fetch(hub, MODEL), "lists the path", "which is none")
