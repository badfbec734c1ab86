"""LoRA: what presets match on the real architecture, training and resuming, merging."""

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from configs.errors import UserError
from leap.cli import parse_knobs
from leap.models.checkpoints import read_manifest
from leap.models.loading import load_for_planning, load_weights
from leap.training.adapters import adapter_coverage, attach, merge
from leap.training.recipes import LoraRecipe
from tests.conftest import REPOSITORY, assert_one_line_error, run_script

TRAIN = "ablation/run-lora-finetuning.py"
PRESETS = ("light", "standard", "full", "aggressive")


def recipe(*arguments):
    return parse_knobs(LoraRecipe, list(arguments), "Test.", preset=REPOSITORY / "configs/lora/standard.yaml")


@pytest.fixture(scope="module")
def real():
    """Qwen3-VL-2B-Instruct's architecture, without memory for its weights."""
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]},
        },
        vision_config={
            "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2048,
            "deepstack_visual_indexes": [5, 11, 17],
        },
        tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        return lambda: Qwen3VLForConditionalGeneration(config)


def millions(parameters):
    return round(sum(p.numel() for p in parameters) / 1e6)


def test_the_real_architecture_has_the_known_sizes(real):
    with torch.device("meta"):
        model = real()
    text, visual = model.model.language_model, model.model.visual
    mergers = [*visual.merger.parameters(), *visual.deepstack_merger_list.parameters()]
    assert millions(text.layers.parameters()) == 1409
    assert millions(text.embed_tokens.parameters()) == 311
    assert millions(mergers) == 101
    assert millions([*visual.blocks.parameters(), *visual.patch_embed.parameters()]) == 304


# Per layer: rank x (inputs + outputs) of each projection; 28 layers.
ATTENTION_QV = (2048 + 2048) + (2048 + 1024)
ATTENTION = ATTENTION_QV + (2048 + 1024) + (2048 + 2048)
MLP = 3 * (2048 + 6144)


@pytest.mark.parametrize(
    ("preset", "modules", "trainable"),
    [
        ("light", 2, 28 * 8 * ATTENTION_QV),
        ("standard", 4, 28 * 16 * ATTENTION),
        ("full", 7, 28 * 32 * (ATTENTION + MLP)),
        ("aggressive", 7, 28 * 64 * (ATTENTION + MLP)),
    ],
)
def test_presets_match_the_language_model_only(real, preset, modules, trainable):
    with torch.device("meta"):
        model = attach(real(), recipe("--preset", preset))
    matched = adapter_coverage(model)
    assert set(matched.modules.values()) == {28}
    assert len(matched.modules) == modules
    assert matched.trainable == trainable
    assert not any("lora" in name and "visual" in name for name, _ in model.named_parameters())
    assert f"{trainable:,} of" in str(matched)


def test_the_vision_tower_gets_adapters_only_when_asked(real):
    with torch.device("meta"):
        matched = adapter_coverage(attach(real(), recipe("--lora_vision")))
    assert matched.modules["qkv"] == matched.modules["linear_fc1"] == 24


def test_a_target_that_is_not_there_is_named_with_those_that_are(demo):
    model = load_weights(demo / "models" / "tiny-planner", "float32")
    with pytest.raises(UserError, match=r"no module 'query' .*may name: down_proj, gate_proj, k_proj"):
        attach(model, recipe("--lora_target_modules", "query"))


def train(demo, run, *arguments, steps=4):
    done = run_script(
        TRAIN,
        *("--model_name_or_path", demo / "models/tiny-planner", "--train_file", demo / "data/train.jsonl"),
        *("--output_dir", run, "--image_tokens_min", 1, "--image_tokens_max", 16, "--warmup_steps", 0),
        *("--keep_optimizer_of_last", 2, "--dataloader_num_workers", 0, "--max-steps", steps, "--save_steps", 2),
        *("--gradient_accumulation_steps", 2, *arguments),
    )
    assert done.returncode == 0, done.stderr
    return run / f"checkpoint-{steps}"


@pytest.fixture(scope="module")
def adapter(demo, tmp_path_factory):
    return train(demo, tmp_path_factory.mktemp("lora") / "lora_standard")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        *(("--preset", preset) for preset in PRESETS),
        ("--use_dora",),
        ("--use_rslora",),
        ("--pissa",),
        ("--lora_vision",),
        ("--loraplus_lr_ratio", 16),
    ],
)
def test_every_preset_and_variant_trains(demo, tmp_path, arguments):
    end = train(demo, tmp_path / "run", "--gradient_accumulation_steps", 1, *arguments, steps=2)
    weights = load_file(end / "adapter_model.safetensors")
    moved = [name for name, value in weights.items() if "lora_B" in name and value.abs().sum() > 0]
    assert len(moved) == sum("lora_B" in name for name in weights) > 0
    assert read_manifest(end).kind == "adapter"


@pytest.mark.slow
def test_resuming_trains_on_as_if_never_interrupted(demo, adapter, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(adapter.with_name("checkpoint-2"), run / "checkpoint-2")
    end = train(demo, run)
    expected, found, half = (
        load_file(folder / "adapter_model.safetensors") for folder in (adapter, end, run / "checkpoint-2")
    )
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    assert any(not torch.equal(half[name], found[name]) for name in found)


def test_a_merged_checkpoint_is_the_adapted_model(demo, adapter, tmp_path):
    merged = tmp_path / "merged"
    done = run_script("utils/merge_adapter.py", "--checkpoint", adapter, "--output_dir", merged)
    assert done.returncode == 0, done.stderr
    ids = torch.arange(40)[None]
    base = demo / "models" / "tiny-planner"
    with torch.inference_mode():
        adapted = load_for_planning(adapter, "cpu", "float32", base)(input_ids=ids, attention_mask=ids >= 0).logits
        whole = load_for_planning(merged, "cpu", "float32")(input_ids=ids, attention_mask=ids >= 0).logits
        plain = load_for_planning(base, "cpu", "float32")(input_ids=ids, attention_mask=ids >= 0).logits
    torch.testing.assert_close(adapted, whole, atol=1e-4, rtol=0)
    assert (adapted - plain).abs().max() > 1e-3
    assert read_manifest(merged).kind == "full"
    by_library = tmp_path / "by library"  # as the server merges
    merge(adapter, by_library, base)
    cards = [(folder / "README.md").read_text().replace(folder.name, "") for folder in (merged, by_library)]
    assert cards[0] == cards[1]
    assert_one_line_error(
        run_script("utils/merge_adapter.py", "--checkpoint", adapter, "--output_dir", merged), "is there already"
    )
    assert_one_line_error(run_script("utils/merge_adapter.py", "--checkpoint", base), "not an adapter")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_a_head_that_shares_its_weights_is_not_folded_in(demo, tmp_path, target):
    base = demo / "models" / "tiny-planner"
    model = load_weights(base, "float32")
    get_peft_model(model, LoraConfig(r=4, target_modules=[target, "q_proj"])).save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"it sits on the head or the embedding, which share their weights in"):
        merge(tmp_path / "adapter", tmp_path / "merged", base)
    assert not (tmp_path / "merged").exists()


def test_the_seed_decides_how_an_adapter_starts(demo, tmp_path, workspace):
    """Whatever random numbers were drawn before in the process."""
    ends = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(len(ends) + 1)
        done = run_script(
            TRAIN,
            *("--config", REPOSITORY / "configs/training/quickstart.yaml", "--output_dir", tmp_path / name),
            *("--max_steps", 1, "--save_steps", 1, "--lr", "1e-12", "--warmup_steps", 0, "--seed", seed),
            *("--val_file", "none", "--dataloader_num_workers", 0),
            *("--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 1),
        )
        assert done.returncode == 0, done.stderr
        ends.append(load_file(tmp_path / name / "checkpoint-1" / "adapter_model.safetensors"))
    one, again, other = ([tensor for name, tensor in end.items() if "lora_A" in name] for end in ends)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(one, other, strict=True))


def test_an_adapter_is_not_put_on_another_base(demo, adapter, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(demo / "models" / "tiny-planner", other)
    weights = load_file(other / "model.safetensors")
    next(iter(weights.values())).add_(0.1)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    done = run_script("utils/merge_adapter.py", "--checkpoint", adapter, "--base_model", other)
    assert_one_line_error(done, "was trained on another base than", "the weights differ", "--base_model")


def test_an_unknown_preset_is_an_error_that_lists_them():
    assert_one_line_error(run_script(TRAIN, "--preset", "huge"), "invalid choice: 'huge'", "aggressive", "standard")


def test_the_command_line_beats_the_preset():
    chosen = recipe("--preset", "full", "--lora_r", "24", "--max-steps", "7")
    assert (chosen.lora_r, chosen.lora_alpha, chosen.max_steps, chosen.learning_rate) == (24, 64, 7, 2e-4)
    assert chosen.output_dir.name == "lora_full"
