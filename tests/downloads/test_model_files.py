"""Which files of a model are fetched."""

import os
import subprocess
import sys

import pytest

from leap.downloads.model_files import model_selection, step_folders
from tests.conftest import REPOSITORY, assert_one_line_error
from tests.downloading import fetch, holds

SCRIPT = "download/download_model.py"


@pytest.mark.slow
def test_the_shell_command_takes_another_model_and_a_step_of_a_run(hub, space):
    steps = {
        f"full/checkpoint-{step}/{name}": f"{step}{name}".encode() * 10
        for step in (200, 5000, 15000)
        for name in ("model.safetensors", "config.json", "optimizer.pt", "rng_state_0.pth", "scheduler.pt")
    }
    hub.add("model", "EvanSirius/leap-ckpts", steps | {"README.md": b"steps"})
    shell = REPOSITORY / "scripts/download/download_model.sh"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(space / "home"), "PYTHON": sys.executable}
    environment.pop("HF_HUB_OFFLINE", None)
    command = ["bash", shell, "EvanSirius/leap-ckpts", "--step", "5000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, cwd="/")
    assert done.returncode == 0, done.stderr
    folder = space / "models" / "leap-ckpts"
    paths = {f"full/checkpoint-5000/{name}" for name in ("model.safetensors", "config.json")}
    holds(folder, {path: steps[path] for path in paths})
    assert f"--checkpoint '{folder}/full/checkpoint-5000' --dimension all" in done.stdout.splitlines()[-1]
    hub.requests.clear()
    assert fetch(hub, SCRIPT, "EvanSirius/leap-ckpts", "--step", "5000").returncode == 0
    assert not hub.requests
    done = fetch(hub, SCRIPT, "EvanSirius/leap-ckpts", "--step", "6000")
    assert_one_line_error(done, "no folder of step 6000", "200, 5000, 15000")
    assert_one_line_error(fetch(hub, SCRIPT, "EvanSirius/leap-ckpts"), "choose one with --step", "200, 5000, 15000")


def test_weights_that_are_only_pickles_are_fetched_on_request_only(hub, space):
    files = {"adapter_config.json": b"{}", "adapter_model.bin": b"a pickle"}
    hub.add("model", "me/adapter", files)
    assert_one_line_error(fetch(hub, SCRIPT, "me/adapter"), "adapter_model.bin", "--all_files")
    assert not (space / "models").exists() or not list((space / "models").iterdir())
    assert fetch(hub, SCRIPT, "me/adapter", "--all_files").returncode == 0
    holds(space / "models" / "adapter", files)


def test_the_folder_of_a_step_is_found_in_the_usual_spellings():
    paths = ["checkpoint-5/model.safetensors", "run/step_0010/adapter_model.safetensors", "a/ckpt20/pytorch_model.bin"]
    assert step_folders([*paths, "checkpoint-7/trainer_state.json", "2024/model.safetensors"]) == {
        5: "checkpoint-5",
        10: "run/step_0010",
        20: "a/ckpt20",
    }
    selection = model_selection(["model.safetensors", *paths], "me/model", None, all_files=False)
    assert [path for path in ["model.safetensors", *paths] if selection.takes(path)] == ["model.safetensors"]
