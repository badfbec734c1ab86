"""Knobs that contradict each other make no recipe, and are named in one line before anything is read."""

from tests.conftest import assert_one_line_error, run_script
from tests.training.trainings import train


def test_freezing_does_not_go_with_lora(demo, tmp_path):
    done = run_script(
        "ablation/run-lora-finetuning.py",
        *("--model_name_or_path", demo / "models/tiny-planner", "--train_file", demo / "data/train.jsonl"),
        *("--output_dir", tmp_path / "run", "--freeze", "vision"),
    )
    assert_one_line_error(done, "LoRA freezes all but its adapter")


def test_packs_smaller_than_the_longest_row_allowed_are_refused(demo, tmp_path, workspace):
    done = train("--packing", "--packing_tokens", 100)
    assert_one_line_error(done, "packing_tokens 100 is below model_max_length 512")
