"""Runs that stop by the clock."""

import pytest

from leap.files import read_json
from leap.models.checkpoints import read_manifest
from tests.training.trainings import train


@pytest.mark.slow
def test_a_run_stops_after_its_seconds_validated_and_saved_and_is_then_done(demo, tmp_path, workspace):
    run = tmp_path / "run"
    steps = ("--max_steps", 10_000, "--warmup_steps", 0, "--save_steps", 10_000, "--dataloader_num_workers", 0)
    clock = ("--max_seconds", 2, "--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 1)
    command = ("--output_dir", run, *steps, *clock, "--val_plans", 2, "--val_max_new_tokens", 8)
    done = train(*command)
    assert done.returncode == 0, done.stderr
    [folder] = run.glob("checkpoint-*")
    manifest = read_manifest(folder)
    assert 2 <= manifest.train_seconds < 60
    assert manifest.validation["step"] == manifest.steps < 10_000
    assert read_json(run / "run.json")["last_checkpoint"] == folder.name
    again = train(*command)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert [folder] == list(run.glob("checkpoint-*"))
