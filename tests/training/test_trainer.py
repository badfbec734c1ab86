"""What the trainer computes: the loss of a step, however its rows are split, and gradients computed twice."""

import pytest
import torch
from safetensors.torch import load_file
from transformers.modeling_outputs import CausalLMOutputWithPast

from leap.models.checkpoints import read_manifest
from leap.models.loading import load_processor, load_weights
from leap.rows.records import read_rows
from leap.training.supervision import IGNORED, PlanningCollator
from leap.training.trainer import supervised_loss, supervised_positions
from tests.training.trainings import train_two_steps


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


@pytest.mark.slow
def test_gradient_accumulation_does_not_change_a_step(demo, tmp_path, workspace):
    """Rows of very unequal answers: a mean of the means of micro-batches would give another gradient."""
    ends = [
        train_two_steps(
            tmp_path / f"{batch}", "--per_device_train_batch_size", batch, "--gradient_accumulation_steps", parts
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
        read_manifest(train_two_steps(tmp_path / f"{size}", "--per_device_eval_batch_size", size)).validation["loss"]
        for size in (3, 20)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_weights(demo, tmp_path, workspace):
    plain = load_file(train_two_steps(tmp_path / "a") / "model.safetensors")
    again = load_file(train_two_steps(tmp_path / "b", "--gradient_checkpointing") / "model.safetensors")
    for name in plain:
        torch.testing.assert_close(plain[name], again[name], atol=1e-6, rtol=0, msg=name)
