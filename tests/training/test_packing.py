"""A packed batch is the padded batch of the same rows: logits, loss and gradients agree, and no row sees another."""

import json

import pytest
import torch

from configs.errors import UserError
from leap.models.attention import ISOLATED_SDPA
from leap.models.loading import load_processor, load_weights
from leap.rows.records import row_from_record
from leap.training.packing import Packer
from leap.training.supervision import PlanningCollator
from leap.training.trainer import for_loss, supervised_loss
from tests.conftest import REPOSITORY, run_script
from tests.training.test_supervision import CONVERSATIONS, STEPS, folder  # noqa: F401  (a fixture)

ATTENTION = {"sdpa": ISOLATED_SDPA, "eager": "eager"}  # asked for -> used


@pytest.fixture(scope="module")
def rows(folder, demo):  # noqa: F811
    return [
        row_from_record({"messages": messages, "target": {"steps": STEPS * repeat}}, f"rows:{i}", folder)
        for i, (messages, repeat) in enumerate(zip(CONVERSATIONS.values(), (1, 4, 2, 1, 3, 1), strict=True))
    ]


def batches(demo, rows, attention):
    base = demo / "models" / "tiny-planner"
    processor = load_processor(base)
    padded = PlanningCollator(processor, None, demo)(rows)
    packed = PlanningCollator(processor, None, demo, Packer(base, attention))(rows)
    return base, padded, packed


def forward(model, batch):
    kept = {name: value for name, value in batch.items() if name not in ("labels", "row_lengths")}
    return model(**kept, use_cache=False).logits


@pytest.mark.parametrize("attention", ATTENTION)
def test_packed_logits_equal_padded_ones(demo, rows, attention):
    base, padded, packed = batches(demo, rows, attention)
    lengths = padded["attention_mask"].sum(dim=1).tolist()
    assert len(set(lengths)) > 3
    assert packed["input_ids"].shape == (1, sum(lengths))
    with torch.no_grad():
        alone = forward(load_weights(base, "float32", attention).eval(), padded)
        together = forward(load_weights(base, "float32", ATTENTION[attention]).eval(), packed)
    expected = torch.cat([row[:length] for row, length in zip(alone, lengths, strict=True)])
    assert expected.abs().max() > 1
    torch.testing.assert_close(together[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("attention", ATTENTION)
def test_packed_loss_and_gradients_equal_padded_ones(demo, rows, attention):
    base, padded, packed = batches(demo, rows, attention)
    found = {}
    for name, batch, kernel in (("padded", padded, attention), ("packed", packed, ATTENTION[attention])):
        model = load_weights(base, "float32", kernel).train()
        inputs = for_loss(batch)
        targets = inputs.pop("labels")
        loss = supervised_loss(model(**inputs), targets)
        loss.backward()
        found[name] = loss.item(), {n: p.grad for n, p in model.named_parameters()}
    assert found["padded"][0] == pytest.approx(found["packed"][0], abs=1e-5)
    for name, gradient in found["padded"][1].items():
        torch.testing.assert_close(found["packed"][1][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_a_row_of_a_pack_does_not_see_its_neighbours(demo, rows):
    base, _, packed = batches(demo, rows, "sdpa")
    model = load_weights(base, "float32", ISOLATED_SDPA).eval()
    changed = dict(packed, input_ids=packed["input_ids"].clone())
    first = int(packed["sample_borders"][1])
    changed["input_ids"][0, first - 3 : first] = 5
    with torch.no_grad():
        before, after = forward(model, packed), forward(model, changed)
    assert not torch.equal(before[0, :first], after[0, :first])
    assert torch.equal(before[0, first:], after[0, first:])


def test_packing_a_model_that_cannot_is_refused_before_its_weights_are_read(demo, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "smolvlm"}))
    with pytest.raises(UserError, match="packing works with qwen2_vl.* is smolvlm"):
        Packer(tmp_path, "sdpa")


@pytest.mark.slow
def test_a_packed_run_learns_and_its_log_shows_no_padding(demo, tmp_path, workspace):
    done = run_script(
        "training/run-finetuning.py",
        *("--config", REPOSITORY / "configs/training/quickstart.yaml", "--output_dir", tmp_path / "run"),
        *("--packing", "--packing_tokens", 512, "--max_steps", 6, "--warmup_steps", 0, "--logging_steps", 1),
        *("--save_steps", 3, "--dataloader_num_workers", 0, "--val_plans", 0),
    )
    assert done.returncode == 0, done.stderr
    assert "packs of up to 512 tokens" in done.stdout
    lines = [json.loads(line) for line in (workspace / "logs" / "run" / "train.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.5
    assert all(line["padding_share"] == 0 for line in lines if "loss" in line)
