"""Compiled layer by layer, a model computes the same, and saves the same."""

import pytest
import torch

from leap.models.attention import ISOLATED_SDPA
from leap.models.loading import load_processor, load_weights
from leap.rows.records import read_rows
from leap.training.compiling import compile_layers
from leap.training.packing import Packer
from leap.training.supervision import PlanningCollator
from leap.training.trainer import for_loss, supervised_loss


@pytest.mark.slow
def test_loss_and_gradients_of_packs_of_any_shape_are_those_of_the_model_as_it_was(demo):
    base = demo / "models/tiny-planner"
    rows = read_rows(demo / "data/train.jsonl")
    collator = PlanningCollator(load_processor(base), None, demo, Packer(base, "sdpa"))
    model, compiled = (load_weights(base, "float32", ISOLATED_SDPA).train() for _ in range(2))
    names = set(model.state_dict())
    compiled.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    config = compiled.config
    torch._dynamo.reset()
    assert compile_layers(compiled, "aot_eager") == config.text_config.num_hidden_layers + config.vision_config.depth
    for count in (3, 5):
        losses = []
        for each in (model, compiled):
            each.zero_grad()
            inputs = for_loss(collator(rows[:count]))
            targets = inputs.pop("labels")
            loss = supervised_loss(each(**inputs), targets)
            loss.backward()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], abs=1e-5)
        gradients = dict(compiled.named_parameters())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name].grad, parameter.grad, atol=1e-4, rtol=1e-4, msg=name)
    assert set(compiled.state_dict()) == names
