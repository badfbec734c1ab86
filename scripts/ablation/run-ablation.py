#!/usr/bin/env python3
"""Compare fine-tuning presets under one budget: train each with each seed, evaluate, and make one table and figure.

    python scripts/ablation/run-ablation.py
    python scripts/ablation/run-ablation.py --presets light standard full fullft --max_steps 2000 --seeds 42 43 44
    python scripts/ablation/run-ablation.py --config configs/training/quickstart.yaml --max_new_tokens 96
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
from dataclasses import dataclass, replace
from pathlib import Path

from configs.config import DIMENSIONS, WorkspaceConfig
from configs.errors import UserError
from leap.ablation.sweep import (
    Evaluations,
    Run,
    check_inputs,
    checkpoint_to_evaluate,
    finished_checkpoint,
    flags,
    planned_runs,
    preset_names,
    split_arguments,
)
from leap.ablation.table import (
    BASE,
    Measured,
    Row,
    all_warnings,
    as_json,
    as_markdown,
    budget_of,
    budget_warnings,
    measure_run,
    measure_scores,
    table_rows,
)
from leap.cli import as_plain, knob, parse_knobs, run
from leap.files import write_json, write_text
from leap.plans.scoring import TOPS
from leap.runs.jobs import only_one, run_logged

_OF_ENVIRONMENT = ("presets", "max_steps", "seeds")
_OF_TRAINING = ("model_name_or_path", "train_file", "val_file", "image_root")
_OF_EVALUATION = ("data_path", "prompt", "batch_size", "max_new_tokens", "num_episodes")


@dataclass(frozen=True)
class Options:
    presets: list[str] = knob(["light", "standard", "full"], "what to compare", choices=preset_names())
    seeds: list[int] = knob([42], "each preset is trained once with each seed")
    max_steps: int | None = knob(
        None,
        "optimiser steps of every training (default: the recipe's, else 2000)",
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


def main() -> int:
    own, for_training, for_evaluation = split_arguments([*from_environment(sys.argv[1:]), *sys.argv[1:]])
    options = parse_knobs(Options, own, __doc__)
    if Path(options.name).name != options.name or options.name in ("", "..", "figures", *DIMENSIONS):
        raise UserError(f"--name {options.name!r} must be the name of a folder of its own, as in ablation2")
    workspace = WorkspaceConfig.from_environment()
    values = vars(options)
    runs = planned_runs(
        options.presets,
        options.seeds,
        options.max_steps,
        [*flags({"config": options.train_config, **{name: values[name] for name in _OF_TRAINING}}), *for_training],
        workspace.output / options.name,
    )
    check_inputs(runs, workspace, best=options.evaluate == "best")
    of_evaluation = [*flags({name: values[name] for name in _OF_EVALUATION}), *for_evaluation]
    evaluations = Evaluations(of_evaluation, runs, workspace, options.name)
    budgets = {one.name: budget_of(as_plain(one.recipe)) for one in runs}
    for warning in budget_warnings(budgets, {one.name: one.seed for one in runs}):
        print(f"warning: {warning}")

    logs = workspace.logs / options.name
    with only_one(logs / "sweep.lock") as lock:
        print(f"== base model, then {len(runs)} trainings of {runs[0].recipe.max_steps} steps", flush=True)
        measured = [measure_base(evaluations, logs, lock)]
        for number, planned in enumerate(runs, 1):
            print(f"== {number}/{len(runs)} {planned.name}", flush=True)
            measured.append(train_and_measure(planned, options.evaluate, evaluations, logs, lock))
    return report(measured, options.evaluate, evaluations)


def from_environment(argv: list[str]) -> list[str]:
    """PRESETS, MAX_STEPS and SEEDS as flags, unless `argv` has the flag."""
    there = {word.partition("=")[0].replace("-", "_") for word in argv}
    words = {name: os.environ.get(name.upper(), "").replace(",", " ").split() for name in _OF_ENVIRONMENT}
    named = {name: given for name, given in words.items() if given and f"__{name}" not in there}
    return [word for name, given in named.items() for word in (f"--{name}", *given)]


def measure_base(evaluations: Evaluations, logs: Path, lock: int) -> Measured:
    measured = Measured(BASE, checkpoint=str(evaluations.base), model=evaluations.model_name(evaluations.base))
    return evaluate(measured, evaluations, evaluations.base, logs / "base.log", lock)


def train_and_measure(planned: Run, which: str, evaluations: Evaluations, logs: Path, lock: int) -> Measured:
    """Train, unless that is done; evaluate, unless that is done. A failure is part of what comes back."""
    measured, log = Measured(planned.preset, planned.seed), logs / f"{planned.name}.log"
    try:
        if last := finished_checkpoint(planned):
            print(f"trained already: {last}", flush=True)
        else:
            failure = do("training", planned.command, log, lock)
            if failure or not finished_checkpoint(planned):
                return replace(measured, failure=failure or f"training ended before its last step; log: {log}")
        checkpoint = checkpoint_to_evaluate(planned, which)
        measured = replace(
            measured,
            checkpoint=str(checkpoint),
            model=evaluations.model_name(checkpoint),
            **measure_run(planned.recipe.output_dir, checkpoint),
        )
        return evaluate(measured, evaluations, checkpoint, log, lock)
    except UserError as error:
        return replace(measured, failure=str(error))


def evaluate(measured: Measured, evaluations: Evaluations, folder: Path, log: Path, lock: int) -> Measured:
    if evaluations.is_done(folder):
        print(f"evaluated already: {measured.model}", flush=True)
    else:
        failure = do("evaluation", evaluations.command(folder), log, lock)
        if failure:
            return replace(measured, failure=failure)
        evaluations.note_done(folder)
    assert measured.model is not None
    return replace(measured, **measure_scores(evaluations.results, measured.model))


def do(what: str, command: list[str], log: Path, lock: int) -> str | None:
    """Run a command; how it failed, or None."""
    ended = run_logged(command, log, lock)
    if ended.status == 0:
        return None
    return "\n    ".join([f"{what} ended with exit status {ended.status}; log: {log}; last lines:", *ended.last_lines])


def report(measured: list[Measured], which: str, evaluations: Evaluations) -> int:
    """Write and print the table, draw the figure, name the failures. Returns the exit status."""
    rows, warnings = table_rows(measured), all_warnings(measured)
    folder = evaluations.folder
    table = as_markdown(rows, which, warnings)
    write_text(folder / "ablation_table.md", table)
    write_json(folder / "ablation_table.json", as_json(measured, rows, which, warnings))
    print(f"\n{table}")
    for path in [folder / "ablation_table.md", folder / "ablation_table.json", *draw(rows, folder)]:
        print(path)
    failed = [one for one in measured if one.failure]
    for one in failed:
        name = one.preset if one.seed is None else f"{one.preset}_seed{one.seed}"
        print(f"\n{name} failed: {one.failure}", file=sys.stderr)
    if failed:
        print("\nthe same command tries what failed again, and nothing else", file=sys.stderr)
    return 1 if failed else 0


def draw(rows: list[Row], folder: Path) -> list[Path]:
    from leap.plots.style import save
    from leap.plots.training import ablation

    estimates = {row.preset: row.totals("grounded") for row in rows}
    estimates = {name: values for name, values in estimates.items() if any(values)}
    if not estimates:
        return []
    sizes = {row.preset: row.cells["trainable_parameters"].mean for row in rows if "trainable_parameters" in row.cells}
    figure = ablation(estimates, sizes, BASE, "total score, grounded", TOPS["grounded"])
    return save(figure, folder, "ablation")


if __name__ == "__main__":
    run(main)
