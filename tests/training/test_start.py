"""What is wrong before torch loads is one line, and nothing is written."""

import pytest

from tests.conftest import assert_one_line_error, run_script
from tests.training.trainings import TRAIN, train


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model_name_or_path", "none"], ["base model not found", "none"]),
        (["--train_file", "none.jsonl"], ["training file not found", "none.jsonl"]),
        (["--val_file", "none.jsonl"], ["validation file not found"]),
        (["--learning_rat", "1"], ["unrecognized arguments: --learning_rat"]),
        (["--lr", "-1"], ["learning_rate must be > 0"]),
        (["--image_tokens_min", "99"], ["image_tokens_min 99 is above image_tokens_max 16"]),
        (["--model_max_length", "20"], ["are over model_max_length 20", "train.jsonl:", "more rows"]),
    ],
)
def test_training_names_what_is_wrong(workspace, arguments, words):
    done = train(*arguments)
    done.stderr = done.stderr.splitlines()[-1] if "model_max_length" in words[0] else done.stderr
    assert_one_line_error(done, *words)
    assert not (workspace / "output").exists()


def test_the_real_recipe_says_how_to_get_what_is_missing(workspace):
    assert_one_line_error(run_script(TRAIN), "base model not found", "download_model.sh")


def test_training_on_a_folder_says_so(workspace):
    assert_one_line_error(train("--train_file", workspace / "data"), "training file must be a file", "is a folder")
