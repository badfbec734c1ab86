"""What happens during a run besides training: its status from first to last step, and saving before it is preempted."""

import signal

import pytest
from safetensors.torch import load_file

from leap.files import read_jsonl
from tests.conftest import read_status, run_script, start_script
from tests.training.trainings import STEPS, TRAIN, TWO_STEPS, train, train_two_steps, training

pytestmark = pytest.mark.slow


def test_a_run_keeps_a_status_file_from_first_to_last_step(demo, tmp_path, workspace):
    train_two_steps(tmp_path / "run", "--logging_steps", 1)
    path = workspace / "logs" / "run" / "status.json"
    status = read_status(path)
    assert (status.kind, status.state, status.unit) == ("training", "finished", "step")
    assert (status.total, status.done, status.first_done) == (2, 2, 0)
    assert status.about == {"run": "run", "tuning": "full", "base_model": str(workspace / "models" / "tiny-planner")}
    assert status.counts.keys() == {"loss", "eval_loss", "tokens_per_second", "epoch"}
    assert status.counts["tokens_per_second"] > 0

    # Resumed: what was done before counts as done, not as this run's speed.
    train_two_steps(tmp_path / "run", "--logging_steps", 1)
    assert read_status(path) == status, "nothing to do is no run"
    done = train(*TWO_STEPS, "--output_dir", tmp_path / "run", "--max_steps", 3, "--allow_changes")
    assert done.returncode == 0, done.stderr
    assert (read_status(path).total, read_status(path).done, read_status(path).first_done) == (3, 3, 2)


def test_a_run_leaves_its_log_and_its_loss_curve(undisturbed):
    run = undisturbed / "run"
    records = read_jsonl(undisturbed / "logs" / "run" / "train.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [3, 6, 9, 12]
    assert [r["step"] for r in records if "eval_loss" in r] == [3, 6, 9, 12]
    assert all(r["tokens_per_second"] > 0 for r in records if "loss" in r)
    assert (run / "loss.png").stat().st_size > 5000


def test_preemption_saves_before_it_stops_and_the_run_goes_on_to_the_same_end(demo, undisturbed, tmp_path, workspace):
    run = tmp_path / "run"
    rare = [*training(run, demo), "--save_steps", 100, "--logging_steps", 1]
    process = start_script(TRAIN, *rare)
    for line in process.stdout:
        if line.startswith("step 2/"):
            status = read_status(workspace / "logs" / "run" / "status.json")
            assert (status.state, status.pid) == ("running", process.pid)
            process.send_signal(signal.SIGTERM)
            break
    out, err = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, err
    status = read_status(workspace / "logs" / "run" / "status.json")
    assert (status.state, status.reason) == ("interrupted", "exit status 143")
    assert 1 <= status.done < STEPS
    [saved] = run.glob("checkpoint-*")
    assert f"stopped by SIGTERM after saving {saved}" in out
    assert run_script(TRAIN, *rare).returncode == 0
    expected = load_file(undisturbed / "run" / f"checkpoint-{STEPS}" / "model.safetensors")
    found = load_file(run / f"checkpoint-{STEPS}" / "model.safetensors")
    assert all(weights.equal(found[name]) for name, weights in expected.items())
