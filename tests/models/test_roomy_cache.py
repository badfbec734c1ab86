"""The cache with room holds what transformers' own holds, whatever is done to it; answers are equal bit by bit."""

import pytest
import torch
from transformers import AutoConfig, DynamicCache

from leap.models.loading import load_weights
from leap.models.roomy_cache import RoomyLayer, roomy_cache


@pytest.fixture(scope="module")
def config(demo):
    return AutoConfig.from_pretrained(demo / "models/tiny-planner")


def states(tokens, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, batch, 3, tokens, 4, generator=generator)


@pytest.mark.parametrize("room", [0, 1, 5, 100])
def test_it_holds_what_a_dynamic_cache_holds(config, room):
    plain, roomy = DynamicCache(config=config), roomy_cache(config, room)
    assert any(type(layer) is RoomyLayer for layer in roomy.layers)
    for number, tokens in enumerate((7, 1, 1, 4, 1, 1, 1)):
        keys, values = states(tokens, seed=number)
        for cache in (plain, roomy):
            cache.update(keys, values, 0)
        assert torch.equal(roomy.layers[0].keys, plain.layers[0].keys)
        assert torch.equal(roomy.layers[0].values, plain.layers[0].values)
        assert roomy.get_seq_length() == plain.get_seq_length()


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.batch_select_indices(torch.tensor([1])),
        lambda cache: cache.batch_repeat_interleave(2),
        lambda cache: cache.reorder_cache(torch.tensor([1, 0])),
        lambda cache: cache.crop(-3),
    ],
    ids=["select", "repeat", "reorder", "crop"],
)
def test_it_goes_on_after_rows_or_tokens_were_changed(config, change):
    plain, roomy = DynamicCache(config=config), roomy_cache(config, 8)
    for cache in (plain, roomy):
        cache.update(*states(6), 0)
        change(cache)
    keys, values = states(1, batch=len(plain.layers[0].keys), seed=9)
    for cache in (plain, roomy):
        cache.update(keys, values, 0)
    assert torch.equal(roomy.layers[0].keys, plain.layers[0].keys)
    assert torch.equal(roomy.layers[0].values, plain.layers[0].values)


def test_what_has_no_token_yet_holds_no_number_that_spoils_others(config, monkeypatch):
    """A mask weighs it with nothing, and nothing times not-a-number is none."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        cache = roomy_cache(config, 5)
        cache.update(*states(6), 0)
    finally:
        torch.use_deterministic_algorithms(False)
    layer = cache.layers[0]
    layer.hold(layer.capacity)
    assert layer.capacity == 11
    assert not layer.keys[:, :, 6:].any()
    assert not layer.values[:, :, 6:].any()


def test_a_step_copies_nothing_while_there_is_room(config):
    cache = roomy_cache(config, 3)
    cache.update(*states(6), 0)
    place = cache.layers[0].keys.data_ptr()
    for _ in range(3):
        cache.update(*states(1), 0)
        assert cache.layers[0].keys.data_ptr() == place
    cache.update(*states(1), 0)
    assert cache.layers[0].keys.data_ptr() != place, "the room was used up"


def test_a_model_answers_with_it_as_without(demo):
    model = load_weights(demo / "models/tiny-planner", "float32").eval()
    ids = torch.arange(20, 60).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    plain, roomy = (
        model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=-1,
        )
        for cache in (DynamicCache(config=model.config), roomy_cache(model.config, 12))
    )
    assert torch.equal(plain, roomy)
