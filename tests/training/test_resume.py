"""A finished run is not trained again; what would mix two runs, or overwrite one, is refused."""

import re
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from configs.errors import UserError
from leap.cli import as_plain
from leap.files import read_json, write_json
from leap.models.checkpoints import MANIFEST, read_manifest, write_manifest
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resume import checkpoint_to_resume, precision_of_run
from tests.conftest import assert_one_line_error, run_script
from tests.training.trainings import TRAIN, training

pytestmark = pytest.mark.slow


def test_a_finished_run_is_not_trained_again(demo, undisturbed, workspace):
    before = (undisturbed / "run" / "checkpoint-12" / MANIFEST).stat().st_mtime_ns
    done = run_script(TRAIN, *training(undisturbed / "run", demo))
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert (undisturbed / "run" / "checkpoint-12" / MANIFEST).stat().st_mtime_ns == before


def test_resuming_with_another_recipe_or_other_data_is_refused(demo, undisturbed, tmp_path, workspace):
    arguments = [*training(undisturbed / "run", demo), "--lr", "0.5", "--train_file", demo / "data" / "val.jsonl"]
    assert_one_line_error(
        run_script(TRAIN, *arguments),
        "checkpoint-12 was made with another recipe",
        "learning_rate: 0.002 -> 0.5; the content of the training or validation file",
        "--allow_changes",
    )


def test_a_changed_recipe_takes_effect_where_it_is_allowed(demo, undisturbed, tmp_path, workspace):
    run = tmp_path / "run"
    shutil.copytree(undisturbed / "run" / "checkpoint-12", run / "checkpoint-12")
    changed = ["--max_steps", "16", "--lr", "1e-9", "--weight_decay", "0", "--save_steps", "2"]
    changed += ["--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "1"]
    done = run_script(TRAIN, *training(run, demo), *changed, "--allow_changes")
    assert done.returncode == 0, done.stderr
    assert f"resuming from {run / 'checkpoint-12'}" in done.stdout
    assert sorted(f.name for f in run.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-14", "checkpoint-16"]
    before, after = (load_file(run / f"checkpoint-{n}" / "model.safetensors") for n in (12, 16))
    assert 0 < max((before[name] - after[name]).abs().max() for name in before) < 1e-6


@pytest.mark.parametrize(
    ("knobs", "changed", "words"),
    [
        ({"lora_r": 16}, {"lora_r": 32}, "lora_r: 16 -> 32 changes the shape of the adapter"),
        ({}, {"use_dora": True}, "use_dora: False -> True changes the parameters of the adapter"),
        ({}, {"pissa": True}, "pissa: False -> True changes the weights that the adapter is added to"),
        ({}, {"lora_vision": True}, "lora_vision: False -> True changes where the adapter sits"),
        ({}, {"loraplus_lr_ratio": 16.0}, "loraplus_lr_ratio: None -> 16.0 changes the optimizer's groups"),
        ({}, {"optim": "adamw_8bit"}, "optim: adamw -> adamw_8bit changes the state of the optimizer"),
        ({}, {"lora_target_modules": ["q_proj"]}, "lora_target_modules: "),
        (None, {}, "the whole model was trained, and this would be an adapter"),
    ],
)
def test_knobs_that_decide_what_trains_cannot_change_in_a_run_even_where_changes_are_allowed(
    undisturbed, tmp_path, knobs, changed, words
):
    folder = tmp_path / "run" / "checkpoint-12"
    shutil.copytree(undisturbed / "run" / "checkpoint-12", folder)
    recipe = LoraRecipe(output_dir=folder.parent, allow_changes=True)
    manifest = read_manifest(folder)
    if knobs is not None:
        plain = as_plain(replace(recipe, **knobs))
        write_manifest(folder, replace(manifest, kind="adapter", recipe=plain))
    sources = {"base_weights_sha256": manifest.base_weights_sha256, "data_sha256": manifest.data_sha256}
    with pytest.raises(UserError, match=re.escape(words)) as error:
        checkpoint_to_resume(replace(recipe, **changed), sources, 1)
    assert "--output_dir" in str(error.value)


def test_rates_of_parts_cannot_change_in_a_run(undisturbed, tmp_path):
    folder = tmp_path / "run" / "checkpoint-12"
    shutil.copytree(undisturbed / "run" / "checkpoint-12", folder)
    manifest = read_manifest(folder)
    sources = {"base_weights_sha256": manifest.base_weights_sha256, "data_sha256": manifest.data_sha256}
    for name in ("vision_lr", "merger_lr"):
        recipe = TrainingRecipe(output_dir=folder.parent, allow_changes=True, **{name: 1e-5})
        with pytest.raises(UserError, match=f"{name}: None -> 1e-05 changes the optimizer's groups"):
            checkpoint_to_resume(recipe, sources, 1)


def test_unfreezing_a_part_is_refused_by_name(demo, undisturbed, tmp_path, workspace):
    shutil.copytree(undisturbed / "run" / "checkpoint-12", tmp_path / "run" / "checkpoint-12")
    assert_one_line_error(
        run_script(TRAIN, *training(tmp_path / "run", demo), "--freeze", "vision", "--allow_changes"),
        "freeze: [] -> ['vision'] changes which parameters train",
        "--output_dir",
    )


def test_a_folder_with_checkpoints_that_cannot_be_resumed_is_not_overwritten(demo, undisturbed, tmp_path, workspace):
    shutil.copytree(undisturbed / "run" / "checkpoint-6", tmp_path / "run" / "checkpoint-6")
    assert_one_line_error(
        run_script(TRAIN, *training(tmp_path / "run", demo)),
        "checkpoint-6 cannot be resumed from",
        "is missing",
        "--output_dir",
    )


def test_a_run_goes_on_in_the_precision_that_its_first_gpu_was_fitted_with(undisturbed, tmp_path):
    checkpoint = tmp_path / "run" / "checkpoint-12"
    shutil.copytree(undisturbed / "run" / "checkpoint-12", checkpoint)
    recipe = TrainingRecipe(output_dir=tmp_path / "run")
    assert precision_of_run(recipe) == recipe, "it was begun as the recipe stands"
    manifest = read_json(checkpoint / MANIFEST)
    fitted = {"fit_to_gpu": True, "pure_bf16": True, "optim": "adamw_8bit"}
    write_json(checkpoint / MANIFEST, manifest | {"recipe": manifest["recipe"] | fitted})
    assert precision_of_run(recipe) == replace(recipe, pure_bf16=True, optim="adamw_8bit")
    for kept in (replace(recipe, fit_to_gpu=False), replace(recipe, bf16=False)):
        assert precision_of_run(kept) == kept


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_damaged_state_of_a_run_is_one_line_that_names_the_checkpoint(demo, undisturbed, tmp_path, workspace, name):
    checkpoint = tmp_path / "run" / "checkpoint-12"
    shutil.copytree(undisturbed / "run" / "checkpoint-12", checkpoint)
    content = bytearray((checkpoint / name).read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    (checkpoint / name).write_bytes(content)
    done = run_script(TRAIN, *training(tmp_path / "run", demo), "--max_steps", "16", "--allow_changes")
    assert done.returncode == 2, done.stderr
    assert f"error: cannot train on from {checkpoint}" in done.stderr
    assert "Traceback" not in done.stderr
