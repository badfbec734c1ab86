#!/usr/bin/env python3
"""Compare fine-tuning presets under one budget: train each with each seed, evaluate, and make one table and figure.

    python scripts/ablation/run-ablation.py
    python scripts/ablation/run-ablation.py --presets light standard full fullft --max_steps 2000 --seeds 42 43 44
    python scripts/ablation/run-ablation.py --config configs/training/quickstart.yaml --max_new_tokens 96
    python scripts/ablation/run-ablation.py --jobs 4         # four models at once, each on a GPU of its own
    python scripts/ablation/run-ablation.py --ray auto
    python scripts/ablation/run-ablation.py --train_args --lr_scheduler_type cosine --eval_args --few-shot-num 1

`fullft` is full fine-tuning, the others are the presets of configs/lora/. What follows --train_args goes to every
training (knobs of scripts/ablation/run-lora-finetuning.py), what follows --eval_args to every evaluation (knobs of
scripts/evaluation/run_vlm_evaluation.py). PRESETS, MAX_STEPS and SEEDS in the environment are defaults of their flags.

Presets of a seed see the same rows in the same order for the same steps; learning rates are each recipe's own. The same
command continues an interrupted sweep and skips what is done. Checkpoints: output/<name>/<preset>_seed<S>/; logs:
logs/<name>/; table and figure: eva_results/<name>/. Exit status 1 if a preset failed; the others are run all the same.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from leap.ablation.sweep import (
    Evaluations,
    Sweep,
    check_inputs,
    check_name,
    flags,
    planned_runs,
    preset_names,
    say_failures,
    split_arguments,
)
from leap.ablation.table import budget_of, budget_warnings, write_table
from leap.cli import as_plain, knob, parse_knobs, run
from leap.progress import say
from leap.runs.command_queue import list_commands
from leap.runs.jobs import JobKnobs

_ENVIRONMENT = ("presets", "max_steps", "seeds")
_TRAINING_KNOBS = ("model_name_or_path", "train_file", "val_file", "image_root")
_EVALUATION_KNOBS = ("data_path", "prompt", "batch_size", "max_new_tokens", "num_episodes")


@dataclass(frozen=True)
class Options(JobKnobs):
    presets: list[str] = knob(["light", "standard", "full"], "what to compare", choices=preset_names())
    seeds: list[int] = knob([42], "each preset is trained once with each seed")
    max_steps: int | None = knob(
        None,
        "optimiser steps of every training (default: the recipe's, else 7000)",
        check="> 0",
    )
    evaluate: str = knob(
        "last",
        "which checkpoint of a training: best by validation is no longer budget-matched",
        choices=("last", "best"),
    )
    name: str = knob("ablation", "name of the sweep: its folder in output/, logs/ and eva_results/")

    train_config: Path | None = knob(None, "recipe (YAML) of every training; it beats the presets", flags=("--config",))
    model_name_or_path: Path | None = knob(None, "folder of the base model")
    train_file: Path | None = knob(None, "planning rows to train on (JSONL)")
    val_file: Path | None = knob(None, "planning rows to validate on (JSONL)")
    image_root: Path | None = knob(None, "folder that image paths of the rows are relative to")

    data_path: Path | None = knob(None, "folder of the benchmark")
    prompt: str | None = knob(None, "evaluation: wording of the prompt")
    batch_size: int | None = knob(None, "evaluation: prompts answered at once", check="> 0")
    max_new_tokens: int | None = knob(None, "evaluation: longest answer in tokens", check="> 0")
    num_episodes: int | None = knob(None, "evaluation: at most so many examples a task", check="> 0")

    list_jobs: Path | None = knob(
        None, "write the commands of all trainings to this file, a line each, and run none; then run the sweep"
    )

    def __post_init__(self) -> None:
        check_name(self.name)


def main() -> int:
    argv, training_argv, evaluation_argv = split_arguments([*from_environment(sys.argv[1:]), *sys.argv[1:]])
    options = parse_knobs(Options, argv, __doc__)
    workspace = WorkspaceConfig.from_environment()
    values = vars(options)
    training = {"config": options.train_config, **{name: values[name] for name in _TRAINING_KNOBS}}
    output = workspace.output / options.name
    runs = planned_runs(options.presets, options.seeds, options.max_steps, [*flags(training), *training_argv], output)
    check_inputs(runs, workspace, best=options.evaluate == "best")
    evaluation = flags({name: values[name] for name in _EVALUATION_KNOBS})
    evaluations = Evaluations([*evaluation, *evaluation_argv], runs, workspace, options.name)
    if options.list_jobs:
        list_commands([planned.command for planned in runs], options.list_jobs)
        return 0
    budgets = {planned.name: budget_of(as_plain(planned.recipe)) for planned in runs}
    for warning in budget_warnings(budgets, {planned.name: planned.seed for planned in runs}):
        say(f"warning: {warning}")

    records = Sweep(runs, evaluations, options.evaluate, workspace.logs / options.name).run(options)
    table, paths = write_table(records, options.evaluate, evaluations.folder)
    say(f"\n{table}")
    for path in paths:
        say(path)
    return say_failures(records)


def from_environment(argv: list[str]) -> list[str]:
    """PRESETS, MAX_STEPS and SEEDS as flags, unless `argv` has the flag."""
    named = {word.partition("=")[0].replace("-", "_") for word in argv}
    words = {name: os.environ.get(name.upper(), "").replace(",", " ").split() for name in _ENVIRONMENT}
    defaults = {name: values for name, values in words.items() if values and f"__{name}" not in named}
    return [word for name, values in defaults.items() for word in (f"--{name}", *values)]


if __name__ == "__main__":
    run(main)
