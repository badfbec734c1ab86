"""What the trainer computes: the loss of a step, data order, what it refuses. Kill and resume are in test_pipeline."""

import pytest
import torch
from safetensors.torch import load_file
from transformers.modeling_outputs import CausalLMOutputWithPast

from leap.models.checkpoints import read_manifest
from leap.models.loading import load_processor, load_weights
from leap.rows.records import read_rows
from leap.training.supervision import IGNORED, PlanningCollator
from leap.training.trainer import supervised_loss, supervised_positions
from tests.conftest import REPOSITORY, read_status, run_script

SCRIPT = "training/run-finetuning.py"
RECIPE = ("--config", REPOSITORY / "configs/training/quickstart.yaml", "--max_steps", 2)
RECIPE += ("--warmup_steps", 0, "--dataloader_num_workers", 0, "--save_steps", 2)
RECIPE += ("--val_plans", 2, "--val_max_new_tokens", 8)


def train(demo, run, *arguments):
    done = run_script(SCRIPT, *RECIPE, "--output_dir", run, *arguments)
    assert done.returncode == 0, done.stderr
    return run / "checkpoint-2"


def test_the_loss_is_that_of_the_models_own_class(demo):
    base = demo / "models" / "tiny-planner"
    collator = PlanningCollator(load_processor(base), None, demo)
    batch = collator(read_rows(demo / "data" / "val.jsonl"))
    model = load_weights(base, "float32").eval()
    with torch.no_grad():
        reference = model(**batch).loss
        positions, targets = supervised_positions(batch.pop("labels"))
        assert len(positions) < batch["input_ids"].shape[1]
        outputs = model(**batch, logits_to_keep=positions)
        assert outputs.logits.shape[1] == len(positions)
        assert supervised_loss(outputs, targets).item() == pytest.approx(reference.item(), abs=1e-5)


def test_only_supervised_positions_count():
    logits = torch.randn(1, 4, 10)
    labels = torch.tensor([[IGNORED, IGNORED, 3, 5]])
    positions, targets = supervised_positions(labels)
    assert positions.tolist() == [1, 2]
    loss = supervised_loss(CausalLMOutputWithPast(logits=logits[:, positions]), targets)
    by_hand = -(logits[0, 1].log_softmax(-1)[3] + logits[0, 2].log_softmax(-1)[5]) / 2
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_gradient_accumulation_does_not_change_a_step(demo, tmp_path, workspace):
    """Rows of very unequal answers: a mean of the means of micro-batches would give another gradient."""
    ends = [
        train(
            demo, tmp_path / f"{batch}", "--per_device_train_batch_size", batch, "--gradient_accumulation_steps", parts
        )
        for batch, parts in ((16, 1), (4, 4))
    ]
    whole, parts = (load_file(end / "model.safetensors") for end in ends)
    base = load_file(demo / "models" / "tiny-planner" / "model.safetensors")
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], atol=2e-4, rtol=0, msg=name)
    assert sum((whole[name] - base[name]).abs().sum() for name in whole) > 10, "the weights moved"
    losses = [read_manifest(end).validation["loss"] for end in ends]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.slow
def test_the_validation_loss_does_not_depend_on_the_batch_size(demo, tmp_path, workspace):
    losses = [
        read_manifest(train(demo, tmp_path / f"{size}", "--per_device_eval_batch_size", size)).validation["loss"]
        for size in (3, 20)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_weights(demo, tmp_path, workspace):
    plain = load_file(train(demo, tmp_path / "a") / "model.safetensors")
    again = load_file(train(demo, tmp_path / "b", "--gradient_checkpointing") / "model.safetensors")
    for name in plain:
        torch.testing.assert_close(plain[name], again[name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.slow
def test_a_run_keeps_a_status_file_from_first_to_last_step(demo, tmp_path, workspace):
    train(demo, tmp_path / "run", "--logging_steps", 1)
    path = workspace / "logs" / "run" / "status.json"
    status = read_status(path)
    assert (status.kind, status.state, status.unit) == ("training", "finished", "step")
    assert (status.total, status.done, status.first_done) == (2, 2, 0)
    assert status.about == {"run": "run", "tuning": "full", "base_model": str(workspace / "models" / "tiny-planner")}
    assert status.counts.keys() == {"loss", "eval_loss", "tokens_per_second", "epoch"}
    assert status.counts["tokens_per_second"] > 0

    # Resumed: what was done before counts as done, not as this run's speed.
    train(demo, tmp_path / "run", "--logging_steps", 1)
    assert read_status(path) == status, "nothing to do is no run"
    done = run_script(SCRIPT, *RECIPE, "--output_dir", tmp_path / "run", "--max_steps", 3, "--allow_changes")
    assert done.returncode == 0, done.stderr
    assert (read_status(path).total, read_status(path).done, read_status(path).first_done) == (3, 3, 2)
