"""What a user gets wrong ends in one line on stderr and status 2, and leaves nothing half-written."""

import errno
import json
import shutil

import pytest
from PIL import Image

from tests.conftest import REPOSITORY, assert_one_line_error, read_status, run_script

EVALUATE = "evaluation/run_vlm_evaluation.py"
TRAIN = "training/run-finetuning.py"


def train(*arguments):
    return run_script(TRAIN, "--config", REPOSITORY / "configs/training/quickstart.yaml", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dimension", "Spatal"], ["unknown dimension 'Spatal'", "choose from M&T"]),
        (["--data_path", "no where"], ["benchmark not found", "no where"]),
        (["--checkpoint", "no/checkpoint-5"], ["checkpoint not found", "no/checkpoint-5"]),
        (["--base_model", "models/none"], ["base model not found", "models/none"]),
        ([], ["base model not found", "models/Qwen3-VL-2B-Instruct", "download_model.sh"]),
        (["--tasks", "juggle"], ["unknown task 'juggle'"]),
        (["--batch-size", "0"], ["batch_size must be > 0"]),
        (["--image_tokens_min", "4"], ["give --image_tokens_min and --image_tokens_max together"]),
        (["--num-episode", "3"], ["unrecognized arguments: --num-episode"]),
        (["--language", "fr"], ["invalid choice: 'fr'"]),
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model_name_or_path", "none"], ["base model not found", "none"]),
        (["--train_file", "none.jsonl"], ["training file not found", "none.jsonl"]),
        (["--val_file", "none.jsonl"], ["validation file not found"]),
        (["--learning_rat", "1"], ["unrecognized arguments: --learning_rat"]),
        (["--lr", "-1"], ["learning_rate must be > 0"]),
        (["--image_tokens_min", "99"], ["image_tokens_min 99 is above image_tokens_max 16"]),
        (["--model_max_length", "20"], ["are over model_max_length 20", "train.jsonl:", "more rows"]),
    ],
)
def test_training_names_what_is_wrong(workspace, arguments, words):
    done = train(*arguments)
    done.stderr = done.stderr.splitlines()[-1] if "model_max_length" in words[0] else done.stderr
    assert_one_line_error(done, *words)
    assert not (workspace / "output").exists()


def test_the_real_recipe_says_how_to_get_what_is_missing(workspace):
    assert_one_line_error(run_script(TRAIN), "base model not found", "download_model.sh")


GOOD = {"messages": [{"role": "user", "content": "Plan."}], "target": {"steps": "1) Go."}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": [', ["rows.jsonl:2", "not valid JSON"]),
        (json.dumps({"target": GOOD["target"]}), ["rows.jsonl:2", "'messages'"]),
        (json.dumps({"messages": GOOD["messages"]}), ["rows.jsonl:2", "'target.steps'"]),
        (json.dumps(GOOD | {"target": {"steps": "1) Go \ud83d."}}), ["rows.jsonl:2", r"half a character ('\ud83d')"]),
        (
            json.dumps(GOOD | {"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]}),
            ["rows.jsonl:2", "image not found: x.png", "--image_root"],
        ),
    ],
)
def test_training_names_file_and_line_of_a_bad_row(workspace, line, words):
    path = workspace / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    assert_one_line_error(train("--train_file", path), *words)
    assert not (workspace / "output").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_in_the_middle_stops_training_by_name(workspace, workers):
    """Its header and end are whole, so that only decoding it shows the damage."""
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    noise.save(workspace / "noise.png")
    content = bytearray((workspace / "noise.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (workspace / "noise.png").write_bytes(content)
    path = workspace / "rows.jsonl"
    turn = {"role": "user", "content": [{"type": "image", "image": "noise.png"}, {"type": "text", "text": "Plan."}]}
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"messages": [turn]}) + "\n")
    done = train("--train_file", path, "--dataloader_num_workers", workers, "--max_steps", 2)
    assert_one_line_error(done, "rows.jsonl:2: unreadable image:", "noise.png")
    assert not list((workspace / "output").glob("checkpoint-*"))
    [status] = map(read_status, (workspace / "logs").rglob("status.json"))
    assert status.state == "failed"
    assert "rows.jsonl:2: unreadable image:" in status.reason


def test_a_full_disk_is_one_line_that_says_so(workspace, monkeypatch):
    """A disk that fills up cannot be made here; the error that it raises can."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "generations.jsonl")

    monkeypatch.setattr("leap.files.os.fsync", full)
    done = run_script(EVALUATE, "--planner", "constant")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no space left on the disk")
    assert done.stderr.count("\n") == 1


def test_training_on_a_folder_says_so(workspace):
    assert_one_line_error(train("--train_file", workspace / "data"), "training file must be a file", "is a folder")


def test_training_refuses_an_empty_file(workspace):
    path = workspace / "rows.jsonl"
    path.write_text("")
    assert_one_line_error(train("--train_file", path), "rows.jsonl holds no planning rows")


def test_drawing_without_results_says_how_to_make_some(workspace):
    assert_one_line_error(run_script("evaluation/draw_evaluation_results.py"), "no results in", "run_vlm_evaluation.py")


def test_verifying_a_folder_that_is_not_there_says_how_to_get_it(workspace):
    (workspace / "dataset").unlink()
    assert_one_line_error(
        run_script("utils/verify_dataset.py"), "benchmark not found", "download_vlabench_with_retry.py"
    )


def test_the_demo_refuses_to_write_into_the_repository(monkeypatch):
    monkeypatch.delenv("LEAP_WORKSPACE", raising=False)
    assert_one_line_error(run_script("utils/make_demo.py"), "wants a workspace of its own", "LEAP_WORKSPACE=")
