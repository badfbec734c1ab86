"""What the engine relies on holds for each family of models: see tests/vlm_zoo.py."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file

from configs.errors import UserError
from leap.models.generation import encode
from leap.models.image_budget import pixel_budget, set_pixel_budget, takes_image_tokens
from leap.models.loading import (
    keeps_order,
    load_for_planning,
    load_processor,
    load_weights,
    processor_folder,
    quantised,
    why_not_quantised,
)
from leap.planners import Query
from leap.planners.huggingface import HuggingFacePlanner
from tests.vlm_zoo import FAMILIES, build, why_unavailable

NEW_TOKENS = 6
PICTURES = ((1, 32, 32), (2, 48, 24), (0, 0, 0), (2, 24, 40), (1, 64, 32))  # of each prompt: how many, width, height
ADAPTED = r".*(language_model|text_model)\..*(q_proj|v_proj)"


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


def answers(planner, batches):
    return {query.key: answer for results in planner.answer(batches) for query, answer in results}


def one_by_one(planner, queries):
    return answers(planner, [[query] for query in queries])


@pytest.fixture(scope="module")
def plain(folder):
    return HuggingFacePlanner(folder, "cpu", max_new_tokens=NEW_TOKENS, reuse_prefix=False)


@pytest.fixture(scope="module")
def alone(plain, queries):
    return one_by_one(plain, queries)


def test_a_batch_gives_the_answers_of_one_at_a_time(plain, alone, queries):
    assert answers(plain, [queries]) == alone
    assert len({answer.text for answer in alone.values()}) > 1


def test_a_kept_prefix_gives_the_same_answers(family, folder, alone, queries):
    planner = HuggingFacePlanner(folder, "cpu", max_new_tokens=NEW_TOKENS)
    assert answers(planner, [queries[:3], queries[3:]]) == alone
    if family in ("qwen3_5", "mllama"):  # linear attention, attention across: not keys and values of all tokens
        assert not planner._prefixes.tokens
    else:
        assert len(planner._prefixes.tokens) >= 64


def test_an_adapter_changes_the_answers_and_keeps_the_rules(family, folder, alone, queries, tmp_path):
    """It is as PEFT alone saves it: no manifest, no processor, and its base by name."""
    put_adapter(folder, tmp_path)
    adapted = HuggingFacePlanner(tmp_path, "cpu", max_new_tokens=NEW_TOKENS)
    assert adapted.base == folder
    assert any(str(folder) in note for note in adapted.notes)  # whose processor is used
    together = answers(adapted, [queries])
    assert together != alone
    assert together == one_by_one(adapted, queries[:2]) | {query.key: together[query.key] for query in queries[2:]}


def put_adapter(base, folder):
    torch.manual_seed(1)
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=ADAPTED)
    get_peft_model(load_weights(base, "float32"), config).save_pretrained(folder)


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


@pytest.fixture(scope="module")
def mistral(tmp_path_factory):
    return build("mistral3", tmp_path_factory.mktemp("mistral"))


def test_a_model_is_quantised_on_a_gpu_only(mistral):
    assert why_not_quantised(mistral, "cpu") in (
        "it needs a CUDA GPU",
        "it needs the package bitsandbytes: pip install bitsandbytes",
    )


def test_an_adapter_that_finds_no_place_is_an_error(mistral, tmp_path):
    """PEFT would leave it out, with a warning, and answer as the base does."""
    put_adapter(mistral, tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    renamed = {name.replace("model.language_model", "model"): value for name, value in load_file(weights).items()}
    save_file(renamed, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not fit Mistral3For.*: its weights are named otherwise"):
        load_for_planning(tmp_path, "cpu", "float32", mistral)


def test_an_adapter_of_another_width_is_an_error(mistral, tmp_path):
    put_adapter(mistral, tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    save_file({name: value[:, :2].contiguous() for name, value in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match=r"the adapter .* does not fit Mistral3For"):
        load_for_planning(tmp_path, "cpu", "float32", mistral)


def test_an_adapter_with_a_processor_uses_its_own(mistral, tmp_path):
    put_adapter(mistral, tmp_path)
    assert processor_folder(tmp_path, mistral) == mistral
    load_processor(mistral).save_pretrained(tmp_path)
    assert processor_folder(tmp_path, mistral) == tmp_path


def test_the_base_of_an_adapter_is_found_by_its_name_on_the_hub(mistral, tmp_path, monkeypatch):
    adapter, models = tmp_path / "adapter", tmp_path / "models"
    put_adapter(mistral, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/Mistral-Tiny"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path))
    with pytest.raises(UserError, match=r"its base someone/Mistral-Tiny cannot be used: .*--base_model"):
        HuggingFacePlanner(adapter, "cpu")
    models.mkdir()
    (models / "Mistral-Tiny").symlink_to(mistral)
    assert HuggingFacePlanner(adapter, "cpu").base == models / "Mistral-Tiny"
    assert HuggingFacePlanner(adapter, "cpu", base_model=mistral).base == mistral


def test_a_template_that_shows_all_pictures_first_is_recognised(mistral):
    processor = load_processor(mistral)
    assert keeps_order(processor)
    loop = "{%% for item in messages[0].content %%}{%% if item.type == '%s' %%}%s{%% endif %%}{%% endfor %%}"
    processor.chat_template = loop % ("image", "[IMG]") + loop % ("text", "{{ item.text }}")
    assert not keeps_order(processor)


@pytest.mark.skipif(why_unavailable("smolvlm") is None, reason="num2words is installed")
def test_a_package_that_a_processor_needs_is_named(tmp_path):
    build("idefics3", tmp_path)
    path = tmp_path / "processor_config.json"
    config = json.loads(path.read_text().replace("Idefics3", "SmolVLM"))
    path.write_text(json.dumps(config | {"video_processor": {"video_processor_type": "SmolVLMVideoProcessor"}}))
    with pytest.raises(UserError, match=r"needs another package: .*pip install num2words"):
        load_processor(tmp_path)
