"""One run, from its checks to what it leaves: rows left out, the best checkpoint, what it took."""

import gzip
import json
import shlex
import shutil

import pytest
from datasets import Dataset, DatasetDict, List
from datasets import Image as ImageColumn
from PIL import Image

from leap.files import read_json, read_jsonl, sha256_file
from leap.models.checkpoints import best_checkpoint, read_manifest
from leap.training import run
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.run import warm_up_warning
from tests.conftest import assert_one_line_error, read_status
from tests.training.planning_lines import GOOD
from tests.training.trainings import train, train_six_steps


def test_a_warm_up_of_more_than_a_third_of_the_run_is_said():
    assert "800 of the 2000 steps are warm-up" in warm_up_warning(TrainingRecipe(), 2000)
    assert warm_up_warning(TrainingRecipe(), 2400) is None


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_and_named_and_a_run_says_what_it_took(demo, tmp_path, workspace):
    run = tmp_path / "run"
    first = train_six_steps(run, "--max_steps", "2")
    # Going on at a rate at which the model falls apart, so that the first checkpoint stays the best.
    done = train_six_steps(run, "--lr", "0.5", "--save_total_limit", "1", "--allow_changes")
    assert (first.returncode, done.returncode) == (0, 0), done.stderr
    best = best_checkpoint(run, "loss")
    losses = {f.name: read_manifest(f).validation["loss"] for f in run.glob("checkpoint-*")}
    assert losses[best.name] == min(losses.values()) < losses["checkpoint-6"], "the best is not the last"
    assert {best.name, "checkpoint-6"} == set(losses)
    summary = read_json(run / "run.json")
    assert summary["best_checkpoint"] == best.name
    assert summary["trainable_parameters"] == summary["parameters"] == 1403936
    assert summary["steps"] == 6
    assert summary["tokens_seen"] == read_manifest(run / "checkpoint-6").tokens_seen > 1000
    assert summary["seconds"] > 0
    assert summary["peak_memory_bytes"] > 10**8
    assert sum(summary["validation"].get(f"{kind}_rows", 0) for kind in ("plan", "grounded", "other")) == 4
    assert "# run-checkpoint-6" in (run / "checkpoint-6" / "README.md").read_text()
    assert list((workspace / "logs" / "run").glob("events.out.tfevents*")), "TensorBoard's curves"


@pytest.mark.slow
def test_weights_of_every_so_many_steps_stay_and_their_optimiser_state_goes(demo, tmp_path, workspace):
    done = train_six_steps(tmp_path / "run", "--save_total_limit", 1, "--keep_weights_every", 4)
    assert done.returncode == 0, done.stderr
    folders = {folder.name: folder for folder in (tmp_path / "run").glob("checkpoint-*")}
    assert set(folders) == {"checkpoint-4", "checkpoint-6"}
    assert (folders["checkpoint-4"] / "model.safetensors").is_file()
    assert not (folders["checkpoint-4"] / "optimizer.pt").exists()
    assert f"--checkpoint {shlex.quote(str(tmp_path / 'run'))} --dimension all" in done.stdout


def test_training_stops_at_defects_or_goes_on_without_those_rows(workspace, mixed):
    arguments = ["--train_file", mixed, "--max_steps", 2, "--warmup_steps", 0, "--dataloader_num_workers", 0]
    arguments += ["--model_max_length", 256, "--val_plans", 0]
    done = train(*arguments)
    assert done.returncode == 2
    assert "and 5 more rows" in done.stderr
    assert not (workspace / "output").exists()
    done = train(*arguments, "--skip_bad_rows")
    assert done.returncode == 0, done.stderr
    assert "skipping 6 rows" in done.stdout
    assert len(read_jsonl(workspace / "output" / "rejected_rows.jsonl")) == 6


@pytest.mark.slow
def test_a_mixture_goes_on_after_a_stop_as_if_there_had_been_none_and_other_weights_are_refused(demo, workspace):
    lines = (demo / "data" / "train.jsonl").read_bytes().splitlines(keepends=True)
    (workspace / "data" / "few.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:12])))
    (workspace / "data" / "more.jsonl").write_bytes(b"".join(lines[20:50]))

    def run(name, *arguments, weight="0.5"):
        files = [workspace / "data" / "few.jsonl.gz", f"{workspace / 'data' / 'more.jsonl'}:{weight}"]
        return train_six_steps(workspace / "output" / name, "--train_file", *files, *arguments)

    whole = run("whole", "--save_total_limit", 3, "--keep_optimizer_of_last", 3)
    assert whole.returncode == 0, whole.stderr
    assert "4 steps an epoch of 6.75 rows" in whole.stdout, "12 rows and half of 30"
    stopped = workspace / "output" / "stopped"
    shutil.copytree(workspace / "output" / "whole" / "checkpoint-2", stopped / "checkpoint-2")
    assert_one_line_error(run("stopped", weight="0.6"), "the weights of several")
    second = run("stopped")
    assert f"resuming from {stopped / 'checkpoint-2'}" in second.stdout, second.stderr
    digests = {
        name: sha256_file(workspace / "output" / name / "checkpoint-6" / "model.safetensors")
        for name in ("whole", "stopped")
    }
    assert digests["whole"] == digests["stopped"]
    assert read_manifest(workspace / "output/whole/checkpoint-6").recipe["train_file"] == [
        f"{workspace / 'data' / 'few.jsonl.gz'}:1", f"{workspace / 'data' / 'more.jsonl'}:0.5"
    ]  # fmt: skip
    assert "`few.jsonl.gz:1`, `more.jsonl:0.5`" in (workspace / "output/whole/checkpoint-6/README.md").read_text()


@pytest.mark.slow
def test_a_split_of_a_data_set_is_mixed_with_a_file_and_its_run_goes_on_from_a_checkpoint(demo, workspace):
    rows = read_jsonl(demo / "data" / "train_50.jsonl")[:20]
    columns = [{"messages": row["messages"], "target": row["target"]} for row in map(with_marks, rows)]
    pictures = [{"images": [str(demo / "data" / name) for name in names_in(row)]} for row in rows]
    data_set = Dataset.from_list([column | picture for column, picture in zip(columns, pictures, strict=True)])
    DatasetDict({"train": data_set.cast_column("images", List(ImageColumn()))}).save_to_disk(workspace / "set")
    shutil.copy(demo / "data" / "val.jsonl", workspace / "few.jsonl")
    arguments = ["--train_file", f"{workspace / 'set'}#train:0.5", workspace / "few.jsonl"]
    arguments += ["--image_root", demo / "data", "--keep_optimizer_of_last", 3, "--save_total_limit", 3]
    whole, stopped = workspace / "output/whole", workspace / "output/stopped"
    done = train_six_steps(whole, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{workspace / 'set'}#train: 20 rows" in done.stdout
    shutil.copytree(whole / "checkpoint-2", stopped / "checkpoint-2")
    done = train_six_steps(stopped, *arguments)
    assert "resuming from" in done.stdout, done.stderr
    weights = [sha256_file(folder / "checkpoint-6" / "model.safetensors") for folder in (whole, stopped)]
    assert weights[0] == weights[1]


def with_marks(row):
    """The row with <image> in its words where it shows a picture."""
    turns = [
        turn | {"content": "".join("<image>" if item["type"] == "image" else item["text"] for item in turn["content"])}
        for turn in row["messages"]
    ]
    return row | {"messages": turns}


def names_in(row):
    """The pictures that a row shows."""
    return [item["image"] for turn in row["messages"] for item in turn["content"] if item["type"] == "image"]


def test_a_file_without_a_valid_row_cannot_be_trained_on(workspace):
    path = workspace / "rows.jsonl"
    path.write_text("{\n")
    done = train("--train_file", path, "--skip_bad_rows")
    assert_one_line_error(done, "rows.jsonl:1: not valid JSON", "No row is left to train on")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_in_the_middle_stops_training_by_name(workspace, workers):
    """Its header and end are whole, so that only decoding it shows the damage."""
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    noise.save(workspace / "noise.png")
    content = bytearray((workspace / "noise.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (workspace / "noise.png").write_bytes(content)
    path = workspace / "rows.jsonl"
    turn = {"role": "user", "content": [{"type": "image", "image": "noise.png"}, {"type": "text", "text": "Plan."}]}
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"messages": [turn]}) + "\n")
    done = train("--train_file", path, "--dataloader_num_workers", workers, "--max_steps", 2)
    assert_one_line_error(done, "rows.jsonl:2: unreadable image:", "noise.png")
    assert not list((workspace / "output").glob("checkpoint-*"))
    [status] = map(read_status, (workspace / "logs").rglob("status.json"))
    assert status.state == "failed"
    assert "rows.jsonl:2: unreadable image:" in status.reason


def test_layers_are_compiled_where_it_pays_and_was_measured(monkeypatch):
    decide, long = run._decided, TrainingRecipe(gradient_accumulation_steps=6)
    monkeypatch.setattr(run, "compiler_problem", lambda: None)
    assert decide(long, 100, 1).torch_compile
    assert not decide(long, 50, 1).torch_compile, "compiling would take longer than it saves"
    assert not decide(long, 100, 2).torch_compile
    assert not decide(long, 100, 1, fast_parts=False).torch_compile
    assert not decide(LoraRecipe(load_in_4bit=True), 1000, 1).torch_compile
    assert decide(TrainingRecipe(torch_compile=True), 1, 8).torch_compile, "the recipe says so"
    monkeypatch.setattr(run, "compiler_problem", lambda: "there is no C compiler")
    assert not decide(long, 100, 1).torch_compile
    assert decide(long, 100, 1).gradient_checkpointing, "nothing else decided it"
