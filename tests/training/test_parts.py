"""Parts of the model: which parameter belongs where, freezing, a learning rate a part."""

import pytest
from safetensors.torch import load_file

from configs.errors import UserError
from leap.models.loading import load_weights
from leap.training.parts import PARTS, freeze, part_of
from tests.conftest import REPOSITORY, run_script


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),
        ("model.visual.patch_embed.proj.weight", "vision"),
        ("model.visual.merger.linear_fc1.weight", "merger"),
        ("model.visual.deepstack_merger_list.0.norm.bias", "merger"),
        ("model.language_model.layers.3.mlp.up_proj.weight", "llm"),
        ("model.language_model.embed_tokens.weight", "llm"),
        ("lm_head.weight", "llm"),
    ],
)
def test_a_parameter_belongs_to_one_part(name, part):
    assert part_of(name) == part


def train(demo, run, *arguments):
    return run_script(
        "training/run-finetuning.py",
        *("--config", REPOSITORY / "configs/training/quickstart.yaml", "--output_dir", run, "--max_steps", 2),
        *("--model_name_or_path", demo / "models/tiny-planner", "--train_file", demo / "data/train.jsonl"),
        *("--val_file", "none", "--warmup_steps", 0, "--dataloader_num_workers", 0),
        *("--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 1, *arguments),
    )


def moved(demo, run):
    """The largest change of any weight, by part."""
    before = load_file(demo / "models/tiny-planner/model.safetensors")
    after = load_file(run / "checkpoint-2" / "model.safetensors")
    return {
        part: max(float((after[n] - before[n]).abs().max()) for n in before if part_of(n) == part) for part in PARTS
    }


@pytest.mark.parametrize("frozen", [["vision"], ["vision", "merger"], ["llm"]])
def test_frozen_parts_do_not_move_and_the_others_do(demo, tmp_path, frozen):
    done = train(demo, tmp_path / "run", "--freeze", *frozen)
    assert done.returncode == 0, done.stderr
    assert {part for part, change in moved(demo, tmp_path / "run").items() if change == 0} == set(frozen)
    assert done.stdout.count("(frozen)") == len(frozen)


def test_each_part_learns_at_its_own_rate(demo, tmp_path):
    done = train(demo, tmp_path / "run", "--vision_lr", "1e-6", "--merger_lr", "1e-5", "--lr", "1e-3")
    assert done.returncode == 0, done.stderr
    change = moved(demo, tmp_path / "run")
    assert 0 < change["vision"] < 1e-5 < change["merger"] < 1e-4 < change["llm"]


def test_freezing_everything_is_an_error(demo):
    model = load_weights(demo / "models/tiny-planner", "float32")
    with pytest.raises(UserError, match="nothing is left to train"):
        freeze(model, list(PARTS))
