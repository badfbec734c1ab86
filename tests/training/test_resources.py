"""Memory and disk are known before a run starts; one that does not fit the disk does not start, or stops in time."""

import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
from transformers import AutoConfig

from configs.errors import UserError
from leap.models.checkpoints import last_complete_checkpoint, why_incomplete
from leap.training.accounting import QWEN3_VL
from leap.training.lengths import RowLength
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resources import DiskNeed, describe_memory, fitted_to_gpu, geometry_of, largest_step
from tests.conftest import assert_one_line_error
from tests.training.trainings import train_six_steps

Usage = namedtuple("Usage", "total used free")


def folder_bytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow
def test_the_disk_that_a_run_needs_is_what_it_takes_at_its_fullest(demo, tmp_path, workspace, monkeypatch):
    fullest = 0
    remove = shutil.rmtree

    def watch(folder, *arguments, **options):
        nonlocal fullest
        fullest = max(fullest, folder_bytes(tmp_path / "run"))
        remove(folder, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", watch)
    assert train_six_steps(tmp_path / "run").returncode == 0
    recipe = TrainingRecipe(output_dir=tmp_path / "run", save_steps=2, save_total_limit=2, bf16=False)
    need = DiskNeed(geometry_of(demo / "models" / "tiny-planner"), recipe).run_bytes(steps=6)
    assert fullest == pytest.approx(need, rel=0.03)


def test_checkpoints_that_are_kept_for_their_step_count_by_their_weights(tmp_path, qwen):
    recipe = TrainingRecipe(output_dir=tmp_path, save_steps=200)
    need, more = (DiskNeed(qwen[0], replace(recipe, keep_weights_every=every)) for every in (None, 2000))
    weights = need.checkpoint.weights
    assert more.run_bytes(8402) - need.run_bytes(8402) == pytest.approx(4 * weights, rel=0.03)


def test_a_run_that_does_not_fit_the_disk_does_not_start(demo, tmp_path, workspace, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**8, 10**8 - 10**7, 10**7))
    done = train_six_steps(tmp_path / "run")
    assert_one_line_error(
        done, "the checkpoints of this run take up to 4", "MB and", "has 10.0 MB free", "save_total_limit"
    )
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_before_a_save_and_the_same_command_goes_on(
    demo, tmp_path, workspace, monkeypatch
):
    run = tmp_path / "run"
    real = shutil.disk_usage

    def filling(path):
        full = last_complete_checkpoint(run) is not None
        return Usage(10**9, 10**9 - 10**6, 10**6) if full else real(path)

    monkeypatch.setattr(shutil, "disk_usage", filling)
    done = train_six_steps(run)
    assert_one_line_error(done, "no room for", "checkpoint-4", "checkpoint is intact", "run the same command again")
    assert why_incomplete(run / "checkpoint-2", to_resume=True) is None
    monkeypatch.setattr(shutil, "disk_usage", real)
    done = train_six_steps(run)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {run / 'checkpoint-2'}" in done.stdout


def test_the_largest_step_is_the_one_that_pads_to_the_most_tokens(demo):
    lengths = [RowLength(4, 10, 6), RowLength(4, 100, 6), RowLength(4, 10, 20)]
    geometry = geometry_of(demo / "models" / "tiny-planner")

    def words(recipe, batches):
        return describe_memory(geometry, recipe, largest_step(geometry, recipe, batches, lengths), None)

    assert "(1 rows of up to 110 tokens)" in words(TrainingRecipe(), [[0, 2], [1]])
    packed = TrainingRecipe(packing=True, packing_tokens=150, model_max_length=150)
    assert "(144 tokens in a pack)" in words(packed, [[0, 2], [1, 2]])


def test_the_line_on_memory_is_that_of_what_a_run_would_pick(qwen):
    geometry, largest = qwen
    kept, recomputed = (
        describe_memory(geometry, TrainingRecipe(gradient_checkpointing=way), largest, None) for way in (False, True)
    )
    assert describe_memory(geometry, TrainingRecipe(), largest, None) == recomputed != kept
    assert describe_memory(geometry, TrainingRecipe(), largest, 10**12).startswith(kept)


@pytest.fixture
def qwen(tmp_path):
    """Qwen3-VL-2B's shape, and a step of six rows as docs/training.md has them in its table."""
    AutoConfig.for_model(**QWEN3_VL["2b"]).save_pretrained(tmp_path)
    geometry = geometry_of(tmp_path)
    rows = [RowLength(768, 200, 50)] * 6
    return geometry, largest_step(geometry, TrainingRecipe(), [list(range(6))], rows)


@pytest.mark.parametrize(
    ("gigabytes", "flags"),
    [(80, None), (48, None), (32, "--pure_bf16:"), (20, "--pure_bf16 --optim adamw_8bit:"), (12, None)],
)
def test_a_gpu_too_small_for_the_recipe_gets_the_first_precision_that_fits(qwen, monkeypatch, gigabytes, flags):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "torchao")
    recipe, picked = fitted_to_gpu(TrainingRecipe(), *qwen, gigabytes * 10**9, precision=True)
    assert recipe.gradient_checkpointing
    assert recipe.pure_bf16 == (flags is not None)
    assert (recipe.optim == "adamw_8bit") == ("8bit" in (flags or ""))
    if flags is None:
        assert picked is None
    else:
        assert picked.startswith(f"training with {flags}")
        assert f"the GPU has {gigabytes}.0 GB" in picked


def test_what_the_precision_needs_is_asked_for_before_the_model_loads(qwen, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="the GPU has 32.0 GB; --pure_bf16 takes about .* pip install torchao"):
        fitted_to_gpu(TrainingRecipe(), *qwen, 32 * 10**9, precision=True)


@pytest.mark.parametrize("recipe", [LoraRecipe(), TrainingRecipe(bf16=False)], ids=["lora", "float32"])
def test_lora_and_float32_keep_their_precision(qwen, recipe):
    recomputing = replace(recipe, gradient_checkpointing=True)
    assert fitted_to_gpu(recipe, *qwen, 10**9, precision=True) == (recomputing, None)
    assert fitted_to_gpu(recomputing, *qwen, 10**9, precision=True) == (recomputing, None)


def test_so_does_a_run_that_goes_on_from_a_checkpoint(qwen):
    assert not fitted_to_gpu(TrainingRecipe(), *qwen, 32 * 10**9, precision=False)[0].pure_bf16


@pytest.mark.parametrize("told", [None, True, False])
def test_activations_are_kept_where_the_gpu_has_room_unless_the_recipe_says_otherwise(qwen, told):
    recipe, picked = fitted_to_gpu(TrainingRecipe(gradient_checkpointing=told), *qwen, 139 * 2**30, precision=True)
    assert recipe.gradient_checkpointing == bool(told)
    assert (picked is not None and "the GPU has room" in picked) == (told is None)


def test_an_unknown_architecture_has_no_estimate(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "smolvlm"}')
    assert geometry_of(tmp_path) is None
