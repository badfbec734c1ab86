"""Patch embeddings by product: the same numbers as the convolution, the same checkpoint."""

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForImageTextToText

from leap.models.loading import load_weights
from leap.models.patch_embedding import PatchConvolution, embed_patches_by_product


def convolution(**changes):
    torch.manual_seed(0)
    return nn.Conv3d(3, 32, **{"kernel_size": (2, 16, 16), "stride": (2, 16, 16)} | changes)


def test_output_and_gradients_are_those_of_the_convolution():
    patches = torch.randn(50, 3, 2, 16, 16)
    results = []
    for as_product in (False, True):
        model = nn.Sequential(convolution())
        if as_product:
            assert embed_patches_by_product(model) == 1
        output = model(patches)
        output.square().sum().backward()
        results.append((output.detach(), model[0].weight.grad, model[0].bias.grad))
    for conv, product in zip(*results, strict=True):
        assert conv.shape == product.shape
        assert torch.allclose(conv, product, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"stride": (1, 16, 16)}, {"padding": 1}, {"dilation": 2}, {"groups": 1, "stride": (2, 8, 8)}],
    ids=str,
)
def test_a_convolution_that_overlaps_or_pads_is_left_alone(changes):
    model = nn.Sequential(convolution(**changes))
    assert embed_patches_by_product(model) == 0
    assert type(model[0]) is nn.Conv3d


def test_an_input_of_several_patches_is_convolved_as_before():
    whole = torch.randn(2, 3, 4, 32, 48)
    model = nn.Sequential(convolution())
    expected = model(whole)
    embed_patches_by_product(model)
    assert torch.equal(model(whole), expected)


def test_a_loaded_model_multiplies_and_saves_the_same_bytes_and_names(demo, tmp_path):
    tiny_planner = demo / "models/tiny-planner"
    model = load_weights(tiny_planner, "float32")
    assert any(isinstance(module, PatchConvolution) for module in model.modules())
    model.save_pretrained(tmp_path / "again")
    with (
        safe_open(tiny_planner / "model.safetensors", "pt") as old,
        safe_open(tmp_path / "again/model.safetensors", "pt") as new,
    ):
        names = set(old.keys())
        assert names == set(new.keys())
        assert any(name.endswith("patch_embed.proj.weight") for name in names)
        assert all(torch.equal(old.get_tensor(name), new.get_tensor(name)) for name in names)
    assert "fusion_config" not in (tmp_path / "again/config.json").read_text()
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "again")
    assert not any(isinstance(module, PatchConvolution) for module in plain.modules())
