"""What happens during a run besides training: its status from first to last step, and saving before it is preempted."""

import signal
import sys
from types import SimpleNamespace

import pytest
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from leap.files import read_jsonl
from leap.training.callbacks import TrackRecipe
from tests.conftest import read_status, run_script, start_script
from tests.training.trainings import (
    QUICKSTART,
    SIX_STEPS,
    STEPS,
    TRAIN,
    TWO_STEPS,
    train,
    train_two_steps,
    training,
)

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


@pytest.mark.parametrize("script", [TRAIN, "ablation/run-lora-finetuning.py"])
def test_every_checkpoint_has_its_own_card_and_tensorboard_the_recipe(demo, tmp_path, workspace, script):
    run = workspace / "output" / "run"
    done = run_script(script, "--config", QUICKSTART, *SIX_STEPS, "--output_dir", run, "--max_steps", 4)
    assert done.returncode == 0, done.stderr
    for step in (2, 4):
        card = (run / f"checkpoint-{step}" / "README.md").read_text()
        assert f"{step:,} optimiser steps" in card
        assert str(workspace) not in card
    events = EventAccumulator(str(workspace / "logs" / "run")).Reload()
    [text] = [events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in events.Tags()["tensors"] if "recipe" in tag]
    assert yaml.safe_load(text)["max_steps"] == 4


def test_wandb_gets_the_recipe_beside_what_the_trainer_tells_it(monkeypatch):
    """Against a stand-in for the package, which is not installed here."""
    config = {"learning_rate": 0.1}
    package = SimpleNamespace(config=SimpleNamespace(update=lambda values, allow_val_change: config.update(values)))
    monkeypatch.setitem(sys.modules, "wandb", package)
    recipe = {"packing": True}
    for first in (True, False):
        state = SimpleNamespace(is_world_process_zero=first, global_step=0)
        TrackRecipe(recipe, []).on_train_begin(SimpleNamespace(report_to=["wandb"]), state, None)
        assert config.pop("leap", None) == (recipe if first else None)
    assert config == {"learning_rate": 0.1}


def test_a_results_file_that_cannot_be_read_costs_a_card_and_not_the_run(demo, tmp_path, workspace):
    summary = workspace / "eva_results" / "Spatial" / "run-checkpoint-2" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text("{torn")
    run = workspace / "output" / "run"
    done = train(*SIX_STEPS, "--output_dir", run, "--max_steps", 4)
    assert done.returncode == 0, done.stderr
    assert "no model card yet" in done.stdout
    assert (run / "checkpoint-4" / "README.md").is_file()


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
