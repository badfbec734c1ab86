"""Pre-flight: what is found in a planning file, and training on what is left of it."""

import json

import pytest
from PIL import Image

from leap.files import read_jsonl
from leap.models.image_budget import set_pixel_budget
from leap.models.loading import load_processor
from leap.training.preflight import check_file
from leap.training.supervision import PlanningCollator
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
    monkeypatch.setattr("leap.training.preflight._CHUNK", 3)
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
        *("--warmup_steps", 0, "--dataloader_num_workers", 0, "--model_max_length", 256, "--val_plans", 0),
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


def test_the_report_counts_defects_by_kind_and_shows_what_lengths_are_made_of(mixed, collator):
    text = check_file(mixed, collator, 256, workers=1).text()
    for kind in ("not JSON", "no plan", "missing image or video", "unreadable image", "malformed"):
        assert f"  1 rejected: {kind}" in text
    assert "  1 rejected: longer than model_max_length" in text
    bars = [line.split()[-1] for line in text.splitlines() if " to " in line and line.rstrip()[-1] in "vps"]
    assert bars
    assert all(set(bar) <= set("vps") and list(bar) == sorted(bar, key="vps".index) for bar in bars)


def test_a_defect_is_counted_by_its_kind_whatever_the_file_is_called(workspace, collator):
    names = ["not valid JSON.png", "over model_max_length.png", "'target.steps'.png", "unreadable image.png"]
    (workspace / names[-1]).write_bytes(b"\x89PNG\r\n")
    (workspace / "rows.jsonl").write_text("\n".join(row(image=name) for name in names))
    text = check_file(workspace / "rows.jsonl", collator, 256, workers=1).text()
    assert [line.strip() for line in text.splitlines() if " rejected: " in line] == [
        "3 rejected: missing image or video",
        "1 rejected: unreadable image",
    ]


def test_lengths_are_kept_beside_the_data_until_something_that_decides_them_changes(mixed, collator, demo, monkeypatch):
    computed = []
    length = PlanningCollator.length
    monkeypatch.setattr(PlanningCollator, "length", lambda self, row: computed.append(row.where) or length(self, row))

    def checked(used=collator):
        computed.clear()
        report = check_file(mixed, used, 256, workers=1)
        return report, {int(where.rpartition(":")[2]) for where in computed}

    first, fresh = checked()
    assert fresh >= set(range(1, 9))
    again, fresh = checked()
    assert not fresh & set(range(1, 9)), "lengths of good rows are known"
    assert (again.lengths, again.remarks, again.tasks) == (first.lengths, first.remarks, first.tasks)
    assert [r.defect for r in again.rejected] == [r.defect for r in first.rejected]

    Image.new("RGB", (128, 64), "red").save(mixed.parent / "a.png")
    changed, fresh = checked()
    assert 4 in fresh, "the row whose picture changed is measured again"
    assert changed.lengths[3].visual > first.lengths[3].visual

    processor = load_processor(demo / "models" / "tiny-planner")
    set_pixel_budget(processor, 1, 2)
    other, fresh = checked(PlanningCollator(processor, None, demo))
    assert fresh >= set(range(1, 9)), "another picture budget is another cache"
    assert other.lengths[3].visual <= 2

    (mixed.parent / "a.png").unlink()
    assert "image not found: a.png" in checked()[0].rejected[0].defect, "a picture that is gone is noticed"


def test_overlong_rows_are_shrunk_where_that_is_asked_and_enough(workspace, collator):
    Image.new("RGB", (256, 256), "red").save(workspace / "big.png")
    (workspace / "rows.jsonl").write_text("\n".join([row(image="big.png"), row("word " * 60, image="big.png")]))
    assert len(check_file(workspace / "rows.jsonl", collator, 40).rejected) == 2
    report = check_file(workspace / "rows.jsonl", collator, 40, shrink=True)
    assert [r.number for r in report.rejected] == [2]
    assert "even with the smallest images" in report.rejected[0].defect
    assert report.lengths[0].total <= 40
    assert collator(report.rows)["input_ids"].shape[1] == report.lengths[0].total
    assert "1 rows: images shrunk" in report.text()
