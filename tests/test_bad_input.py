"""What a user gets wrong ends in one line on stderr and status 2, and leaves nothing half-written."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

from leap.files import only_writer
from tests.conftest import REPOSITORY, assert_one_line_error, run_script

EVALUATE = "evaluation/run_vlm_evaluation.py"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dimension", "Spatal"], ["unknown dimension 'Spatal'", "Did you mean Spatial?", "choose from M&T"]),
        (["--data_path", "no where"], ["benchmark not found", "no where"]),
        (["--checkpoint", "no/checkpoint-5"], ["checkpoint not found", "no/checkpoint-5"]),
        (["--base_model", "models/none"], ["base model not found", "models/none"]),
        ([], ["base model not found", "models/Qwen3-VL-2B-Instruct", "download_model.sh"]),
        (["--tasks", "juggle"], ["unknown task 'juggle'"]),
        (["--batch-size", "0"], ["batch_size must be > 0"]),
        (["--image_tokens_min", "4"], ["give --image_tokens_min and --image_tokens_max together"]),
        (["--num-episode", "3"], ["unrecognized arguments: --num-episode"]),
        (["--language", "fr"], ["invalid choice: 'fr'"]),
        (["--batch_mode", "--skip-baseline", "--checkpoints_dir", "none"], ["no complete checkpoint in", "none"]),
        (["--num_samples", "3"], ["--num_samples draws the same answer", "--temperature"]),
        (["--top_p", "0.9"], ["--top_p 0.9 draws nothing without --temperature"]),
        (["--planner", "constant", "--temperature", "0.7"], ["--planner constant answers by a rule"]),
    ],
)
def test_evaluation_names_what_is_wrong(workspace, arguments, words):
    assert_one_line_error(run_script(EVALUATE, *arguments), *words)
    assert not (workspace / "eva_results").exists()


def test_evaluation_leaves_a_corrupt_picture_out_by_name_and_says_so(workspace, demo):
    benchmark = workspace / "broken"
    shutil.copytree(demo / "dataset" / "vlm_evaluation_v1.0", benchmark)
    picture = benchmark / "Spatial/select_book_spatial/example1/input/input.png"
    picture.write_bytes(picture.read_bytes()[:100])
    done = run_script(EVALUATE, "--planner", "constant", "--data_path", benchmark, "--dimension", "Spatial")
    assert done.returncode == 1, done.stderr
    assert "3 of 4 answered" in done.stdout
    assert "1 bad examples" in done.stdout
    assert f"select_book_spatial/example1: {picture} is no intact picture" in done.stdout
    done = run_script("utils/verify_dataset.py", "--data_path", benchmark)
    assert done.returncode == 1
    assert str(picture) in done.stdout


def test_evaluation_refuses_a_torn_checkpoint(workspace, demo):
    torn = workspace / "output" / "checkpoint-5"
    shutil.copytree(demo / "models" / "tiny-planner", torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert_one_line_error(run_script(EVALUATE, "--checkpoint", torn), "cannot evaluate", "checkpoint-5", "is cut off")


def test_a_full_disk_is_one_line_that_says_so(workspace, monkeypatch):
    """A disk that fills up cannot be made here; the error that it raises can."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "generations.jsonl")

    monkeypatch.setattr("leap.files.os.fsync", full)
    done = run_script(EVALUATE, "--planner", "constant")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no space left on the disk")
    assert done.stderr.count("\n") == 1


def test_drawing_without_results_says_how_to_make_some(workspace):
    assert_one_line_error(run_script("evaluation/draw_evaluation_results.py"), "no results in", "run_vlm_evaluation.py")


def test_the_preset_of_the_environment_is_that_of_the_flag(workspace):
    script = REPOSITORY / "scripts/ablation/run-lora-training.sh"
    environment = os.environ | {"LORA_PRESET": "lihgt", "PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'lihgt'" in done.stderr
    assert "Did you mean light?" in done.stderr


def test_the_demo_refuses_to_write_into_the_repository(monkeypatch):
    monkeypatch.delenv("LEAP_WORKSPACE", raising=False)
    assert_one_line_error(run_script("utils/make_demo.py"), "wants a workspace of its own", "LEAP_WORKSPACE=")


@pytest.mark.parametrize("flags", [["--model", ".."], ["--model", "x", "--suffix", "../../x"]])
@pytest.mark.parametrize("script", [EVALUATE, "evaluation/run_vlm_output.py"])
def test_no_name_leads_out_of_the_results_folder(workspace, script, flags):
    done = run_script(script, "--planner", "openai", "--base_url", "http://127.0.0.1:9/v1", *flags)
    assert_one_line_error(done, "a part of a folder's name")


def test_an_error_with_foreign_text_does_not_steer_the_terminal(workspace):
    done = run_script(EVALUATE, "--data_path", "\x1b[2Jevil\x07\u202e")
    assert_one_line_error(done, "?[2Jevil??")


def test_a_training_whose_output_folder_is_in_use_leaves_it_as_it_is(workspace, monkeypatch, tmp_path):
    run = tmp_path / "run"
    arguments = ["--config", REPOSITORY / "configs/training/quickstart.yaml", "--output_dir", run, "--max_steps", 1]
    with only_writer(run):
        (run / "recipe.yaml").write_text("of the other run")
        (run / ".checkpoint-1.removed").mkdir()
        done = run_script("training/run-finetuning.py", *arguments, "--warmup_steps", 0)
        assert_one_line_error(done, str(run), "is being written by another process")
        assert sorted(path.name for path in run.iterdir()) == [".checkpoint-1.removed", "recipe.yaml"]
        assert (run / "recipe.yaml").read_text() == "of the other run"
