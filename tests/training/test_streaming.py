"""Rows that are read as they come: which batches they make, what is left out, and that a killed run loses nothing."""

import io
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset, List
from datasets import Image as ImageColumn
from PIL import Image

from configs.errors import UserError
from leap.files import read_jsonl, sha256_file
from leap.models.checkpoints import MANIFEST
from leap.rows.sources import data_named
from leap.training.recipes import TrainingRecipe
from leap.training.streaming import StreamedBatches
from tests.conftest import assert_one_line_error, kill_when, start_script
from tests.downloading import fetch
from tests.training.planning_lines import GOOD, row
from tests.training.trainings import QUICKSTART, TRAIN, train


@pytest.fixture
def recipe(workspace):
    """Of ten rows of several lengths, and steps of four rows."""
    (workspace / "rows.jsonl").write_text("\n".join(row("word " * i, id=i) for i in range(10)))
    return TrainingRecipe(
        train_file=workspace / "rows.jsonl", output_dir=workspace / "run", streaming=True, max_steps=6,
        shuffle_buffer=7, per_device_train_batch_size=2, gradient_accumulation_steps=2, model_max_length=256,
    )  # fmt: skip


def ids(batches):
    return [[row.id for row in batch] for batch in batches]


def test_every_row_comes_once_a_pass_shuffled_within_its_block_by_the_seed(recipe, collator):
    batches = ids(StreamedBatches(recipe, collator))
    assert list(map(len, batches)) == [2] * 12
    order = list(itertools.chain.from_iterable(batches))
    assert all(order[i : i + 2] == sorted(order[i : i + 2], key=int, reverse=True) for i in range(0, 24, 2))
    assert set(order[:4]) < set(map(str, range(7))), "the first block has seven rows"
    assert sorted(order[:20], key=int) != sorted(order[:20]) or len(set(order[:20])) == 10
    assert ids(StreamedBatches(recipe, collator)) == batches
    assert ids(StreamedBatches(replace(recipe, seed=1), collator)) != batches


@pytest.mark.parametrize("step", range(1, 6))
def test_batches_go_on_behind_any_step(recipe, collator, step, tmp_path):
    whole = StreamedBatches(recipe, collator)
    expected = ids(whole)
    checkpoint = tmp_path / f"checkpoint-{step}"
    checkpoint.mkdir()
    whole.save(checkpoint, step)
    again = StreamedBatches(recipe, collator)
    again.restore(checkpoint)
    assert ids(again) == expected[step * 2 :]


def test_a_checkpoint_of_another_kind_of_run_is_refused(recipe, collator, tmp_path):
    with pytest.raises(UserError, match="was made without --streaming"):
        StreamedBatches(recipe, collator).restore(tmp_path)


def test_a_row_that_cannot_train_is_left_out_and_named_until_there_are_too_many(recipe, collator, capsys):
    lines = ["{", row(), row(image="gone.png"), row("word " * 400)]
    recipe.train_file.write_text("\n".join(lines))
    recipe = replace(recipe, shuffle_buffer=4, max_steps=1, most_bad_rows=3)  # each counts once, in all passes
    assert len(ids(StreamedBatches(recipe, collator))) == 2
    said = capsys.readouterr().out
    for words in ("skipped, 1 of at most 3: ", "rows.jsonl:1: not valid JSON", "rows.jsonl:3: image not found"):
        assert words in said
    assert "rows.jsonl:4: " in said
    assert "are over model_max_length 256" in said
    with pytest.raises(UserError, match=r"rows.jsonl:3: image not found.* \(2 rows could not train; --most_bad_rows"):
        list(StreamedBatches(replace(recipe, most_bad_rows=1), collator))


def test_an_overlong_row_is_shrunk_where_that_is_asked(recipe, collator, workspace):
    Image.new("RGB", (256, 256), "red").save(workspace / "big.png")
    recipe.train_file.write_text(row(image="big.png"))
    shrinking = replace(recipe, overlong="shrink", model_max_length=40, max_steps=1)
    batch = next(iter(StreamedBatches(shrinking, collator)))
    assert collator(batch)["input_ids"].shape[1] <= 40


def test_pictures_in_rows_are_on_the_disk_only_while_their_block_is_trained_on(recipe, collator, workspace):
    turns = [{"role": "user", "content": "<image>Plan."}, {"role": "assistant", "content": "1) Go."}]
    pictures = [Image.new("RGB", (64, 64), (i, 0, 0)) for i in range(8)]
    rows = Dataset.from_list([{"messages": turns, "images": [picture]} for picture in pictures])
    rows.cast_column("images", List(ImageColumn())).save_to_disk(workspace / "set")
    batches = StreamedBatches(replace(recipe, train_file=workspace / "set", shuffle_buffer=4), collator)
    iterator = iter(batches)
    for step in range(1, 4):
        shown = [collator.pictures(taken)[0].getpixel((0, 0))[0] for _ in range(2) for taken in next(iterator)]
        assert sorted(shown) == [[0, 1, 2, 3], [4, 5, 6, 7]][(step - 1) % 2]
        batches.trained(step)
        assert len(list((recipe.output_dir / ".streamed_pictures").glob("*/*/*"))) == 4
    assert not list(workspace.glob(".set*"))


def test_what_streaming_cannot_do_is_said_in_one_line_each(workspace):
    rows = workspace / "data" / "train.jsonl"
    for arguments, words in (
        (["--max_steps", -1], "say how long to train with --max_steps"),
        (["--max_steps", 2, "--packing"], "cannot pack"),
        (["--max_steps", 2, "--max_train_samples", 3], "leave --max_train_samples out"),
        (["--max_steps", 2, "--val_file", workspace / "data"], "validation file must be a file"),
    ):
        assert_one_line_error(train("--streaming", "--train_file", rows, *arguments), words)
    assert_one_line_error(train("--streaming", "--max_steps", 2, "--train_file", f"{rows}:2"), "keeps no weights")
    assert TrainingRecipe(streaming=True, max_steps=1, train_file=data_named(["a.jsonl", "b.jsonl"]))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_streamed_run_ends_with_the_bits_of_one_that_was_not(demo, workspace, workers):
    rows = read_jsonl(demo / "data" / "train_50.jsonl")[:20]
    records = [{"messages": GOOD["messages"], "target": row["target"], "id": str(i)} for i, row in enumerate(rows)]
    Dataset.from_list(records).save_to_disk(workspace / "set")
    shutil.copy(demo / "data" / "val.jsonl", workspace / "more.jsonl")
    arguments = ["--config", QUICKSTART, "--streaming", "--train_file", workspace / "set", workspace / "more.jsonl"]
    arguments += ["--image_root", demo / "data", "--shuffle_buffer", 15, "--max_steps", 6, "--save_steps", 2]
    arguments += ["--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 2, "--warmup_steps", 0]
    arguments += ["--dataloader_num_workers", workers, "--val_plans", 0, "--logging_steps", 1]
    whole, killed = workspace / "output/whole", workspace / "output/killed"
    done = train(*arguments[2:], "--output_dir", whole)
    assert done.returncode == 0, done.stderr
    process = start_script(TRAIN, *arguments, "--output_dir", killed)
    kill_when(process, (killed / "checkpoint-2" / MANIFEST).is_file)
    done = train(*arguments[2:], "--output_dir", killed)
    assert "resuming from" in done.stdout, done.stderr
    weights = [sha256_file(folder / "checkpoint-6" / "model.safetensors") for folder in (whole, killed)]
    assert weights[0] == weights[1]
    losses = [losses_by_step(workspace / "logs" / name / "train.jsonl") for name in ("whole", "killed")]
    assert losses[0] == losses[1]


def losses_by_step(path: Path):
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return {entry["step"]: (entry["loss"], entry["epoch"]) for entry in entries if "loss" in entry}


@pytest.mark.slow
def test_rows_of_the_hub_are_trained_on_without_a_copy_of_them(demo, workspace, hub):
    turns = [{"role": "user", "content": "<image>Plan."}, {"role": "assistant", "content": "1) Go."}]
    rows = Dataset.from_list([{"messages": turns, "images": [Image.new("RGB", (64, 64), "red")]}] * 12)
    file = io.BytesIO()
    rows.cast_column("images", List(ImageColumn())).to_parquet(file)
    hub.add("dataset", "me/rows", {"data/train-00000-of-00001.parquet": file.getvalue()})
    arguments = ["--config", QUICKSTART, "--streaming", "--rows", "hf://me/rows", "--shuffle_buffer", 5]
    arguments += ["--max_steps", 2, "--save_steps", 2, "--per_device_train_batch_size", 4, "--warmup_steps", 0]
    arguments += ["--gradient_accumulation_steps", 1, "--dataloader_num_workers", 0, "--val_plans", 0]
    done = fetch(hub, TRAIN, *arguments, "--output_dir", workspace / "output/run", first_pause_s=None)
    assert done.returncode == 0, done.stderr
    assert (workspace / "output/run/checkpoint-2" / MANIFEST).is_file()
    assert not list((workspace / "home").rglob("*.arrow"))
    done = fetch(hub, TRAIN, *arguments, "--rows", "hf://me/gone", first_pause_s=None)
    assert done.returncode == 2
    assert "error: hf://me/gone: the Hub does not show it" in done.stderr.splitlines()[-1]
