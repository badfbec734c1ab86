"""Publishing: what goes up, what stays, and the real client of the Hub against a server on the loopback."""

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.demo.build import build_rows
from leap.models.checkpoints import MANIFEST, Manifest, read_manifest, why_incomplete, write_manifest
from leap.publish.upload import checkpoint_upload, dataset_upload
from tests.conftest import REPOSITORY, Done, assert_one_line_error, run_script
from tests.hub_server import TOKEN, Trouble

SCRIPT = "utils/push_to_hub.py"


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> WorkspaceConfig:
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path / "work space"))
    return WorkspaceConfig(tmp_path / "work space")


@pytest.fixture
def checkpoint(workspace) -> Path:
    """An adapter as training leaves one, paths of the machine included; the weights are just bytes."""
    folder = workspace.output / "run" / "checkpoint-7"
    folder.mkdir(parents=True)
    base = str(workspace.models / "tiny-planner")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(range(250)) * 16
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "base_model_name_or_path": base}))
    (folder / "tokenizer.json").write_text(json.dumps({"vocab": ["word"] * 9000}))
    (folder / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": str(folder), "log_history": []}))
    (folder / "optimizer.pt").write_bytes(b"momenta")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder.parent / "loss.png").write_bytes(b"a picture")
    manifest = Manifest(
        base_model=base,
        base_weights_sha256="b" * 64,
        kind="adapter",
        recipe={"model_name_or_path": base, "train_file": "/home/someone/rows.jsonl", "lora_r": 8},
        data_sha256="d" * 64,
        pixel_budget={"shortest_edge": 1024, "longest_edge": 16384},
        chat_template_sha256="c" * 64,
        library_versions={"torch": "2"},
        steps=7,
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def rows(workspace) -> Path:
    path = workspace.data / "train.jsonl"
    build_rows(path, "train", 12, seed=0)
    return path


def push(url: str, home: Path, *arguments: str | Path, token: str | None = TOKEN) -> Done:
    """Run the script with the real client, which reads its address when it is imported, so in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "http", "HTTP", "ALL"))}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    if token:
        environment["HF_TOKEN"] = token
    command = [sys.executable, REPOSITORY / "scripts" / SCRIPT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_pushed_checkpoint_arrives_byte_by_byte_and_is_complete(hub, checkpoint, workspace, tmp_path):
    done = push(hub.url, tmp_path, "--checkpoint", checkpoint, "--repo_id", "me/planner", "--private", "--push")
    assert done.returncode == 0, done.stderr
    repo = hub.repos["model", "me/planner"]
    assert f"pushed: {hub.url}/me/planner/commit/{repo.head}" in done.stdout
    assert (repo.private, repo.messages) == (True, ["Upload checkpoint-7"])
    for name in ("adapter_model.safetensors", "tokenizer.json"):
        assert repo.files[name] == (checkpoint / name).read_bytes()
    assert hashlib.sha256(repo.files["adapter_model.safetensors"]).hexdigest() in hub.objects, "went by LFS"
    assert repo.files["loss.png"] == b"a picture"
    assert not {"optimizer.pt", "trainer_state.json", "training_args.bin"} & set(repo.files)
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    for name, content in repo.files.items():
        (downloaded / name).write_bytes(content)
    assert why_incomplete(downloaded) is None
    for content in repo.files.values():
        assert str(workspace.root).encode() not in content
        assert b"someone" not in content
        assert TOKEN.encode() not in content
    assert json.loads(repo.files["adapter_config.json"]) == {"r": 8, "base_model_name_or_path": "tiny-planner"}
    assert 'checkpoint = "me/planner"' in repo.files["README.md"].decode()
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_second_push_sends_only_what_changed(hub, checkpoint, tmp_path):
    command = ("--checkpoint", checkpoint, "--repo_id", "me/planner", "--push")
    assert push(hub.url, tmp_path, *command).returncode == 0
    hub.requests.clear()
    assert push(hub.url, tmp_path, *command).returncode == 0
    assert not any("/lfs/" in request and request.startswith("PUT") for request in hub.requests)
    assert len(hub.repos["model", "me/planner"].commits) == 1
    (tmp_path / "card.md").write_text("---\nlanguage: en\n---\nmine\n")
    assert push(hub.url, tmp_path, *command, "--card", tmp_path / "card.md").returncode == 0
    repo = hub.repos["model", "me/planner"]
    assert len(repo.commits) == 2
    assert repo.files["README.md"] == (tmp_path / "card.md").read_bytes()


def test_a_pushed_data_set_arrives_with_the_pictures_that_its_rows_name(hub, rows, tmp_path):
    (rows.parent / "images" / "unused.png").write_bytes(b"no row names it")
    done = push(hub.url, tmp_path, "--dataset", rows, "--repo_id", "me/rows", "--push")
    assert done.returncode == 0, done.stderr
    files = hub.repos["dataset", "me/rows"].files
    pictures = [path for path in (rows.parent / "images").iterdir() if path.name != "unused.png"]
    assert set(files) == {"README.md", "train.jsonl", *(f"images/{path.name}" for path in pictures)}
    for path in (rows, *pictures):
        assert files[path.relative_to(rows.parent).as_posix()] == path.read_bytes()


def test_without_push_everything_is_told_and_nothing_contacted(hub, checkpoint, tmp_path):
    done = push(hub.url, tmp_path, "--checkpoint", checkpoint, "--repo_id", "me/planner", token=None)
    assert not hub.requests
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"{(checkpoint / 'tokenizer.json').stat().st_size:>16,}  tokenizer.json" in lines
    assert any(line.startswith("stays here: optimizer.pt") for line in lines)
    assert "# planner" in lines
    assert lines[-1].startswith("Nothing was contacted. To do it: python ")
    assert lines[-1].endswith("--repo_id me/planner --push")


@pytest.mark.parametrize(
    ("refusal", "token", "words"),
    [
        (None, "wrong", ("401", "hf auth login")),
        (403, TOKEN, ("403", "me/planner", "write access")),
        (500, TOKEN, ("500", "same command")),
        (None, None, ("no token", "hf auth login", "HF_TOKEN")),
    ],
)
def test_a_refusal_is_one_line(hub, checkpoint, tmp_path, refusal, token, words):
    if refusal:
        hub.troubles += [Trouble("", status=refusal, method="POST", turns=99)]
    done = push(hub.url, tmp_path, "--checkpoint", checkpoint, "--repo_id", "me/planner", "--push", token=token)
    assert_one_line_error(done, *words)
    assert not hub.repos


def test_a_hub_that_cannot_be_reached_is_one_line_with_its_address(checkpoint, tmp_path):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = push(url, tmp_path, "--checkpoint", checkpoint, "--repo_id", "me/planner", "--push")
    assert_one_line_error(done, "cannot reach", url)


@pytest.mark.parametrize("repo_id", ["planner", "a/b/c", "me/my planner", "me/"])
def test_a_malformed_repo_id_is_one_line(checkpoint, repo_id):
    assert_one_line_error(run_script(SCRIPT, "--checkpoint", checkpoint, "--repo_id", repo_id), repr(repo_id), "owner")


def test_what_to_publish_and_where_must_be_said(checkpoint, rows):
    assert_one_line_error(run_script(SCRIPT, "--repo_id", "me/planner"), "--checkpoint", "--dataset")
    both = run_script(SCRIPT, "--repo_id", "me/planner", "--checkpoint", checkpoint, "--dataset", rows)
    assert_one_line_error(both, "either")
    assert_one_line_error(run_script(SCRIPT, "--checkpoint", checkpoint), "--repo_id")


def test_an_incomplete_checkpoint_is_refused(checkpoint):
    weights = checkpoint / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = run_script(SCRIPT, "--checkpoint", checkpoint, "--repo_id", "me/planner")
    assert_one_line_error(done, "cannot publish", weights.name)


def test_a_checkpoint_of_others_is_refused(checkpoint):
    (checkpoint / MANIFEST).unlink()
    done = run_script(SCRIPT, "--checkpoint", checkpoint, "--repo_id", "me/planner")
    assert_one_line_error(done, MANIFEST, "hf upload")


def test_the_run_state_goes_along_on_request_without_its_paths(checkpoint, workspace):
    upload = checkpoint_upload(checkpoint, workspace, with_run_state=True)
    assert upload.files["optimizer.pt"] == checkpoint / "optimizer.pt"
    assert json.loads(upload.files["trainer_state.json"])["best_model_checkpoint"] == "output/run/checkpoint-7"
    assert set(upload.left_out) == {"training_args.bin"}
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(UserError, match="optimizer.pt is missing"):
        checkpoint_upload(checkpoint, workspace, with_run_state=True)


def test_the_base_model_is_published_by_its_id(checkpoint, workspace):
    upload = checkpoint_upload(checkpoint, workspace, base_id="you/base")
    assert json.loads(upload.files["adapter_config.json"])["base_model_name_or_path"] == "you/base"
    assert json.loads(upload.files[MANIFEST])["base_model"] == "you/base"
    known = replace(read_manifest(checkpoint), base_model="/elsewhere/Qwen3-VL-2B-Instruct")
    write_manifest(checkpoint, known)
    published = json.loads(checkpoint_upload(checkpoint, workspace).files[MANIFEST])
    assert published["base_model"] == "Qwen/Qwen3-VL-2B-Instruct"


def test_an_archive_of_pictures_goes_in_place_of_the_pictures(rows):
    (rows.parent / "images.tar.gz").write_bytes(b"packed")
    build_rows(rows.parent / "val.jsonl", "validation", 2, seed=0)
    upload = dataset_upload(rows.parent)
    assert set(upload.files) == {"train.jsonl", "val.jsonl", "images.tar.gz"}
    assert "images.tar.gz" in upload.left_out["images/"]
    assert set(dataset_upload(rows).files) == {"train.jsonl", "images.tar.gz"}


def test_a_row_whose_picture_others_would_not_find_is_refused(rows):
    first = sorted((rows.parent / "images").iterdir())[0]
    text = rows.read_text()
    rows.write_text(text.replace(f"images/{first.name}", str(first)))
    assert_one_line_error(run_script(SCRIPT, "--dataset", rows, "--repo_id", "me/rows"), "train.jsonl:1", "outside")
    rows.write_text(text)
    first.unlink()
    assert_one_line_error(run_script(SCRIPT, "--dataset", rows, "--repo_id", "me/rows"), "train.jsonl:1", first.name)


def test_what_is_no_picture_or_leads_out_of_the_data_set_stays_here_by_name(rows, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    (tmp_path / "id_rsa").write_text("a key")
    link, folder, text = (rows.parent / "images" / name for name in ("link.png", "linked", "notes.txt"))
    link.symlink_to(tmp_path / "private.png")
    folder.symlink_to(tmp_path)
    text.write_text("a secret")
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for line, written in zip(lines, ("images/link.png", "images/linked/private.png", "images/notes.txt"), strict=False):
        next(item for item in line["messages"][0]["content"] if item["type"] == "image")["image"] = written
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run_script(SCRIPT, "--dataset", rows, "--repo_id", "me/rows")
    assert done.returncode == 0, done.stderr
    upload = dataset_upload(rows)
    assert not {link, folder / "private.png", text} & set(upload.files.values())
    assert len(upload.files) > 9, "the other pictures go"
    assert "outside of the data" in upload.left_out["images/link.png"]
    assert "outside of the data" in upload.left_out["images/linked/private.png"]
    assert "no intact picture" in upload.left_out["images/notes.txt"]
    assert "stays here: images/notes.txt (is no intact picture" in done.stdout
    (rows.parent / "images.tar.gz").symlink_to(tmp_path / "id_rsa")
    assert "images.tar.gz" in dataset_upload(rows).left_out


def test_more_pictures_than_the_hub_takes_in_a_folder_must_be_packed(rows, monkeypatch):
    monkeypatch.setattr("leap.publish.upload._MOST_IN_A_FOLDER", 3)
    with pytest.raises(UserError, match="tar -czf"):
        dataset_upload(rows)


def test_a_corrupt_line_and_a_folder_without_rows_are_one_line(rows, tmp_path):
    rows.write_text(rows.read_text() + "{torn\n")
    assert_one_line_error(run_script(SCRIPT, "--dataset", rows, "--repo_id", "me/rows"), "train.jsonl:13")
    (tmp_path / "empty").mkdir()
    assert_one_line_error(
        run_script(SCRIPT, "--dataset", tmp_path / "empty", "--repo_id", "me/rows"), "no planning rows"
    )
