"""How many prompts go together: from the shapes of a model and the memory of a device."""

import pytest
import torch
from transformers import AutoConfig

from leap.models.batch_size import MOST, bytes_a_token, memory_of, prompts_at_once
from leap.models.loading import load_weights
from leap.training.accounting import QWEN3_VL

GB = 10**9


@pytest.fixture(scope="module")
def qwen():
    return AutoConfig.for_model(**QWEN3_VL["2b"])


def test_bytes_of_a_token_are_those_of_a_cache(demo):
    model = load_weights(demo / "models/tiny-planner", "float32")
    with torch.no_grad():
        cache = model(input_ids=torch.arange(10, 20)[None], use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert bytes_a_token(model.config, 4) * 10 == held


def test_a_token_of_qwen3_vl_2b_takes_112_kib(qwen):
    assert bytes_a_token(qwen, 2) == 2 * 28 * 8 * 128 * 2 == 112 * 1024


@pytest.mark.parametrize(
    ("memory", "expected"), [(80 * GB, MOST), (24 * GB, 16), (12 * GB, 8), (5 * GB, 1), (1 * GB, 1)]
)
def test_prompts_of_vlabench_by_the_memory_of_a_gpu(qwen, memory, expected):
    assert prompts_at_once(qwen, 2, longest=2650 + 512, weights=4.3 * GB, memory=memory) == expected


def test_short_prompts_do_not_go_beyond_the_most(qwen):
    assert prompts_at_once(qwen, 2, longest=10, weights=0, memory=1000 * GB) == MOST


def test_where_nothing_is_known_it_is_eight(qwen):
    assert prompts_at_once(qwen, 2, longest=100, weights=0, memory=None) == 8


def test_this_machine_has_memory():
    assert memory_of("cpu") > 1 * GB
