"""Two processes (gloo, on the CPU) train as one with twice the accumulation, and what they save one can go on from.
They evaluate as one does, too.
"""

import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from leap.files import read_json, read_jsonl
from leap.models.checkpoints import read_manifest
from tests.conftest import REPOSITORY, assert_one_line_error, linked_workspace, run_script

pytestmark = pytest.mark.slow
SHARDED = REPOSITORY / "configs" / "accelerate" / "fsdp2.yaml"
RECIPE = ["--config", str(REPOSITORY / "configs/training/quickstart.yaml"), "--max_steps", "5", "--warmup_steps", "0"]
RECIPE += ["--save_steps", "3", "--logging_steps", "1", "--dataloader_num_workers", "0", "--lr", "1e-3"]
RECIPE += ["--keep_optimizer_of_last", "3", "--val_plans", "3", "--val_max_new_tokens", "8"]
RECIPE += ["--per_device_train_batch_size", "3"]  # 50 rows do not divide by 3


def on_two(workspace, run, *arguments, **environment):
    command = ["bash", str(REPOSITORY / "scripts/training/run-training.sh"), *RECIPE, "--output_dir", str(run)]
    settings = os.environ | {"PYTHON": sys.executable, "NPROC": "2", "OMP_NUM_THREADS": "1", **environment}
    settings |= {"LEAP_WORKSPACE": str(workspace), "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    command += [
        "--train_file",
        str(workspace / "data/train_50.jsonl"),
        "--gradient_accumulation_steps",
        "2",
        *arguments,
    ]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=200)


def on_one(workspace, run, *arguments):
    rows = workspace / "data/train_50.jsonl"
    return run_script("training/run-finetuning.py", *RECIPE, "--train_file", rows, "--output_dir", run, *arguments)


def losses(workspace, run):
    lines = read_jsonl(workspace / "logs" / run.name / "train.jsonl")
    return [line["loss"] for line in lines if "loss" in line] + [
        line["eval_loss"] for line in lines if "eval_loss" in line
    ]


def assert_same_weights(one, other):
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert expected.keys() == found.keys()
    for name, weights in expected.items():
        assert (weights - found[name]).abs().max() < 5e-4, name


@pytest.fixture(scope="module")
def alone(demo, tmp_path_factory):
    """The run of one process, and its workspace."""
    root = linked_workspace(demo, tmp_path_factory.mktemp("alone") / "work space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAP_WORKSPACE", str(root))
        done = on_one(root, root / "run", "--gradient_accumulation_steps", 4)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_do_what_one_does_with_twice_the_accumulation(demo, alone, tmp_path, workspace, kind):
    run = tmp_path / "run"
    done = on_two(workspace, run, **({"ACCELERATE_CONFIG": str(SHARDED)} if kind == "fsdp2" else {}))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained: ") == 1, "one process speaks"
    # Five steps are an epoch: 50 rows in batches of 3 leave one process of the last step with a filler.
    assert losses(workspace, run) == pytest.approx(losses(alone, alone / "run"), abs=2e-3)
    assert_same_weights(alone / "run" / "checkpoint-5", run / "checkpoint-5")
    assert read_manifest(run / "checkpoint-5").tokens_seen == read_manifest(alone / "run" / "checkpoint-5").tokens_seen

    again = tmp_path / "again"
    shutil.copytree(run / "checkpoint-3", again / "checkpoint-3")
    done = on_one(workspace, again, "--gradient_accumulation_steps", 2)
    assert_one_line_error(done, "step_size: 12 rows -> 6 rows")
    done = on_one(workspace, again, "--gradient_accumulation_steps", 4)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {again / 'checkpoint-3'}" in done.stdout
    assert_same_weights(run / "checkpoint-5", again / "checkpoint-5")


EVALUATION = ["--dimension", "M&T", "--max_new_tokens", "12", "--batch_size", "3", "--device", "cpu"]
RESULTS = ("generations.jsonl", "failures.jsonl", "output.json", "final_score.json", "grounded_score.json")


def test_two_processes_evaluate_as_one_does(demo, workspace, tmp_path):
    arguments = [*EVALUATION, "--base_model", str(workspace / "models" / "tiny-planner")]
    done = run_script("evaluation/run_vlm_evaluation.py", *arguments, "--output_dir", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    one, two = (tmp_path / name / "M&T" / "baseline" for name in ("one", "two"))
    # What a killed run of two leaves: answers that only the second process has written.
    two.mkdir(parents=True)
    shutil.copy(one / "settings.json", two)
    lines = (one / "generations.jsonl").read_text().splitlines(keepends=True)
    (two / "generations-rank1.jsonl").write_text("".join(lines[:2]) + lines[2][:20])

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(REPOSITORY / "scripts/evaluation/run_vlm_evaluation.py"), *arguments]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "two")], env=settings, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"of {len(lines)} answered") == 1
    for name in RESULTS:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert not list(two.glob("*-rank*"))
    assert read_json(two / "summary.json")["provenance"]["processes"] == 2
