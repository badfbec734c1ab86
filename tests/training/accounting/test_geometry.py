"""Geometry: parameters and linear layers of a model's config are those of the real class."""

import pytest
import torch
from transformers import AutoConfig

from configs.errors import UserError
from leap.training.accounting import Geometry
from leap.training.parts import PARTS, part_of
from tests.training.accounting.models import CONFIGS, on_meta


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_and_linear_layers_are_those_of_the_real_class(name):
    model, geometry = on_meta(CONFIGS[name]), Geometry.from_config(CONFIGS[name])
    counted = dict.fromkeys(PARTS, 0)
    for parameter, value in model.named_parameters():  # a tied head is listed once
        counted[part_of(parameter)] += value.numel()
    assert geometry.parameters == counted
    real = {
        module.removeprefix("model."): (linear.in_features, linear.out_features)
        for module, linear in model.named_modules()
        if isinstance(linear, torch.nn.Linear)
    }
    ours = {linear.name: (linear.inputs, linear.outputs) for linear in geometry.linears}
    assert ours.pop("visual.patch_embed.proj") == (geometry.vision.pixels, geometry.vision.hidden)  # a convolution
    assert ours == real
    assert Geometry.from_config(model.config) == geometry


def test_a_model_without_formulas_is_an_error_that_names_those_with(tmp_path):
    for config in ({"model_type": "llava"}, {}):
        with pytest.raises(UserError, match=r"no formulas for model type .*qwen2_vl, qwen2_5_vl, qwen3_vl"):
            Geometry.from_config(config)
    with pytest.raises(UserError, match="no formulas for model type 'llama'"):
        Geometry.from_config(AutoConfig.for_model("llama"))
    with pytest.raises(UserError, match="not a config of qwen3_vl"):
        Geometry.from_config({"model_type": "qwen3_vl", "text_config": {"hidden_size": "wide"}})
    with pytest.raises(UserError, match=r"file not found: .*config\.json"):
        Geometry.from_folder(tmp_path)
