"""Trainings of the tiny planner by the quick start's recipe, as the tests run them."""

from pathlib import Path

from tests.conftest import REPOSITORY, Done, run_script

TRAIN = "training/run-finetuning.py"
REINFORCE = "training/run-reinforcement.py"
EVALUATE = "evaluation/run_vlm_evaluation.py"
QUICKSTART = REPOSITORY / "configs/training/quickstart.yaml"
TWO_STEPS = ("--max_steps", 2, "--warmup_steps", 0, "--dataloader_num_workers", 0, "--save_steps", 2)
TWO_STEPS += ("--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 1)
TWO_STEPS += ("--val_plans", 2, "--val_max_new_tokens", 8)
SIX_STEPS = ("--max_steps", 6, "--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 1)
SIX_STEPS += ("--warmup_steps", 0, "--dataloader_num_workers", 0, "--save_steps", 2)
SIX_STEPS += ("--val_plans", 4, "--val_max_new_tokens", 8)
SIZES = ("--image_tokens_min", 1, "--image_tokens_max", 16, "--model_max_length", 512)
FOUR_STEPS = (*SIZES, "--max_steps", 4, "--warmup_steps", 0, "--save_steps", 2, "--logging_steps", 1, "--lr", "1e-3")
FOUR_STEPS += ("--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 2, "--num_generations", 4)
FOUR_STEPS += ("--max_completion_length", 48, "--val_plans", 4, "--val_max_new_tokens", 48, "--shared_instructions")
STEPS = 12  # of the run that is killed and resumed


def train(*arguments) -> Done:
    return run_script(TRAIN, "--config", QUICKSTART, *arguments)


def train_two_steps(run: Path, *arguments) -> Path:
    """The checkpoint at the end."""
    done = train(*TWO_STEPS, "--output_dir", run, *arguments)
    assert done.returncode == 0, done.stderr
    return run / "checkpoint-2"


def train_six_steps(run: Path, *arguments) -> Done:
    """Saves at every second step."""
    return train(*SIX_STEPS, "--output_dir", run, *arguments)


def training(run: Path, demo: Path) -> list:
    """The arguments of twelve steps of 16 out of 50 rows: the run crosses into other epochs."""
    return [
        *("--config", QUICKSTART, "--output_dir", run, "--max_steps", STEPS),
        *("--train_file", demo / "data" / "train_50.jsonl", "--warmup_steps", 2),
        *("--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 2),
        *("--save_steps", 3, "--save_total_limit", 3, "--dataloader_num_workers", 0, "--logging_steps", 3),
        *("--val_plans", 4, "--val_max_new_tokens", 16),
    ]


def evaluation(checkpoint: Path, results: Path, demo: Path) -> list:
    """The arguments of an evaluation in batches small enough that a kill comes between them."""
    return [
        *("--checkpoint", checkpoint, "--output_dir", results, "--base_model", demo / "models" / "tiny-planner"),
        *("--max_new_tokens", 40, "--batch_size", 2, "--device", "cpu", "--dimension", "M&T", "Complex"),
    ]


def reinforcement(beginner: Path, run: Path, *more) -> tuple:
    """The arguments of four steps from the planner of the fixture `beginner`, saved at every second one."""
    rows = ("--rows", beginner / "train.jsonl", "--val_file", beginner / "val.jsonl", "--output_dir", run)
    return ("--checkpoint", beginner / "run", *rows, *FOUR_STEPS, *more)
