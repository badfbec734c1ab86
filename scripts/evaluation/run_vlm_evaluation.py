#!/usr/bin/env python3
"""Evaluate planners on the six dimensions of VLABench's VLM track.

    python scripts/evaluation/run_vlm_evaluation.py --checkpoint output --dimension all
    python scripts/evaluation/run_vlm_evaluation.py --dimension "M&T" Spatial          # the base model
    python scripts/evaluation/run_vlm_evaluation.py --all-checkpoints --dimension all  # the base and all of output/
    python scripts/evaluation/run_vlm_evaluation.py --all-checkpoints --jobs 8       # one a GPU; --ray auto: a cluster
    python scripts/evaluation/run_vlm_evaluation.py --planner constant                 # a control that never looks
    python scripts/evaluation/run_vlm_evaluation.py --planner everything               # one that names all there is
    python scripts/evaluation/run_vlm_evaluation.py --checkpoint output --temperature 0.7 --top_p 0.9 --num_samples 5
    python scripts/evaluation/run_vlm_evaluation.py --planner openai --base_url http://127.0.0.1:8000/v1 --model NAME

Answers are journaled as they come: a killed run continues with the same command. Under torchrun each process takes its
share. Results go to eva_results/<dimension>/<model>/. Exit status 1, and a list, if an example has no answer because
the machine failed (--retry-failed asks again) or its files are broken; it is then not scored.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.config import WorkspaceConfig, dimensions_named, next_line, place_flag
from configs.errors import UserError
from leap.cli import as_plain, parse_knobs, run
from leap.files import read_jsonl
from leap.models.names import BASE_NAME
from leap.planners import open_planner
from leap.planners.candidates import Candidate, models_to_ask, require_complete
from leap.progress import print_some, say
from leap.runs.command_queue import list_commands
from leap.runs.ranks import Ranks
from leap.vlabench.examples import Example, find_examples
from leap.vlabench.folder import JOURNAL_FILE, models_in
from leap.vlabench.options import CONTROLS, EvaluationOptions, name_suffix
from leap.vlabench.prompts import PromptWriter

if TYPE_CHECKING:
    from leap.vlabench.folder import Summary


def main() -> int:
    options = parse_knobs(EvaluationOptions, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    ranks = Ranks.from_environment()
    dimensions = dimensions_named(options.dimension)
    workspace.require(options.data_path, "benchmark")
    everything = find_examples(options.data_path, dimensions)
    selected = find_examples(options.data_path, dimensions, options.tasks, options.max_tasks, options.num_episodes)
    models = models_to_evaluate(options, workspace)
    if options.as_jobs and ranks.world > 1:
        raise UserError("--jobs and --ray start processes of their own; leave torchrun out")

    if options.list_jobs:
        from leap.vlabench.jobs import evaluation_jobs

        jobs = evaluation_jobs(options, models, list(selected), workspace.logs)
        list_commands([job.command for job in jobs], options.list_jobs)
        return 0

    from leap.vlabench.tables import results_table
    from leap.vlabench.tracking import require_trackers, track

    require_trackers(options.report_to)
    failed: list[str] = []
    if options.as_jobs:
        failed = evaluate_at_once(options, models, list(selected), workspace)
    else:
        evaluate_in_turn(options, models, selected, everything, workspace, ranks)
    if not ranks.first:
        return 0
    names = [base_name + name_suffix(options) for _, base_name in models]
    say("\n" + results_table(options.output_dir, names))
    if options.report_to:
        track(options.report_to, options.output_dir, names, as_plain(options), workspace.logs)
    targets = [options.output_dir / dimension / name for name in names for dimension in selected]
    for failure in failed:
        say(f"\n{failure}", file=sys.stderr)
    left_out = [line for target in targets for line in missing(target)]
    if left_out:
        say(f"\n{len(left_out)} examples have no answer and are not scored (--retry-failed asks again):")
        print_some(left_out, "failures.jsonl of each result folder")
    if failed:
        say("\nthe same command tries what failed again, and nothing else", file=sys.stderr)
    if left_out or failed:
        return 1
    say("\n" + next_line(next_command(names, options, workspace)))
    return 0


def evaluate_in_turn(
    options: EvaluationOptions,
    models: Sequence[Candidate],
    selected: Mapping[str, Sequence[Example]],
    everything: Mapping[str, list[Example]],
    workspace: WorkspaceConfig,
    ranks: Ranks,
) -> None:
    """Each model answers the selected examples of each dimension, in this process and its likes under torchrun."""
    from leap.planners.asking import require_same_settings
    from leap.vlabench.run import evaluate_dimension, settings_of

    shots_from = shot_pools(options, everything, workspace)
    for folder, base_name in models:
        planner = open_planner(options, folder)
        for note in planner.notes:
            say(f"warning: {note}")
        targets = {
            dimension: options.output_dir / dimension / (base_name + name_suffix(options)) for dimension in selected
        }
        writers = {
            dimension: PromptWriter(
                workspace,
                options.prompt,
                options.language,
                options.few_shot_num,
                options.with_cot,
                pool=shots_from[dimension],
                seed=options.seed,
                shot_format=options.shot_format,
                pictures=options.pictures,
                examples=everything[dimension],
            )
            for dimension in selected
        }
        for dimension, target in targets.items() if not options.overwrite else ():  # before the first is asked
            settings = settings_of(planner, writers[dimension], target, options.drawing)
            require_same_settings(target / JOURNAL_FILE, settings)
        for dimension, examples in selected.items():
            target = targets[dimension]
            summary = evaluate_dimension(
                planner,
                writers[dimension],
                examples,
                everything[dimension],
                target,
                folder,
                overwrite=options.overwrite,
                retry_failed=options.retry_failed,
                drawing=options.drawing,
                num_samples=options.num_samples,
                ranks=ranks,
            )
            if summary:
                report(summary, target)


def evaluate_at_once(
    options: EvaluationOptions, models: Sequence[Candidate], dimensions: Sequence[str], workspace: WorkspaceConfig
) -> list[str]:
    """The same by jobs, a model and a dimension each; a line for each that failed."""
    from leap.vlabench.jobs import evaluate_as_jobs, evaluation_jobs

    jobs = evaluation_jobs(options, models, dimensions, workspace.logs)
    say(f"{len(jobs)} evaluations as jobs; how far they are: python scripts/utils/monitor_evaluation.py")
    failed = []
    for job, summary, failure in evaluate_as_jobs(jobs, options, workspace.logs):
        if failure:
            failed.append(f"{job.name} failed: {failure}")
        elif summary:
            report(summary, options.output_dir / summary.dimension / summary.model)
    return failed


def next_command(names: Sequence[str], options: EvaluationOptions, workspace: WorkspaceConfig) -> str:
    """A comparison with the base where that has results, else the report."""
    results = place_flag("--results", options.output_dir, workspace.results)
    others = [name for name in names if name != BASE_NAME]
    if others and BASE_NAME in models_in(options.output_dir):
        return f"python scripts/evaluation/compare_models.py {shlex.join([BASE_NAME, *others])}{results}"
    data = place_flag("--data_path", options.data_path, workspace.benchmark)
    return f"python scripts/evaluation/make_report.py{results}{data}"


def shot_pools(
    options: EvaluationOptions, everything: Mapping[str, list[Example]], workspace: WorkspaceConfig
) -> Mapping[str, list[Example]]:
    """Where the shots of each dimension come from."""
    if options.shots_from is None or not options.few_shot_num:
        return everything
    return find_examples(workspace.require(options.shots_from, "folder of the shots"), list(everything))


def models_to_evaluate(options: EvaluationOptions, workspace: WorkspaceConfig) -> list[Candidate]:
    """The models in the order of asking; UserError if one is missing or incomplete."""
    if options.planner in CONTROLS:
        return [Candidate(None, options.planner)]
    models = models_to_ask(
        options,
        workspace,
        options.checkpoints_dir,
        with_base=not options.skip_baseline if options.all_checkpoints else not options.checkpoint,
        with_complete=options.all_checkpoints,
        max_checkpoints=options.max_checkpoints,
    )
    if not models:
        raise UserError(f"no complete checkpoint in {options.checkpoints_dir}, and --skip_baseline leaves the base out")
    require_complete(models)
    return models


def report(summary: Summary, folder: Path) -> None:
    counts = summary.examples
    scores = {scorer: means["total_score"].mean for scorer, means in summary.scores.items()}
    totals = "  ".join(f"{scorer} {score:.1f}" for scorer, score in scores.items())
    say(
        f"{summary.dimension:12} {summary.model}: {counts.answered} of {counts.in_benchmark} answered, "
        f"{summary.outcomes['official'].get('format_error', 0)} format errors, "
        f"{counts.cut_by_length} cut by length, "
        f"{counts.machine_failure} machine failures, {counts.bad_example} bad examples  {totals}  -> {folder}"
    )


def missing(folder: Path) -> list[str]:
    """A line for each example that has no answer."""
    from leap.vlabench.folder import FAILURES_FILE

    path = folder / FAILURES_FILE
    failures = read_jsonl(path) if path.is_file() else []  # a job that failed leaves none
    return [f"  {f['task']}/example{f['example']}: {f['reason']}" for f in failures]


if __name__ == "__main__":
    run(main)
