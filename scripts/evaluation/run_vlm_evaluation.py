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

from dataclasses import dataclass
from pathlib import Path

from configs.config import DIMENSIONS, WorkspaceConfig, dimensions_named
from configs.errors import UserError
from leap.checkpoints import find_all_checkpoints, result_name, why_incomplete
from leap.cli import knob, parse_knobs, run
from leap.planners import Planner
from leap.vlabench.examples import find_examples
from leap.vlabench.prompts import LANGUAGES, STYLES, PromptWriter


@dataclass(frozen=True)
class Options:
    checkpoint: list[Path] = knob(
        [], "checkpoint folders to evaluate; none means the base model", flags=("--model_path",)
    )
    all_checkpoints: bool = knob(
        False, "evaluate the base and every complete checkpoint in output/", flags=("--batch_mode",)
    )
    base_model: Path | None = knob(
        None, "the base model, also an adapter's (default: models/Qwen3-VL-2B-Instruct)", flags=("--baseline_model",)
    )
    planner: str = knob("huggingface", "who answers", choices=("huggingface", "constant"))
    blank_images: bool = knob(False, "control: every picture becomes a grey one of its size")

    dimension: list[str] = knob(["all"], "dimensions to evaluate, or all")
    data_path: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the benchmark")
    tasks: list[str] = knob([], "only these tasks")
    max_tasks: int | None = knob(None, "at most so many tasks a dimension", check="> 0")
    num_episodes: int | None = knob(None, "at most so many examples a task", check="> 0")

    prompt: str = knob("auto", "wording: VLABench's own, ours, or its own if the submodule is there", choices=STYLES)
    language: str = knob("en", "language of the prompt", choices=LANGUAGES)
    few_shot_num: int = knob(0, "solved examples in the prompt", check=">= 0")
    with_cot: bool = knob(False, "ask for a chain of thought before the plan")
    seed: int = knob(42, "seed of the choice of shots", check=">= 0")

    batch_size: int = knob(8, "prompts answered at once", check="> 0")
    max_new_tokens: int = knob(512, "longest answer in tokens", check="> 0")
    image_tokens_min: int | None = knob(None, "fewest visual tokens a picture (default: the processor's)", check="> 0")
    image_tokens_max: int | None = knob(None, "most visual tokens a picture (default: the processor's)", check="> 0")
    device: str = knob("auto", "auto, cpu or cuda:0")
    output_dir: Path = knob(Path("eva_results"), "folder of the results")
    suffix: str = knob("", "appended to the model's name in results")
    overwrite: bool = knob(False, "replace earlier results of these models that were made under other settings")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
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


def models_to_evaluate(options: Options, workspace: WorkspaceConfig) -> list[tuple[Path | None, str]]:
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


def name_suffix(options: Options) -> str:
    """What settings other than the usual ones add to a model's name in results."""
    return (
        (f"_{options.few_shot_num}shot" if options.few_shot_num else "")
        + ("_CoT" if options.with_cot else "")
        + (f"_{options.language}" if options.language != "en" else "")
        + ("_blank" if options.blank_images else "")
        + (f"_{options.suffix}" if options.suffix else "")
    )


def image_tokens(options: Options) -> tuple[int, int] | None:
    """The fewest and most visual tokens a picture, or None for the processor's own; UserError for half a range."""
    fewest, most = options.image_tokens_min, options.image_tokens_max
    if fewest is None and most is None:
        return None
    if fewest is None or most is None or fewest > most:
        raise UserError("give --image_tokens_min and --image_tokens_max together, the first not above the second")
    return fewest, most


def open_planner(options: Options, folder: Path | None) -> Planner:
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
