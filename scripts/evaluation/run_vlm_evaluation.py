#!/usr/bin/env python3
"""Evaluate planners on the six dimensions of VLABench's VLM track.

    python scripts/evaluation/run_vlm_evaluation.py --checkpoint output/checkpoint-200 --dimension all
    python scripts/evaluation/run_vlm_evaluation.py --dimension "M&T" Spatial          # the base model
    python scripts/evaluation/run_vlm_evaluation.py --all-checkpoints --dimension all  # the base and all of output/
    python scripts/evaluation/run_vlm_evaluation.py --planner constant                 # the control that never looks

Answers are journaled one by one: a killed run continues with the same command. Results go to
eva_results/<dimension>/<model>/. Exit status 1 if the machine failed on an example (it is then not scored).
"""

from __future__ import annotations

from pathlib import Path

from configs.config import DIMENSIONS, WorkspaceConfig, dimensions_named
from configs.errors import UserError
from leap.checkpoints import find_all_checkpoints, result_name, why_incomplete
from leap.cli import parse_knobs, run
from leap.planners import Planner
from leap.vlabench.examples import find_examples
from leap.vlabench.options import EvaluationOptions, image_tokens, name_suffix
from leap.vlabench.prompts import PromptWriter


def main() -> int:
    options = parse_knobs(EvaluationOptions, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    dimensions = dimensions_named(options.dimension)
    image_tokens(options)
    workspace.require(options.data_path, "benchmark")
    everything = find_examples(options.data_path, dimensions)
    selected = find_examples(options.data_path, dimensions, options.tasks, options.max_tasks, options.num_episodes)
    jobs = models_to_evaluate(options, workspace)

    from leap.vlabench.results import results_table
    from leap.vlabench.run import check_examples, evaluate_dimension

    check_examples([example for examples in selected.values() for example in examples])

    failures = 0
    names = []
    for folder, base_name in jobs:
        name = base_name + name_suffix(options)
        names.append(name)
        planner = open_planner(options, folder)
        for dimension, examples in selected.items():
            target = options.output_dir / dimension / name
            writer = PromptWriter(
                workspace,
                options.prompt,
                options.language,
                options.few_shot_num,
                options.with_cot,
                pool=everything[dimension],
                seed=options.seed,
            )
            summary = evaluate_dimension(
                planner,
                writer,
                examples,
                everything[dimension],
                target,
                folder,
                options.batch_size,
                options.overwrite,
            )
            report(summary, target)
            failures += summary["examples"]["machine_failure"]
    print("\n" + results_table(options.output_dir, names))
    if failures:
        print(f"\n{failures} examples were not answered (machine failures); run the same command again to retry them")
    return 1 if failures else 0


def models_to_evaluate(options: EvaluationOptions, workspace: WorkspaceConfig) -> list[tuple[Path | None, str]]:
    """(folder, name in results) of each model; UserError if one is missing or incomplete."""
    if options.planner == "constant":
        return [(None, "constant")]
    jobs: list[tuple[Path | None, str]] = []
    base = options.base_model or workspace.base_model
    if options.all_checkpoints or not options.checkpoint:
        workspace.require(base, "base model")
        jobs.append((base, "baseline"))
    if options.all_checkpoints:
        for folder in find_all_checkpoints(workspace.output):
            problem = why_incomplete(folder)
            if problem:
                print(f"skipping {folder}: {problem}")
            else:
                jobs.append((folder, result_name(folder, workspace.output)))
    for folder in options.checkpoint:
        workspace.require(folder, "checkpoint")
        name = "baseline" if folder.resolve() == base.resolve() else result_name(folder, workspace.output)
        jobs.append((folder, name))
    for folder, _ in jobs:
        problem = why_incomplete(folder) if folder else None
        if problem:
            raise UserError(f"cannot evaluate {folder}: {problem}")
    return jobs


def open_planner(options: EvaluationOptions, folder: Path | None) -> Planner:
    if folder is None:
        from leap.planners.constant import ConstantPlanner

        # All tasks of the benchmark, whatever was selected: the control must not depend on what else is evaluated.
        there = [dimension for dimension in DIMENSIONS if (options.data_path / dimension).is_dir()]
        everything = find_examples(options.data_path, there)
        return ConstantPlanner((e.task, e.ground_truth()) for examples in everything.values() for e in examples)
    from leap.planners.huggingface import HuggingFacePlanner

    return HuggingFacePlanner(
        folder,
        options.device,
        options.base_model,
        options.max_new_tokens,
        options.blank_images,
        image_tokens(options),
    )


def report(summary: dict, folder: Path) -> None:
    counts = summary["examples"]
    scores = {scorer: values["total_score"]["mean"] for scorer, values in summary["scores"].items()}
    shown = "  ".join(f"{scorer} {score:.1f}" for scorer, score in scores.items())
    print(
        f"{summary['dimension']:12} {summary['model']}: {counts['answered']} of {counts['in_benchmark']} answered, "
        f"{summary['outcomes']['official'].get('format_error', 0)} format errors, "
        f"{counts['machine_failure']} machine failures  {shown}  -> {folder}"
    )


if __name__ == "__main__":
    run(main)
