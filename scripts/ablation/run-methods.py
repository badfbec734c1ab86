#!/usr/bin/env python3
"""Compare ways to learn on from a checkpoint under one budget: GRPO, rejection sampling, DPO, more supervised training.

    python scripts/ablation/run-methods.py --checkpoint output --rows data/train.jsonl --val_file data/val.jsonl
    python scripts/ablation/run-methods.py --methods grpo sft --seeds 42 43 44 --max_seconds 7200
    python scripts/ablation/run-methods.py --train_args --tuning full --lr 1e-6 --eval_args --prompt builtin

Each method trains for --max_seconds from the same checkpoint, completions included, with the knobs of
scripts/training/run-reinforcement.py that follow --train_args; each is evaluated with those of
scripts/evaluation/run_vlm_evaluation.py that follow --eval_args. The same command continues and repeats nothing that is
done. Checkpoints: output/<name>/<method>_seed<S>/; table and figure: eva_results/<name>/. Exit status 1 if one failed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.ablation.methods import METHODS, MethodSweep, planned_methods, results_of, write_methods
from leap.ablation.sweep import Evaluations, check_name, flags, say_failures, split_arguments
from leap.cli import knob, parse_knobs, run
from leap.models.checkpoints import kind_of
from leap.planners.candidates import chosen_checkpoint
from leap.progress import say
from leap.runs.jobs import JobKnobs
from leap.training.start import require_inputs, require_package


@dataclass(frozen=True)
class Options(JobKnobs):
    checkpoint: Path = knob(Path("output"), "full model to start from, or the folder of a run (its best or last)")
    train_file: Path = knob(Path("data/train.jsonl"), "planning rows to learn from (JSONL)")
    val_file: Path = knob(Path("data/val.jsonl"), "held-out planning rows (JSONL)")
    methods: list[str] = knob(["grpo", "rft", "sft"], "what to compare", choices=METHODS)
    seeds: list[int] = knob([42], "each method trains once with each seed")
    max_seconds: float = knob(3600.0, "training time of each, in seconds", check="> 0")
    name: str = knob("methods", "name of the comparison: its folder in output/, logs/ and eva_results/")
    data_path: Path | None = knob(None, "folder of the benchmark")

    def __post_init__(self) -> None:
        check_name(self.name)


def main() -> int:
    argv, training_argv, evaluation_argv = split_arguments(sys.argv[1:])
    options = parse_knobs(Options, argv, __doc__)
    workspace = WorkspaceConfig.from_environment()
    require_package("trl", "training by rewards", "pip install -e '.[rl]'")
    start = chosen_checkpoint(options.checkpoint, workspace)
    if kind_of(start) == "adapter":
        raise UserError(f"{start} is an adapter; fold it into its base with scripts/utils/merge_adapter.py first")
    training = [*flags({"rows": options.train_file, "val_file": options.val_file}), *training_argv]
    output = workspace.output / options.name
    runs = planned_methods(options.methods, options.seeds, start, options.max_seconds, training, output)
    for planned in runs:
        require_inputs(planned.recipe, workspace)
    evaluation = [*flags({"data_path": options.data_path}), *evaluation_argv]
    evaluations = Evaluations(evaluation, runs, workspace, options.name)

    records = MethodSweep(runs, evaluations, "last", workspace.logs / options.name).run(options)
    table, paths = write_methods(
        results_of(records, evaluations.results, workspace), options.max_seconds, evaluations.folder
    )
    say(f"\n{table}")
    for path in paths:
        say(path)
    return say_failures(records)


if __name__ == "__main__":
    run(main)
