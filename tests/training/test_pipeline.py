"""The pipeline as a user runs it: train, killed in the middle and resumed, evaluate, killed and resumed, draw.

Undisturbed and disturbed runs must end with the same weights, answers and scores, to the last bit.
"""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from leap.files import read_json, read_jsonl
from leap.models.checkpoints import MANIFEST, begin_saving, read_manifest, why_incomplete
from tests.conftest import kill_when, run_script, start_script
from tests.training.trainings import EVALUATE, STEPS, TRAIN, evaluation, training

pytestmark = pytest.mark.slow


def journaled(results: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in results.glob("*/*/generations.jsonl"))


def test_kill_and_resume_end_with_the_results_of_an_undisturbed_run(demo, undisturbed, tmp_path, workspace):
    run, results = tmp_path / "run", tmp_path / "results"

    kill_when(start_script(TRAIN, *training(run, demo)), (run / "checkpoint-6" / MANIFEST).is_file)
    assert not (run / f"checkpoint-{STEPS}").exists(), "killed too late to show anything"
    # What a kill in the middle of saving leaves: a folder that looks like a checkpoint and is marked.
    torn = run / "checkpoint-9"
    begin_saving(torn)
    (torn / "trainer_state.json").write_text("{")

    done = run_script(TRAIN, *training(run, demo))
    assert done.returncode == 0, done.stderr
    assert f"resuming from {run / 'checkpoint-6'}" in done.stdout
    assert "saving it was interrupted" in done.stdout
    last = run / f"checkpoint-{STEPS}"
    expected = load_file(undisturbed / "run" / last.name / "model.safetensors")
    found = load_file(last / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, weights in expected.items():
        assert weights.equal(found[name]), name

    process = start_script(EVALUATE, *evaluation(last, results, demo))
    kill_when(process, lambda: journaled(results) >= 3)
    assert journaled(results) < journaled(undisturbed / "results"), "killed too late to show anything"
    done = run_script(EVALUATE, *evaluation(last, results, demo))
    assert done.returncode == 0, done.stderr
    for dimension in ("M&T", "Complex"):
        [folder] = (results / dimension).iterdir()
        [reference] = (undisturbed / "results" / dimension).iterdir()
        assert folder.name == reference.name == f"run-checkpoint-{STEPS}"
        answers = [[(r["key"], r["text"]) for r in read_jsonl(f / "generations.jsonl")] for f in (folder, reference)]
        assert answers[0] == answers[1]
        for name in ("output.json", "final_score.json", "grounded_score.json"):
            assert (folder / name).read_bytes() == (reference / name).read_bytes()
        for part in ("scores", "outcomes", "examples", "tasks", "settings"):
            assert read_json(folder / "summary.json")[part] == read_json(reference / "summary.json")[part]


def test_a_checkpoint_carries_its_processor_and_manifest(undisturbed):
    run = undisturbed / "run"
    assert sorted(f.name for f in run.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-6", "checkpoint-9"]
    # Older ones keep what evaluation needs, and not the optimiser's state.
    assert [f.parent.name for f in run.glob("*/optimizer.pt")] == ["checkpoint-12"]
    assert why_incomplete(run / "checkpoint-6") is None
    assert why_incomplete(run / "checkpoint-6", to_resume=True) is not None
    last = run / f"checkpoint-{STEPS}"
    assert why_incomplete(last) is None
    manifest = read_manifest(last)
    assert (manifest.steps, manifest.kind) == (STEPS, "full")
    assert manifest.tokens_seen > STEPS * 16 * 10
    assert manifest.validation["step"] == STEPS
    assert manifest.validation["loss"] < 7
    assert manifest.recipe["max_steps"] == STEPS
    for name in ("tokenizer.json", "processor_config.json", "chat_template.jinja", "model.safetensors", "optimizer.pt"):
        assert name in manifest.files


def test_every_checkpoint_of_a_run_can_be_evaluated_at_once(demo, undisturbed, workspace):
    (workspace / "output").symlink_to(undisturbed / "run")
    done = run_script(
        EVALUATE,
        "--all-checkpoints",
        "--base_model",
        demo / "models" / "tiny-planner",
        "--dimension",
        "spatial",
        "--num_episodes",
        1,
        "--max_new_tokens",
        8,
        "--few-shot-num",
        1,
    )
    assert done.returncode == 0, done.stderr
    names = {folder.name for folder in (workspace / "eva_results" / "Spatial").iterdir()}
    assert names == {"baseline_1shot", "checkpoint-6_1shot", "checkpoint-9_1shot", "checkpoint-12_1shot"}


def test_figures_and_table_come_out_of_the_results(demo, undisturbed, tmp_path, workspace):
    results = tmp_path / "results"
    shutil.copytree(undisturbed / "results", results)
    done = run_script(
        EVALUATE,
        "--planner",
        "constant",
        "--output_dir",
        results,
        "--data_path",
        demo / "dataset" / "vlm_evaluation_v1.0",
    )
    assert done.returncode == 0, done.stderr
    done = run_script("evaluation/draw_evaluation_results.py", "--results", results)
    assert done.returncode == 0, done.stderr
    written = {Path(line).name for line in done.stdout.splitlines()}
    assert {"total_by_dimension_official.png", "total_by_dimension_grounded.svg", "metrics_grounded.png"} < written
    table = (results / "figures" / "results_table.md").read_text()
    assert "constant" in table
    assert "run-checkpoint-12" in table
    for line in done.stdout.splitlines():
        assert Path(line).stat().st_size > 100
