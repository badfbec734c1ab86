"""Pre-flight: what is found in a planning file, and training on what is left of it."""

import json

import pytest
from PIL import Image

from leap.files import read_jsonl
from leap.models import load_processor
from leap.preflight import check_file
from leap.supervision import PlanningCollator
from tests.conftest import REPOSITORY, assert_one_line_error, run_script


@pytest.fixture
def collator(demo):
    return PlanningCollator(load_processor(demo / "models" / "tiny-planner"), None, demo)


def row(text="Plan.", steps="1) Go. 2) Stop.", image=None, **more):
    content = [{"type": "image", "image": image}] if image else []
    content.append({"type": "text", "text": text})
    return json.dumps({"messages": [{"role": "user", "content": content}], "target": {"steps": steps}} | more)


@pytest.fixture
def mixed(workspace):
    """A file with eight lines that train (two alike, two without numbers) and six that do not."""
    Image.new("RGB", (64, 64), "red").save(workspace / "a.png")
    (workspace / "cut.png").write_bytes((workspace / "a.png").read_bytes()[:60])
    good = [
        row(task_name="wipe"),
        row(task_name="wipe"),
        row("Task name: sweep.\nPlan."),
        row("c", image="a.png"),
        row("d", "Go there."),
        row("e", '```json\n[{"name": "lift", "params": {}}]\n```'),
        row("f"),
        row("g", "apple 3"),
    ]
    bad = ["{", "[]", row(steps=" "), row(image="gone.png"), row(image="cut.png"), row("word " * 400)]
    path = workspace / "rows.jsonl"
    path.write_text("\n".join([*good, "", *bad]) + "\n")
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_every_defect_is_found_and_the_rest_is_kept(mixed, collator, workers, monkeypatch):
    monkeypatch.setattr("leap.preflight._CHUNK", 3)
    report = check_file(mixed, collator, 256, workers)
    assert len(report.rows) == len(report.lengths) == 8
    assert [checked.number for checked in report.rejected] == [10, 11, 12, 13, 14, 15]
    for checked, words in zip(
        report.rejected,
        ["not valid JSON", "expected a JSON object", "'target.steps'", "image not found: gone.png", "cut off",
         "are over model_max_length 256"],
        strict=True,
    ):  # fmt: skip
        assert checked.defect.startswith(f"{mixed}:{checked.number}: ")
        assert words in checked.defect
    assert report.remarks == {
        "duplicate of an earlier row": 1, "a plan that is neither numbered steps nor a skill list": 2
    }  # fmt: skip
    assert report.tasks == {"wipe": 2, "sweep": 1, "(unnamed)": 5}
    for words in ("14 rows, 3 tasks, 6 rejected", "supervised", "1 rows: duplicate"):
        assert words in report.text()


def test_the_script_reports_and_exits_with_1_where_a_row_cannot_train(workspace, mixed):
    arguments = ["--model_name_or_path", workspace / "models/tiny-planner", "--model_max_length", 256]
    arguments += ["--image_tokens_min", 1, "--image_tokens_max", 16]
    done = run_script(
        "training/validate_data.py", *arguments, "--train_file", mixed, "--rejected", workspace / "bad.jsonl"
    )
    assert done.returncode == 1
    assert "6 rejected" in done.stdout
    assert "supervised:\n1) Go. 2) Stop.<|im_end|>" in done.stdout
    written = read_jsonl(workspace / "bad.jsonl")
    assert [entry["line"] for entry in written] == [10, 11, 12, 13, 14, 15]
    assert written[0]["text"] == "{"
    done = run_script("training/validate_data.py", *arguments, "--train_file", workspace / "data" / "val.jsonl")
    assert done.returncode == 0, done.stderr
    assert "20 rows" in done.stdout


def test_training_stops_at_defects_or_goes_on_without_those_rows(workspace, mixed):
    arguments = [
        *("--config", REPOSITORY / "configs/training/quickstart.yaml", "--train_file", mixed, "--max_steps", 2),
        *("--warmup_steps", 0, "--dataloader_num_workers", 0, "--model_max_length", 256),
    ]
    done = run_script("training/run-finetuning.py", *arguments)
    assert done.returncode == 2
    assert "and 5 more rows" in done.stderr
    assert not (workspace / "output").exists()
    done = run_script("training/run-finetuning.py", *arguments, "--skip_bad_rows")
    assert done.returncode == 0, done.stderr
    assert "skipping 6 rows" in done.stdout
    assert len(read_jsonl(workspace / "output" / "rejected_rows.jsonl")) == 6


def test_a_file_without_a_valid_row_cannot_be_trained_on(workspace):
    path = workspace / "rows.jsonl"
    path.write_text("{\n")
    done = run_script(
        "training/run-finetuning.py",
        *("--config", REPOSITORY / "configs/training/quickstart.yaml", "--train_file", path, "--skip_bad_rows"),
    )
    assert_one_line_error(done, "rows.jsonl:1: not valid JSON", "No row is left to train on")
