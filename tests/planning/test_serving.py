"""A checkpoint served by `transformers serve`: it answers as it does when asked directly."""

import json
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from configs.errors import UserError
from leap.files import read_json
from leap.models.image_budget import pixel_budget
from leap.models.loading import load_processor
from leap.planning import PhotoPlanner, serving
from leap.planning.serving import how_to_ask, require_free_port, require_packages, write_served_folder
from tests.conftest import assert_one_line_error, run_script, start_script
from tests.planners.lively import write_adapter, write_lively

SCRIPT = "evaluation/serve.py"
SETTINGS = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.3}


@pytest.fixture(scope="module")
def lively(demo, tmp_path_factory):
    return write_lively(demo / "models" / "tiny-planner", tmp_path_factory.mktemp("lively"), **SETTINGS)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_served_folder_has_the_weights_a_processor_and_greedy_decoding(lively, tmp_path):
    files = contents(lively)
    write_served_folder(lively, tmp_path / "served", (4, 16), 99)
    assert (tmp_path / "served" / "model.safetensors").resolve() == lively / "model.safetensors"
    settings = read_json(tmp_path / "served" / "generation_config.json")
    assert settings["do_sample"] is False
    assert settings["max_new_tokens"] == 99
    assert not {"temperature", "top_p", "repetition_penalty"} & settings.keys()
    budgets = [pixel_budget(load_processor(folder)) for folder in (lively, tmp_path / "served")]
    assert budgets[0] != budgets[1] == {"shortest_edge": 4 * 32**2, "longest_edge": 16 * 32**2}
    assert contents(lively) == files  # nothing was written through a link


def test_a_port_in_use_is_named(free_port):
    require_free_port("127.0.0.1", free_port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1:{free_port} .*--port"):
            require_free_port("127.0.0.1", free_port)


def test_packages_that_are_missing_are_named_with_the_extra(monkeypatch):
    monkeypatch.setattr(serving, "_PACKAGES", ("uvicorn", "no_such_package"))
    with pytest.raises(UserError, match=r'pip install -e "\.\[serve\]"'):
        require_packages()


def test_a_model_that_is_not_there_is_one_line(space, free_port):
    pytest.importorskip("fastapi")
    done = run_script(SCRIPT, "--port", str(free_port), "--checkpoint", "nowhere")
    assert_one_line_error(done, "checkpoint not found")


def wait_for(process, address):
    limit = time.monotonic() + 150
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < limit
            time.sleep(0.2)


@pytest.mark.slow
def test_an_adapter_is_served_merged_and_answers_as_it_does_directly(workspace, lively, free_port, tmp_path, photo):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    adapter = write_adapter(lively, tmp_path / "lora" / "checkpoint-3")
    server = start_script(
        *(SCRIPT, "--checkpoint", adapter, "--base_model", lively, "--port", str(free_port), "--device", "cpu"),
    )
    try:
        address = f"http://127.0.0.1:{free_port}"
        wait_for(server, address)
        knobs = {"max_new_tokens": 16, "prompt": "builtin"}
        asked = {"tags": {1: (50, 50), 2: (150, 50)}}
        served = PhotoPlanner.opened(planner="openai", base_url=f"{address}/v1", model="lora-checkpoint-3", **knobs)
        direct = PhotoPlanner.opened(adapter, base_model=lively, device="cpu", **knobs)
        plans = [planner.plan("Put it away", photo, **asked) for planner in (served, direct)]
        assert plans[0].text == plans[1].text.strip() != ""
    finally:
        server.send_signal(signal.SIGINT)
        try:
            out, err = server.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            out, err = server.communicate()
    assert server.returncode == 0, err
    assert "--model lora-checkpoint-3" in out
    assert (tmp_path / "lora" / "checkpoint-3-merged" / "model.safetensors").is_file()


def test_the_commands_shown_ask_this_model():
    text = how_to_ask("127.0.0.1", 8123, "mine")
    assert "--base_url http://127.0.0.1:8123/v1 --model mine" in text
    [line] = [line for line in text.splitlines() if line.startswith("  echo '")]
    body = line.removeprefix("  echo '").removesuffix("' \\").replace("'$(base64 -w0 photo.jpg)'", "AAAA")
    assert json.loads(body)["model"] == "mine"
