"""Sources that go or change while a run trains on them."""

import os
import threading
import time
from types import SimpleNamespace

import pytest
from datasets import Dataset

from configs.errors import UserError
from leap.files import sha256_file
from leap.models.checkpoints import MANIFEST
from leap.training.recipes import TrainingRecipe
from leap.training.resume import data_content
from leap.training.watching import WatchSources
from tests.conftest import assert_one_line_error
from tests.training.planning_lines import row
from tests.training.trainings import train_six_steps


def after_step(recipe, change, step=1):
    """What a watch says of `change` in the middle of a run of five steps."""
    watch = WatchSources(recipe)
    watch.begin(data_content(recipe))
    change()
    watch.on_step_end(None, SimpleNamespace(global_step=step, max_steps=5), None)
    watch.on_step_end(None, SimpleNamespace(global_step=step, max_steps=5), None)


def test_a_file_that_changes_or_goes_is_named_but_not_one_that_was_written_anew_as_it_was(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(row())
    recipe = TrainingRecipe(train_file=path)

    def written_anew():
        os.replace(path, tmp_path / "old")
        path.write_text(row())

    after_step(recipe, written_anew)
    with pytest.raises(UserError, match=r"rows.jsonl was changed while the run trained on it. Put it as it was"):
        after_step(recipe, lambda: path.write_text(row("other")))
    after_step(recipe, path.unlink, step=5)  # nothing is left to train
    path.write_text(row())
    with pytest.raises(UserError, match=r"rows.jsonl cannot be read any more \(No such file or directory\)"):
        after_step(recipe, path.unlink)


def test_a_file_of_a_data_set_is_named_with_the_set(tmp_path):
    Dataset.from_list([{"text": "a"}]).save_to_disk(tmp_path / "set")
    recipe = TrainingRecipe(train_file=tmp_path / "set")
    (file,) = (tmp_path / "set").glob("*.arrow")
    with pytest.raises(UserError, match=r"\.arrow \(of .*set\) cannot be read any more"):
        after_step(recipe, file.unlink)


@pytest.mark.slow
def test_a_run_whose_source_goes_ends_by_its_name_and_resumes_to_the_same_bits_when_it_is_back(demo, workspace):
    source, aside = workspace / "rows.jsonl", workspace / "rows.aside"
    source.write_bytes((demo / "data" / "train_50.jsonl").read_bytes())
    arguments = ("--train_file", source, "--image_root", demo / "data")
    whole, run = workspace / "output/whole", workspace / "output/run"
    done = train_six_steps(whole, *arguments)
    assert done.returncode == 0, done.stderr

    def take_away():
        until = time.monotonic() + 100
        while not (run / "checkpoint-2" / MANIFEST).is_file() and time.monotonic() < until:
            time.sleep(0.002)
        source.rename(aside)

    thread = threading.Thread(target=take_away)
    thread.start()
    done = train_six_steps(run, *arguments)
    thread.join()
    assert_one_line_error(done, f"{source} cannot be read any more", "goes on from the last checkpoint")
    assert (run / "checkpoint-2" / MANIFEST).is_file()
    assert not (run / "checkpoint-6").exists()
    assert_one_line_error(train_six_steps(run, *arguments), f"training file not found: {source}")
    aside.rename(source)
    done = train_six_steps(run, *arguments)
    assert "resuming from" in done.stdout, done.stderr
    weights = [sha256_file(folder / "checkpoint-6" / "model.safetensors") for folder in (whole, run)]
    assert weights[0] == weights[1]
