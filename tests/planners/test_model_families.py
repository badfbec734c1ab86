"""What the engine relies on holds for each family of models: see tests/vlm_zoo.py."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from configs.errors import UserError
from leap.models.generation import answer_batch, encode
from leap.models.image_budget import pixel_budget, set_pixel_budget, takes_image_tokens
from leap.models.loading import load_processor, load_weights, quantised
from leap.planners import Query
from leap.planners.huggingface import HuggingFacePlanner
from leap.planners.options import AnsweringOptions
from tests.vlm_zoo import FAMILIES, build, put_adapter, why_unavailable

pytestmark = pytest.mark.slow  # twelve families, each built and asked in several ways
NEW_TOKENS = 6
PICTURES = ((1, 32, 32), (2, 48, 24), (0, 0, 0), (2, 24, 40), (1, 64, 32))  # of each prompt: how many, width, height


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    problem = why_unavailable(request.param)
    if problem:
        pytest.skip(problem)
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return build(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def queries(family, prompts):
    """Transformers' Mllama cannot answer prompts with and without pictures together."""
    return [query for query in prompts if query.picture_paths() or family != "mllama"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """Prompts of unequal length that begin alike, with none, one or two pictures of unequal size behind that."""
    home, numbers = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    begin = "".join(f"Rule {i}: one object at a time. " for i in range(30))
    found = []
    for i, (count, width, height) in enumerate(PICTURES):
        items = [{"type": "text", "text": begin + "now " * i}]
        for j in range(count):
            path = home / f"{i}-{j}.png"
            dots = Image.fromarray(numbers.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            dots.resize((width + 8 * j, height), Image.Resampling.NEAREST).save(path)
            items += [{"type": "image", "image": str(path)}, {"type": "text", "text": f"This is picture {j}. "}]
        items.append({"type": "text", "text": f"Which skills for task {i}?"})
        found.append(Query(str(i), "task", [{"role": "user", "content": items}]))
    return found


def planner_of(folder, **options):
    return HuggingFacePlanner(folder, AnsweringOptions(device="cpu", max_new_tokens=NEW_TOKENS, **options))


def answers(planner, batches):
    return {query.key: answer for results in planner.answer(batches) for query, answer in results}


def one_by_one(planner, queries):
    return answers(planner, [[query] for query in queries])


@pytest.fixture(scope="module")
def plain(folder):
    return planner_of(folder, reuse_prefix=False)


@pytest.fixture(scope="module")
def alone(plain, queries):
    return one_by_one(plain, queries)


def test_a_batch_gives_the_answers_of_one_at_a_time(plain, alone, queries):
    assert answers(plain, [queries]) == alone
    assert len({answer.text for answer in alone.values()}) > 1


def test_a_kept_prefix_gives_the_same_answers(family, folder, alone, queries):
    planner = planner_of(folder)
    assert answers(planner, [queries[:3], queries[3:]]) == alone
    if family in ("qwen3_5", "mllama"):  # linear attention, attention across: not keys and values of all tokens
        assert not planner._prefixes.tokens
    else:
        assert len(planner._prefixes.tokens) >= 64


def test_an_adapter_changes_the_answers_and_keeps_the_rules(family, folder, alone, queries, tmp_path):
    """It is as PEFT alone saves it: no manifest, no processor, and its base by name."""
    put_adapter(folder, tmp_path)
    adapted = planner_of(tmp_path)
    assert adapted.base == folder
    assert any(str(folder) in note for note in adapted.notes)  # whose processor is used
    together = answers(adapted, [queries])
    assert together != alone
    assert together == one_by_one(adapted, queries[:2]) | {query.key: together[query.key] for query in queries[2:]}


def test_a_prompt_begins_once(folder):
    """Also where both the chat template and the tokenizer write the token that begins a text."""
    processor = load_processor(folder)
    messages = [{"role": "user", "content": [{"type": "text", "text": "Which skills?"}]}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    [ids] = encode(processor, [text], [[]])["input_ids"].tolist()
    assert ids.count(processor.tokenizer.bos_token_id) == text.count(processor.tokenizer.bos_token or "<none>")


def test_the_size_of_pictures_is_described_and_bound_where_that_can_be(family, folder):
    processor = load_processor(folder)
    before = pixel_budget(processor)
    assert json.loads(json.dumps(before)) == before
    if takes_image_tokens(processor):
        assert family.startswith("qwen")
        set_pixel_budget(processor, 1, 4)
        assert pixel_budget(processor)["longest_edge"] < before["longest_edge"]
    else:
        with pytest.raises(UserError, match=r"Qwen-VL's rule; the \w+ImageProcessor of this model has another"):
            set_pixel_budget(processor, 1, 4)
        assert pixel_budget(processor) == before


@pytest.mark.parametrize("load_in", ["4bit", "8bit"])
def test_only_the_language_model_is_quantised(folder, load_in):
    pytest.importorskip("bitsandbytes")
    model = load_weights(folder, "bfloat16", quantization_config=quantised(folder, load_in), device_map={"": "cpu"})
    inside = set(model.get_decoder().modules())
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            assert (type(module) is not torch.nn.Linear) == (module in inside)


def test_steps_on_memory_that_stays_where_it_is_give_the_same_answers(folder, queries):
    """What a GPU replays as a graph, without a graph; families of which that is not known answer as ever."""
    planner = HuggingFacePlanner(folder, AnsweringOptions(device="cpu", max_new_tokens=NEW_TOKENS))
    inputs = planner._prepared(queries).inputs
    plain, steady = (
        answer_batch(planner.model, planner.processor.tokenizer, inputs, NEW_TOKENS, graphed=graphed)
        for graphed in (False, True)
    )
    assert steady == plain
