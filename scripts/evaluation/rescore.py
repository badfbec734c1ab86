#!/usr/bin/env python3
"""Score answers again, without a model: of evaluations done, or in output.json files of VLABench and the original LEAP.

    python scripts/evaluation/rescore.py                                      # every journal in eva_results/
    python scripts/evaluation/rescore.py --models checkpoint-200 --dimension Spatial
    python scripts/evaluation/rescore.py --jobs 8                             # at once; --ray auto: on a cluster
    python scripts/evaluation/rescore.py --outputs old/*/checkpoint-5000/output.json --model_name leap-5000

The ground truth is that of the benchmark folder as it is now. Of an output.json, each task goes to the dimension whose
folder in the benchmark holds it: eva_results/<dimension>/<model>/. The file's folders or --model_name name the model.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.config import WorkspaceConfig, dimensions_named
from leap.cli import knob, parse_knobs, run
from leap.progress import say
from leap.runs.jobs import JobKnobs

if TYPE_CHECKING:
    from leap.vlabench.rescore import RescoredFolder


@dataclass(frozen=True)
class Options(JobKnobs):
    models: list[str] = knob([], "names of the models to score again; none means all that have a journal")
    dimension: list[str] = knob(["all"], "dimensions to score, or all")
    results: Path = knob(Path("eva_results"), "folder of the results")
    data_path: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the benchmark")
    outputs: list[Path] = knob([], "output.json files of VLABench or LEAP to score instead of journals")
    output_dir: Path | None = knob(None, "folder of the results of --outputs (default: --results)")
    model_name: str = knob("", "name in results of the model of --outputs (default: what its folders say)")
    with_cot: bool = knob(False, "the answers of --outputs hold a chain of thought (default: what their folders say)")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    workspace.require(options.data_path, "benchmark")
    dimensions = dimensions_named(options.dimension)

    from leap.runs.workers import Failure
    from leap.vlabench.examples import find_examples
    from leap.vlabench.rescore import RescoreJob, journals_in, rescore_outputs, rescored_journals

    if options.outputs:
        present = [dimension for dimension in dimensions if (options.data_path / dimension).is_dir()]
        benchmark = find_examples(options.data_path, present or dimensions)
        folder = options.output_dir or options.results
        for rescored in rescore_outputs(options.outputs, benchmark, folder, options.model_name, options.with_cot):
            report(rescored)
        return 0
    folders = journals_in(options.results, dimensions, options.models)
    jobs = [RescoreJob(folder, options.data_path) for folder in folders]
    failed = []
    for job, result in rescored_journals(jobs, options, workspace.logs):
        if isinstance(result, Failure):
            failed.append(f"{job.folder}: {result.reason}")
        else:
            report(result)
    for line in failed:
        say(line, file=sys.stderr)
    return 1 if failed else 0


def report(rescored: RescoredFolder) -> None:
    counts, folder = rescored.summary.examples, rescored.folder
    scores = {scorer: means["total_score"].mean for scorer, means in rescored.summary.scores.items()}
    versions = rescored.summary.scorers
    totals = "  ".join(f"{name} {score:.1f} (version {versions[name]})" for name, score in scores.items())
    say(
        f"{folder.parent.name:12} {folder.name}: {counts.answered} of {counts.in_benchmark} answered, "
        f"{counts.machine_failure} machine failures  {totals or 'no scores'}  -> {folder}"
    )
    if rescored.changed:
        say(
            f"  {rescored.changed} of them have another ground truth in the benchmark than when they were scored before"
        )
    if rescored.left_out:
        say(f"  {rescored.left_out} answers are of examples that the benchmark does not have")


if __name__ == "__main__":
    run(main)
