"""A file of planning rows good and bad, and a run with its results that nothing interrupted."""

import json

import pytest
from PIL import Image

from leap.models.loading import load_processor
from leap.training.supervision import PlanningCollator
from tests.conftest import linked_workspace, made_once, run_script
from tests.training.planning_lines import row
from tests.training.trainings import EVALUATE, STEPS, TRAIN, evaluation, train, training


@pytest.fixture
def collator(demo):
    return PlanningCollator(load_processor(demo / "models" / "tiny-planner"), None, demo)


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


@pytest.fixture(scope="session")
def undisturbed(demo, tmp_path_factory):
    """A workspace with a run and its results that nothing interrupted. Tests only read it."""

    def train_and_evaluate(root):
        linked_workspace(demo, root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LEAP_WORKSPACE", str(root))
            done = run_script(TRAIN, *training(root / "run", demo))
            assert done.returncode == 0, done.stderr
            last = root / "run" / f"checkpoint-{STEPS}"
            done = run_script(EVALUATE, *evaluation(last, root / "results", demo))
            assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "undisturbed space", train_and_evaluate)


@pytest.fixture(scope="session")
def beginner(demo, tmp_path_factory):
    """Plan rows, and a planner that has begun to write plans: right ones now and then, so that groups have spread."""

    def make(folder):
        folder.mkdir()
        for name in ("train", "val"):
            lines = (demo / "data" / f"{name}.jsonl").read_text().splitlines(keepends=True)
            plans = [line for line in lines if json.loads(line)["target"]["steps"].startswith("```json")]
            (folder / f"{name}.jsonl").write_text("".join(plans))
        (folder / "images").symlink_to(demo / "data" / "images")
        steps = ("--max_steps", 60, "--warmup_steps", 5, "--save_steps", 60, "--per_device_train_batch_size", 16)
        steps += ("--gradient_accumulation_steps", 1, "--dataloader_num_workers", 0, "--val_plans", 0)
        base = ("--base_model", demo / "models" / "tiny-planner", "--output_dir", folder / "run")
        done = train(*steps, *base, "--train_file", folder / "train.jsonl", "--val_file", folder / "val.jsonl")
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "beginner", make)
