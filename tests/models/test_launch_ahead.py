"""What is computed beforehand is what the model computes itself."""

import pytest
import torch
from transformers import AutoConfig

from leap.models.attention import ISOLATED_SDPA
from leap.models.launch_ahead import add_pictures_without_waiting, to_device, tower_inputs
from leap.models.loading import load_processor, load_weights
from leap.rows.records import read_rows
from leap.training.packing import Packer
from leap.training.supervision import PlanningCollator
from leap.training.trainer import for_loss, supervised_loss


@pytest.fixture(scope="module")
def base(demo):
    return demo / "models/tiny-planner"


@pytest.fixture(scope="module")
def pack(demo, base):
    rows = read_rows(demo / "data/train.jsonl")
    return PlanningCollator(load_processor(base), None, demo, Packer(base, "sdpa"))(rows[:4])


def gradients(model, batch):
    inputs = for_loss(batch)
    targets = inputs.pop("labels")
    loss = supervised_loss(model(**inputs), targets)
    loss.backward()
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


def test_a_pack_brings_along_what_the_tower_would_compute(base, pack):
    made = tower_inputs(AutoConfig.from_pretrained(base), pack["image_grid_thw"])
    patches = int(pack["image_grid_thw"].prod(dim=1).sum())
    assert made["image_position_ids"].shape == (patches, 2)
    assert made["image_interp_indices"].shape == made["image_interp_weights"].shape == (patches, 4)
    assert made["image_cu_seqlens"].tolist()[-1] == patches
    assert set(made) <= set(pack)


def test_the_tower_takes_it_and_computes_the_same(base, pack):
    model = load_weights(base, "float32", ISOLATED_SDPA).train()
    alone = {name: value for name, value in pack.items() if name not in tower_inputs_of(base, pack)}
    loss, expected = gradients(model, alone)
    expected = {name: gradient.clone() for name, gradient in expected.items()}
    model.zero_grad()
    ahead_loss, ahead = gradients(model, pack)
    assert torch.equal(loss, ahead_loss)
    assert all(torch.equal(ahead[name], gradient) for name, gradient in expected.items())


def tower_inputs_of(base, pack):
    return tower_inputs(AutoConfig.from_pretrained(base), pack["image_grid_thw"])


def test_the_tower_looks_at_nothing_but_what_it_was_given(base, pack):
    model = load_weights(base, "float32", ISOLATED_SDPA).eval()
    features = []
    model.model.visual.register_forward_hook(lambda module, arguments, output: features.append(output.pooler_output))
    given = tower_inputs_of(base, pack) | {"return_dict": True}
    model.model.visual(pack["pixel_values"], grid_thw=None, **{k.removeprefix("image_"): v for k, v in given.items()})
    model.model.visual(pack["pixel_values"], grid_thw=pack["image_grid_thw"], return_dict=True)
    assert torch.equal(*features)


def test_features_are_added_where_the_visual_tokens_stand(base, pack):
    model, changed = (load_weights(base, "float32", ISOLATED_SDPA).train() for _ in range(2))
    assert add_pictures_without_waiting(changed)
    loss, expected = gradients(model, pack)
    other, got = gradients(changed, pack)
    assert torch.equal(loss, other)
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_places_in_a_padded_batch_are_counted_row_by_row(base):
    model = load_weights(base, "float32").model.language_model
    hidden, mask = torch.randn(2, 5, 8), torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
    features = torch.randn(4, 8)
    expected = model._deepstack_process(hidden, mask, features)
    holder = type("Model", (), {"config": load_config(base), "model": type("Inner", (), {"language_model": model})})
    add_pictures_without_waiting(holder)
    assert torch.equal(model._deepstack_process(hidden, mask, features), expected)


def load_config(base):
    return AutoConfig.from_pretrained(base)


def test_sizes_stay_on_the_host_only_where_the_tower_does_without_them(pack):
    device = torch.device("meta")
    moved = to_device(pack, device)
    assert moved["image_grid_thw"].device.type == "cpu"
    assert moved["input_ids"].device == device
    without = {name: value for name, value in pack.items() if not name.startswith("image_") or "grid" in name}
    assert to_device(without, device)["image_grid_thw"].device == device
