"""Steps on memory that stays where it is give the answers that steps on growing memory give.

Without a GPU no graph is captured; what it would replay runs as it is.
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from leap.models.decoding_graph import graphed_decoding
from leap.models.generation import Sampling, answer_batch, encode
from leap.models.loading import load_processor, load_weights
from leap.models.prefix_cache import PrefixCache
from leap.models.roomy_cache import roomy_cache
from tests.models.test_shared_pictures import loud, picture

PROMPT = "<|im_start|>user\n" + "Put the cup on the shelf. " * 20 + "{}<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def base(demo):
    return demo / "models/tiny-planner"


@pytest.fixture(scope="module")
def model(base):
    return talkative(load_weights(base, "float32"))


def talkative(model):
    """Loud, and without a token that ends a turn."""
    loud(model)
    embeddings = model.get_input_embeddings().weight  # the head's too
    with torch.no_grad():
        embeddings[[0, 1, 2]] *= 0.05
    return model


@pytest.fixture
def inputs(base):
    texts = [PROMPT.format(number * "Soon. ") for number in range(4)]
    return encode(load_processor(base), texts, [[picture(number)] for number in range(4)])


def answers(model, base, inputs, graphed, **options):
    processor = load_processor(base)
    if options.pop("prefix", False):
        options["prefixes"] = PrefixCache(frozenset({processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")}))
    return answer_batch(model, processor.tokenizer, inputs, 24, graphed=graphed, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"prefix": True}, {"stop_at_plan": True}, {"sampling": Sampling(0.7, 0.9), "seeds": [1, 2, 3, 4]}],
    ids=["plain", "prefix", "stop", "drawn"],
)
def test_answers_are_the_same(model, base, inputs, options):
    expected = answers(model, base, inputs, False, **options)
    assert len({answer.text for answer in expected}) == 4
    assert answers(model, base, inputs, True, **options) == expected
    assert "forward" not in vars(model), "the model is as it was"


def test_so_are_those_of_an_adapter(base, inputs):
    torch.manual_seed(3)
    adapted = get_peft_model(
        talkative(load_weights(base, "float32")), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    assert answers(adapted.eval(), base, inputs, True) == answers(adapted, base, inputs, False)


def test_a_step_computes_on_the_same_memory_as_the_one_before(model, base, inputs, monkeypatch):
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watch(query, key, value, **options):
        if query.shape[2] <= 2 and not options.get("is_causal"):
            seen.append((key.data_ptr(), key.shape))
        return attend(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    answers(model, base, inputs, True)
    layers = model.config.text_config.num_hidden_layers
    assert len(seen) >= 20 * layers
    assert len(set(seen)) == layers


def test_a_cache_that_does_not_keep_all_tokens_is_left_alone(model):
    cache = roomy_cache(model.config, 4)
    cache.layers[0] = type("Other", (type(cache.layers[0]),), {})(4)
    with graphed_decoding(model, cache):
        assert "forward" not in vars(model)
