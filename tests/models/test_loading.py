"""Models, processors and adapters that can be loaded, and why others cannot."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.errors import UserError
from leap.models.loading import (
    base_of,
    keeps_order,
    load_for_planning,
    load_processor,
    load_weights,
    processor_folder,
    tokenizer_problem,
    why_not_quantised,
)
from tests.conftest import assert_one_line_error, run_script
from tests.vlm_zoo import build, put_adapter, why_unavailable


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
    with pytest.raises(UserError, match=r"the adapter .* does not fit Mistral3For.*size mismatch for .*q_proj"):
        load_for_planning(tmp_path, "cpu", "float32", mistral)


def test_an_adapter_of_a_base_with_a_resized_vocabulary_says_so(mistral, tmp_path):
    put_adapter(mistral, tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    size = load_weights(mistral, "float32").get_input_embeddings().weight.shape[0]
    embedding = {"base_model.model.model.language_model.embed_tokens.weight": torch.zeros(size + 8, 4)}
    save_file(load_file(weights) | embedding, weights)
    with pytest.raises(
        UserError, match=rf"its vocabulary has {size + 8:,} tokens, the base's {size:,}: .*--base_model"
    ):
        load_for_planning(tmp_path, "cpu", "float32", mistral)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_not_there_is_said_and_none_is_made_up(mistral, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(mistral, folder)
    assert tokenizer_problem(folder) is None
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"no usable processor in .*it has no .*{name}"):
        load_processor(folder)


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
        base_of(adapter)
    models.mkdir()
    (models / "Mistral-Tiny").symlink_to(mistral)
    assert base_of(adapter)[0] == models / "Mistral-Tiny"
    assert base_of(adapter, mistral)[0] == mistral


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


def test_a_model_whose_class_is_in_its_own_folder_is_one_line_that_names_the_way_out(workspace, tmp_path):
    shutil.copytree(workspace / "models" / "tiny-planner", tmp_path / "own")
    path = tmp_path / "own" / "config.json"
    config = json.loads(path.read_text()) | {"model_type": "minicpmv", "auto_map": {"AutoModel": "own.Own"}}
    path.write_text(json.dumps(config))
    (tmp_path / "own" / "own.py").write_text("raise SystemExit('the code of the folder was run')\n")
    done = run_script("evaluation/run_vlm_evaluation.py", "--base_model", tmp_path / "own", "--dimension", "Spatial")
    assert_one_line_error(done, "'minicpmv'", "AutoModelForImageTextToText", "Serve it", "--planner openai")
