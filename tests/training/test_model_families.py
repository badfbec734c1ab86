"""Families of models besides Qwen-VL, each as a tiny model: trained, killed and resumed to the same bits, evaluated."""

import re

import pytest
from safetensors.torch import load_file

from leap.files import read_json
from leap.models.checkpoints import MANIFEST, read_manifest
from leap.models.families import FAMILIES, PARTS
from tests.conftest import assert_one_line_error, kill_when, run_script, start_script
from tests.training.trainings import EVALUATE, TRAIN
from tests.vlm_zoo import build, why_unavailable

LORA = "ablation/run-lora-finetuning.py"
STEPS = 4


@pytest.fixture(scope="module", params=["smolvlm", "internvl", "gemma3", "llava_onevision"])
def family(request):
    if problem := why_unavailable(request.param):
        pytest.skip(problem)
    return request.param


@pytest.fixture(scope="module")
def base(family, tmp_path_factory):
    return build(family, tmp_path_factory.mktemp(family) / family)


def arguments(base, demo, run, *more):
    return [
        *("--model_name_or_path", base, "--output_dir", run, "--train_file", demo / "data" / "train_50.jsonl"),
        *("--val_file", demo / "data" / "val.jsonl", "--max_eval_samples", 4, "--val_plans", 2),
        *("--val_max_new_tokens", 4, "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2),
        *("--max_steps", STEPS, "--warmup_steps", 0, "--lr", "1e-3", "--save_steps", 1, "--dataloader_num_workers", 0),
        *("--report_to", "none", *more),
    ]


def moved(family, before, after):
    """The parts of which some weight changed."""
    return {FAMILIES[family].part_of(name) for name in before if not before[name].equal(after[name])}


@pytest.mark.slow
def test_a_family_is_trained_killed_resumed_and_evaluated(family, base, demo, tmp_path, workspace):
    done = run_script(TRAIN, *arguments(base, demo, tmp_path / "whole"))
    assert done.returncode == 0, done.stderr
    assert f"no MFU: there are no formulas for {family}" in done.stdout
    assert "image_tokens_min and _max do not count" in done.stdout
    last = tmp_path / "whole" / f"checkpoint-{STEPS}"
    expected = load_file(last / "model.safetensors")
    assert moved(family, load_file(base / "model.safetensors"), expected) == set(PARTS)

    run = tmp_path / "run"
    kill_when(start_script(TRAIN, *arguments(base, demo, run)), (run / "checkpoint-2" / MANIFEST).is_file)
    assert not (run / last.name / MANIFEST).is_file(), "killed too late to show anything"
    done = run_script(TRAIN, *arguments(base, demo, run))
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stdout
    for name, weights in load_file(run / last.name / "model.safetensors").items():
        assert weights.equal(expected[name]), name
    assert read_manifest(run / last.name).validation == read_manifest(last).validation

    results = tmp_path / "results"
    done = run_script(
        EVALUATE,
        *("--checkpoint", last, "--output_dir", results, "--base_model", base, "--dimension", "M&T"),
        *("--num_episodes", 1, "--max_new_tokens", 4, "--device", "cpu", "--batch_size", 2),
    )
    assert done.returncode == 0, done.stderr
    [summary] = results.glob("M&T/*/summary.json")
    assert read_json(summary)["scores"]
    assert "was trained with" not in done.stdout + done.stderr  # other pictures, or another template


@pytest.mark.slow
@pytest.mark.parametrize("family", ["smolvlm", "internvl"], indirect=True)
def test_an_adapter_on_both_towers_is_trained_stopped_resumed_and_evaluated(family, base, demo, tmp_path, workspace):
    run = tmp_path / "run"
    more = ("--lora_vision", "--lora_target_modules", "q_proj", "gate_proj", "--keep_optimizer_of_last", STEPS)
    done = run_script(LORA, *arguments(base, demo, run, *more))
    assert done.returncode == 0, done.stderr
    [line] = re.findall(r"LoRA on .*", done.stdout)
    # Two layers of either tower; q_proj is in both, fc1 in the vision tower and gate_proj in the language model only.
    assert "4 x q_proj" in line
    assert "2 x gate_proj" in line
    assert "2 x fc1" in line
    last = run / f"checkpoint-{STEPS}"
    expected = load_file(last / "adapter_model.safetensors")
    assert all(weights.abs().max() > 0 for weights in expected.values())
    (last / MANIFEST).unlink()  # as a kill in the middle of saving leaves it
    (last / "adapter_model.safetensors").unlink()
    done = run_script(LORA, *arguments(base, demo, run, *more))
    assert f"resuming from {run / f'checkpoint-{STEPS - 1}'}" in done.stdout, done.stderr
    for name, weights in load_file(last / "adapter_model.safetensors").items():
        assert weights.equal(expected[name]), name
    done = run_script(
        EVALUATE,
        *("--checkpoint", last, "--output_dir", tmp_path / "results", "--base_model", base, "--dimension", "M&T"),
        *("--num_episodes", 1, "--max_new_tokens", 4, "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("family", ["gemma3"], indirect=True)
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--packing",), ("packing works with qwen2_vl", "is gemma3", "Leave --packing out")),
        (("--overlong", "shrink"), ("overlong shrink", "Gemma3ImageProcessor", "Leave it out")),
    ],
)
def test_what_a_family_cannot_do_is_said_in_one_line(family, base, demo, tmp_path, workspace, flags, words):
    done = run_script(TRAIN, *arguments(base, demo, tmp_path / "run", *flags, "--model_max_length", 2048))
    assert_one_line_error(done, *words)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava_onevision"], indirect=True)
def test_a_frozen_vision_tower_stays_and_the_merger_learns(family, base, demo, tmp_path, workspace):
    done = run_script(TRAIN, *arguments(base, demo, tmp_path / "run", "--freeze", "vision", "--merger_lr", "1e-2"))
    assert done.returncode == 0, done.stderr
    after = load_file(tmp_path / "run" / f"checkpoint-{STEPS}" / "model.safetensors")
    assert moved(family, load_file(base / "model.safetensors"), after) == {"merger", "llm"}
