"""Models, processors and adapters that can be loaded, and why others cannot."""

import ast
import contextlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.errors import UserError
from leap.files import write_json
from leap.models.checkpoints import MANIFEST
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
from tests.conftest import REPOSITORY, assert_one_line_error, run_script
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


OWN_CLASSES = {
    "config.json": ("AutoConfig", "AutoModelForImageTextToText"),
    "processor_config.json": ("AutoProcessor",),
    "tokenizer_config.json": ("AutoTokenizer",),
}


@pytest.mark.parametrize("repository", ["", "someone/repository--"])
@pytest.mark.parametrize("file", OWN_CLASSES)
def test_nothing_asks_whether_to_run_the_code_of_a_folder_and_nothing_runs_it(
    demo, tmp_path, monkeypatch, file, repository
):
    folder = tmp_path / "own"
    shutil.copytree(demo / "models" / "tiny-planner", folder)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: ...\n")
    path, own = folder / file, f"{repository}own.Own"
    auto_map = {name: [own, own] if name == "AutoTokenizer" else own for name in OWN_CLASSES[file]}
    names = {"tokenizer_class": "Own", "processor_class": "Own"} if file != "config.json" else {}
    path.write_text(json.dumps(json.loads(path.read_text()) | names | {"auto_map": auto_map}))
    questions = []
    monkeypatch.setattr("builtins.input", lambda question="": questions.append(question) or "yes")
    for load in (load_processor, lambda folder: load_for_planning(folder, "cpu", "float32")):
        with contextlib.suppress(UserError):
            load(folder)
    assert not questions
    assert not (tmp_path / "ran").exists()


def test_every_call_that_loads_by_transformers_says_that_no_code_is_trusted():
    calls = [
        (path, node)
        for folder in ("leap", "scripts")
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id.startswith("Auto")
    ]
    assert len(calls) > 5
    for path, call in calls:
        trust = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
        assert [getattr(value, "value", None) for value in trust] == [False], f"{path}:{call.lineno}"


def test_an_adapter_that_names_a_list_as_its_base_is_one_line(mistral, tmp_path):
    put_adapter(mistral, tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": ["a", "b"]}))
    with pytest.raises(UserError, match=r"names no base model, but \['a', 'b'\]. Name it with --base_model"):
        base_of(tmp_path)


def test_an_adapter_whose_pattern_explodes_is_one_line(mistral, tmp_path, monkeypatch):
    monkeypatch.setattr("leap.models.bounds.PATTERN_S", 0.3)
    put_adapter(mistral, tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": r"(\w+\.?)+!"}))
    with pytest.raises(UserError, match="pattern of its layers takes longer"):
        load_for_planning(tmp_path, "cpu", "float32", mistral)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ nothing.at_all }}", "is undefined"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "longer"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_one_line(demo, tmp_path, monkeypatch, template, words):
    monkeypatch.setattr("leap.models.bounds.TEMPLATE_S", 0.3)
    shutil.copytree(demo / "models" / "tiny-planner", tmp_path / "own")
    (tmp_path / "own" / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=f"the chat template in .*{words}"):
        load_processor(tmp_path / "own")


def test_a_model_of_a_billion_layers_is_one_line(demo, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(demo / "models" / "tiny-planner", folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 10**9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="2,000 layers are the most"):
        load_for_planning(folder, "cpu", "float32")


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 2500, "\U0001f916" * 100])
@pytest.mark.parametrize("script", ["utils/merge_adapter.py", "evaluation/plan.py", "evaluation/run_vlm_evaluation.py"])
def test_a_base_whose_name_no_file_system_takes_is_one_line(mistral, tmp_path, workspace, script, name):
    put_adapter(mistral, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": name}))
    picture = next((workspace / "data" / "images").glob("*.png"))
    more = ["--image", picture, "Move it"] if "plan" in script else []
    with pytest.raises(UserError, match="names no base model"):
        base_of(tmp_path / "adapter")
    nothing = dict.fromkeys(("base_weights_sha256", "data_sha256", "chat_template_sha256"), "")
    nothing |= {"recipe": {}, "pixel_budget": {}, "library_versions": {}}
    write_json(tmp_path / "adapter" / MANIFEST, {"base_model": name, "kind": "adapter"} | nothing)
    done = run_script(script, "--checkpoint", tmp_path / "adapter", *more)
    assert_one_line_error(done, "leap_manifest.json is not a LEAP manifest: base_model is no path, but")
    assert len(done.stderr) < 600
