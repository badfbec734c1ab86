"""What is wrong before torch loads is one line, and nothing is written."""

import sys

import pytest
import transformers

from configs.config import WorkspaceConfig
from leap.files import write_json
from leap.training.start import evaluation_command
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


@pytest.fixture
def liger(tmp_path, monkeypatch):
    """A liger-kernel 0.8.5 that imports a class which its file of output classes does not have, as the real one does
    beside transformers 5.23. It is what this process imports by that name."""
    package = tmp_path / "packages" / "liger_kernel"
    for folder in (package, package / "transformers", package / "transformers" / "model"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (package / "transformers" / "monkey_patch.py").touch()
    model = package / "transformers" / "model"
    (model / "output_classes.py").touch()
    (model / "qwen3_vl.py").write_text("from .output_classes import LigerQwen3VLCausalLMOutputWithPast\n")
    metadata = package.with_name("liger_kernel-0.8.5.dist-info") / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: liger-kernel\nVersion: 0.8.5\n")
    monkeypatch.syspath_prepend(package.parent)
    yield package
    forget_liger()


def forget_liger():
    for name in [name for name in sys.modules if name.partition(".")[0] == "liger_kernel"]:
        del sys.modules[name]


def train_with_liger():
    """A training that fails at the latest at its rows."""
    forget_liger()
    return train("--use_liger_kernel", "--model_max_length", 20)


def test_a_liger_kernel_that_does_not_go_with_transformers_is_said_before_any_row_is_read(workspace, liger):
    words = (
        "liger-kernel 0.8.5",
        f"transformers {transformers.__version__}",
        "qwen3_vl",
        "leave out --use_liger_kernel",
    )
    done = train_with_liger()
    assert_one_line_error(done, *words, "LigerQwen3VLCausalLMOutputWithPast")
    assert "train.jsonl" not in done.stdout
    (liger / "transformers" / "model" / "qwen3_vl.py").unlink()  # it has no kernels for this model
    assert "model_max_length 20" in train_with_liger().stderr


def test_the_command_that_evaluates_a_run_asks_as_the_base_was_asked(workspace):
    place, run = WorkspaceConfig(workspace), workspace / "output" / "my run"
    plain = f"python scripts/evaluation/run_vlm_evaluation.py --checkpoint '{run}' --dimension all"
    assert evaluation_command(run, place) == plain
    settings = {
        "planner": {"planner": "huggingface", "decoding": {"max_new_tokens": 96}},
        "prompt": {"style": "builtin"},
    }
    write_json(place.results / "Spatial" / "baseline" / "settings.json", settings)
    assert evaluation_command(run, place) == f"{plain} --max_new_tokens 96 --prompt builtin"
    (place.results / "Spatial" / "baseline" / "settings.json").write_text("{")
    assert evaluation_command(run, place) == plain
