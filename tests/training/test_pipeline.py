"""The pipeline as a user runs it: train, killed in the middle and resumed, evaluate, killed and resumed, draw.

Undisturbed and disturbed runs must end with the same weights, answers and scores, to the last bit.
"""

import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from leap.files import read_json, read_jsonl
from leap.models.checkpoints import MANIFEST, begin_saving, read_manifest, why_incomplete
from tests.conftest import (
    REPOSITORY,
    assert_one_line_error,
    kill_when,
    linked_workspace,
    read_status,
    run_script,
    start_script,
)

TRAIN = "training/run-finetuning.py"
EVALUATE = "evaluation/run_vlm_evaluation.py"
STEPS = 12
pytestmark = pytest.mark.slow


def training(run: Path) -> list:
    """Twelve steps of 32 out of 200 rows: the run crosses into a second epoch."""
    return [
        "--config",
        REPOSITORY / "configs/training/quickstart.yaml",
        "--output_dir",
        run,
        "--max_steps",
        STEPS,
        "--per_device_train_batch_size",
        16,
        "--gradient_accumulation_steps",
        2,
        "--save_steps",
        3,
        "--warmup_steps",
        2,
        "--save_total_limit",
        3,
        "--dataloader_num_workers",
        0,
        "--logging_steps",
        3,
        "--val_plans",
        4,
        "--val_max_new_tokens",
        16,
    ]


def evaluation(checkpoint: Path, results: Path, demo: Path) -> list:
    return [
        "--checkpoint",
        checkpoint,
        "--output_dir",
        results,
        "--base_model",
        demo / "models" / "tiny-planner",
        "--max_new_tokens",
        40,
        "--batch_size",
        2,
        "--device",
        "cpu",
        "--dimension",
        "M&T",
        "Complex",
    ]


@pytest.fixture(scope="module")
def undisturbed(demo, tmp_path_factory):
    """A run and its results that nothing interrupted."""
    root = linked_workspace(demo, tmp_path_factory.mktemp("undisturbed") / "work space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAP_WORKSPACE", str(root))
        done = run_script(TRAIN, *training(root / "run"))
        assert done.returncode == 0, done.stderr
        last = root / "run" / f"checkpoint-{STEPS}"
        done = run_script(EVALUATE, *evaluation(last, root / "results", demo))
        assert done.returncode == 0, done.stderr
    return root


def journaled(results: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in results.glob("*/*/generations.jsonl"))


def test_kill_and_resume_end_with_the_results_of_an_undisturbed_run(demo, undisturbed, tmp_path, workspace):
    run, results = tmp_path / "run", tmp_path / "results"

    kill_when(start_script(TRAIN, *training(run)), (run / "checkpoint-6" / MANIFEST).is_file)
    assert not (run / f"checkpoint-{STEPS}").exists(), "killed too late to show anything"
    # What a kill in the middle of saving leaves: a folder that looks like a checkpoint and is marked.
    torn = run / "checkpoint-9"
    begin_saving(torn)
    (torn / "trainer_state.json").write_text("{")

    done = run_script(TRAIN, *training(run))
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


def test_a_run_leaves_its_log_and_its_loss_curve(undisturbed):
    run = undisturbed / "run"
    records = read_jsonl(undisturbed / "logs" / "run" / "train.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [3, 6, 9, 12]
    assert [r["step"] for r in records if "eval_loss" in r] == [3, 6, 9, 12]
    assert all(r["tokens_per_second"] > 0 for r in records if "loss" in r)
    assert (run / "loss.png").stat().st_size > 5000


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
    assert manifest.tokens_seen > STEPS * 32 * 10
    assert manifest.validation["step"] == STEPS
    assert manifest.validation["loss"] < 7
    assert manifest.recipe["max_steps"] == STEPS
    for name in ("tokenizer.json", "processor_config.json", "chat_template.jinja", "model.safetensors", "optimizer.pt"):
        assert name in manifest.files


def test_preemption_saves_before_it_stops_and_the_run_goes_on_to_the_same_end(demo, undisturbed, tmp_path, workspace):
    run = tmp_path / "run"
    rare = [*training(run), "--save_steps", 100, "--logging_steps", 1]
    process = start_script(TRAIN, *rare)
    for line in process.stdout:
        if line.startswith("step 2/"):
            status = read_status(workspace / "logs" / "run" / "status.json")
            assert (status.state, status.pid) == ("running", process.pid)
            process.send_signal(signal.SIGTERM)
            break
    out, err = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, err
    status = read_status(workspace / "logs" / "run" / "status.json")
    assert (status.state, status.reason) == ("interrupted", "exit status 143")
    assert 1 <= status.done < STEPS
    [saved] = run.glob("checkpoint-*")
    assert f"stopped by SIGTERM after saving {saved}" in out
    assert run_script(TRAIN, *rare).returncode == 0
    expected = load_file(undisturbed / "run" / f"checkpoint-{STEPS}" / "model.safetensors")
    found = load_file(run / f"checkpoint-{STEPS}" / "model.safetensors")
    assert all(weights.equal(found[name]) for name, weights in expected.items())


def test_a_finished_run_is_not_trained_again(demo, undisturbed, workspace):
    before = (undisturbed / "run" / "checkpoint-12" / MANIFEST).stat().st_mtime_ns
    done = run_script(TRAIN, *training(undisturbed / "run"))
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert (undisturbed / "run" / "checkpoint-12" / MANIFEST).stat().st_mtime_ns == before


def test_resuming_with_another_recipe_or_other_data_is_refused(demo, undisturbed, tmp_path, workspace):
    arguments = [*training(undisturbed / "run"), "--lr", "0.5", "--train_file", demo / "data" / "val.jsonl"]
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
    changed += ["--per_device_train_batch_size", "32", "--gradient_accumulation_steps", "1"]
    done = run_script(TRAIN, *training(run), *changed, "--allow_changes")
    assert done.returncode == 0, done.stderr
    assert f"resuming from {run / 'checkpoint-12'}" in done.stdout
    assert sorted(f.name for f in run.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-14", "checkpoint-16"]
    before, after = (load_file(run / f"checkpoint-{n}" / "model.safetensors") for n in (12, 16))
    assert 0 < max((before[name] - after[name]).abs().max() for name in before) < 1e-6


def test_a_folder_with_checkpoints_that_cannot_be_resumed_is_not_overwritten(demo, undisturbed, tmp_path, workspace):
    shutil.copytree(undisturbed / "run" / "checkpoint-6", tmp_path / "run" / "checkpoint-6")
    assert_one_line_error(
        run_script(TRAIN, *training(tmp_path / "run")),
        "checkpoint-6 cannot be resumed from",
        "is missing",
        "--output_dir",
    )


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


def test_figures_and_table_come_out_of_the_results(demo, undisturbed, workspace):
    results = undisturbed / "results"
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
