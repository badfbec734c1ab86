"""What the trainer computes: the loss of a step, however its rows are split, and gradients computed twice."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers.modeling_outputs import CausalLMOutputWithPast

from leap.files import read_jsonl, write_jsonl
from leap.models.attention import ISOLATED_SDPA
from leap.models.checkpoints import read_manifest
from leap.models.loading import load_processor, load_weights
from leap.rows.records import read_rows, row_from_record
from leap.training.packing import Packer
from leap.training.supervision import IGNORED, PlanningCollator
from leap.training.trainer import for_loss, loss_weight, supervised_loss, supervised_positions
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


def weighted_rows(demo, *weights):
    records = read_jsonl(demo / "data" / "val.jsonl")[: len(weights)]
    return [
        row_from_record(record | {"weight": weight}, f"val:{i}", demo / "data")
        for i, (record, weight) in enumerate(zip(records, weights, strict=True))
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_of_weighted_rows_is_that_of_a_hand_computation(demo, packed):
    base, weights = demo / "models" / "tiny-planner", (1.0, 0.25, 3, 0)
    packer = Packer(base, "sdpa") if packed else None
    collator = PlanningCollator(load_processor(base), None, demo, packer)
    model = load_weights(base, "float32", ISOLATED_SDPA if packed else "sdpa").eval()
    rows = weighted_rows(demo, *weights)
    sums, tokens = [], []
    with torch.no_grad():
        for row in rows:  # each alone, its cross-entropies by log_softmax
            alone = PlanningCollator(collator.processor, None, demo)([replace(row, weight=1.0)])
            labels = alone.pop("labels")[0, 1:]
            alone.pop("row_lengths")
            logits = load_weights(base, "float32").eval()(**alone).logits[0, :-1].log_softmax(-1)
            supervised = labels != IGNORED
            sums.append(-logits[supervised, labels[supervised]].sum().item())
            tokens.append(int(supervised.sum()))
        batch = collator(rows)
        counted = sum(weight * count for weight, count in zip(weights, tokens, strict=True))
        assert loss_weight(batch) == pytest.approx(counted)
        inputs = for_loss(batch)
        targets, counts = inputs.pop("labels"), inputs.pop("weights")
        outputs = model(**inputs)
    expected = sum(weight * loss for weight, loss in zip(weights, sums, strict=True)) / counted
    assert supervised_loss(outputs, targets, weights=counts).item() == pytest.approx(expected, abs=1e-5)
    assert supervised_loss(outputs, targets, counted, counts).item() == pytest.approx(expected, abs=1e-5)
    assert supervised_loss(outputs, targets).item() != pytest.approx(expected, abs=1e-3)


def test_rows_of_weight_one_make_the_batch_that_rows_without_a_weight_make(demo):
    collator = PlanningCollator(load_processor(demo / "models" / "tiny-planner"), None, demo)
    assert "weights" not in collator(weighted_rows(demo, 1, 1.0))


@pytest.mark.slow
def test_a_step_is_by_the_weights_of_its_rows_however_they_are_split(demo, tmp_path, workspace):
    """A row of the weight 2 counts as the row twice, and one of the weight 0 not at all."""
    records = read_jsonl(demo / "data" / "train.jsonl")[:8]
    heavy = [record | {"weight": weight} for record, weight in zip(records, (2, 0, 1, 1, 1, 1, 1, 1), strict=True)]
    twice = [records[0], *records[:1], *records[2:]]
    ends = []
    for name, rows, batch, parts in (("whole", heavy, 8, 1), ("split", heavy, 2, 4), ("twice", twice, 8, 1)):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
        flags = ("--per_device_train_batch_size", batch, "--gradient_accumulation_steps", parts)
        flags += ("--train_file", tmp_path / f"{name}.jsonl", "--image_root", demo / "data", "--val_file", "none")
        ends.append(load_file(train_two_steps(tmp_path / name, *flags) / "model.safetensors"))
    base = load_file(demo / "models" / "tiny-planner" / "model.safetensors")
    for name, weights in ends[0].items():
        for other in ends[1:]:
            torch.testing.assert_close(weights, other[name], atol=2e-4, rtol=0, msg=name)
    assert sum((ends[0][name] - base[name]).abs().sum() for name in base) > 10, "the weights moved"


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
