"""Results of one model in one dimension: written from a journal, read back for tables and figures.

eva_results/<dimension>/<model>/
    generations.jsonl      the journal: one line an answered example
    failures.jsonl         examples the machine failed on, with reasons; not answers, not scored
    output.json            answers in VLABench's structure
    final_score.json       official scores  {task: {example: {metric: 0..100}}}, VLABench's structure
    grounded_score.json    grounded scores, same structure
    summary.json           means, intervals, counts, settings, provenance
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.config import DIMENSIONS
from leap.files import read_json, write_json
from leap.plans import FormatError, read_official
from leap.statistics import Estimate, estimates, stratified_means
from leap.vlabench.examples import Example
from leap.vlabench.scoring import (
    GROUNDED_METRICS,
    OFFICIAL_METRICS,
    ORDER_INDEPENDENT_TASKS,
    score_grounded,
    score_official,
)

METRICS = {"official": OFFICIAL_METRICS, "grounded": GROUNDED_METRICS}
SCORE_FILES = {"official": "final_score.json", "grounded": "grounded_score.json"}

# {task: {example number as text: {metric: score}}}
Scores = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Overall:
    """A model over all dimensions it has: macro is the mean of dimensions, micro the mean of examples, by metric."""

    macro: dict[str, Estimate]
    micro: dict[str, Estimate]
    dimensions: dict[str, dict[str, Estimate]]
    examples: int
    mixed: bool = False  # whether dimensions were answered by different weights or under different settings

    @property
    def complete(self) -> bool:
        """Whether all six dimensions are there under the same settings; other means are not comparable."""
        return len(self.dimensions) == len(DIMENSIONS) and not self.mixed


def write_results(
    folder: Path,
    answers: Mapping[Example, dict],
    failures: Sequence[dict],
    total: int,
    settings: dict[str, Any],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Score the journal's `answers` (example -> journal record) and write all result files. Returns the summary.

    `total` is how many examples the dimension has in the benchmark.
    """
    output: dict[str, Any] = {"benchmeatinfo": {"existing_num": len(answers), "already_running_time": 0}}
    scores: dict[str, Scores] = {"official": {}, "grounded": {}}
    outcomes: dict[str, Counter] = {"official": Counter(), "grounded": Counter()}
    with_cot = bool(settings["prompt"]["with_cot"])
    for example, record in answers.items():
        text, number = record["text"], str(example.number)
        truth, free_order = example.ground_truth(), example.task in ORDER_INDEPENDENT_TASKS
        output.setdefault(example.task, {})[number] = _official_output(text)
        for scorer, score in (
            ("official", score_official(text, truth, free_order)),
            ("grounded", score_grounded(text, truth, free_order, with_cot)),
        ):
            scores[scorer].setdefault(example.task, {})[number] = score.scores
            outcomes[scorer][score.status] += 1

    summary = {
        "model": folder.name,
        "dimension": folder.parent.name,
        "examples": {
            "in_benchmark": total,
            "answered": len(answers),
            "machine_failure": sum(failure["kind"] == "machine" for failure in failures),
            "bad_example": sum(failure["kind"] == "data" for failure in failures),
            "cut_by_length": sum(record["stop"] == "length" for record in answers.values()),
        },
        "outcomes": {scorer: dict(counts) for scorer, counts in outcomes.items()},
        "scores": {},
        "tasks": {},
        "settings": settings,
        "provenance": provenance,
    }
    for scorer, names in METRICS.items():
        by_task = _arrays(scores[scorer], names)
        if by_task:
            found = estimates(*stratified_means(list(by_task.values())))
            summary["scores"][scorer] = {name: asdict(e) for name, e in zip(names, found, strict=True)}
        for task, values in by_task.items():
            entry = summary["tasks"].setdefault(task, {"examples": len(values)})
            entry[scorer] = dict(zip(names, map(float, values.mean(axis=0)), strict=True))
        write_json(folder / SCORE_FILES[scorer], scores[scorer])
    write_json(folder / "output.json", output)
    write_json(folder / "summary.json", summary)
    return summary


def _official_output(text: str) -> dict[str, Any]:
    try:
        return {"origin_output": text, "skill_sequence": read_official(text)}
    except FormatError:
        return {"origin_output": text, "format_error": "format_error"}


def models_in(results: Path) -> list[str]:
    """Names of all models with a summary in any dimension: the base first, then by name and step."""
    names = {path.parent.name for dimension in DIMENSIONS for path in (results / dimension).glob("*/summary.json")}
    return sorted(names, key=lambda name: (not name.startswith("baseline"), _natural(name)))


def overall(results: Path, model: str, scorer: str) -> Overall | None:
    """Means and intervals over the dimensions a model has (missing ones are left out), or None if it has no scores."""
    names = METRICS[scorer]
    means, draws, strata, by_dimension = [], [], [], {}
    for seed, dimension in enumerate(DIMENSIONS):
        path = results / dimension / model / SCORE_FILES[scorer]
        by_task = _arrays(read_json(path), names) if path.is_file() else {}
        if by_task:
            # A seed of its own, so that the draws of the dimensions are independent and their mean has the right width.
            mean, drawn = stratified_means(list(by_task.values()), seed=seed)
            means.append(mean)
            draws.append(drawn)
            strata += by_task.values()
            by_dimension[dimension] = dict(zip(names, estimates(mean, drawn), strict=True))
    if not means:
        return None
    macro = estimates(np.mean(means, axis=0), np.mean(draws, axis=0))
    micro = estimates(*stratified_means(strata))
    paths = [results / dimension / model / "settings.json" for dimension in by_dimension]
    settings = [read_json(path) for path in paths if path.is_file()]
    return Overall(
        dict(zip(names, macro, strict=True)),
        dict(zip(names, micro, strict=True)),
        by_dimension,
        sum(map(len, strata)),
        mixed=any(other != settings[0] for other in settings),
    )


def results_table(results: Path, models: Sequence[str]) -> str:
    """Markdown: one row a model and score, dimensions as columns (missing: "-"), macro and micro with intervals."""
    wanted = (
        ("official", "total_score", "total, official (of 80)"),
        ("grounded", "total_score", "total, grounded (of 100)"),
        ("grounded", "skill_match_score", "skills, grounded"),
        ("grounded", "entity_match_score", "entities, grounded"),
        ("grounded", "plan_success", "whole plan right"),
    )
    rows = [["score", "model", *DIMENSIONS, "macro (95 %)", "micro (95 %)", "n"]]
    everything = {(scorer, model): overall(results, model, scorer) for scorer in METRICS for model in models}
    for scorer, metric, title in wanted:
        for model in models:
            found = everything[scorer, model]
            if found is None:
                rows.append([title, model, *["-"] * (len(DIMENSIONS) + 2), "0"])
                continue
            cells = [f"{found.dimensions[d][metric].mean:.1f}" if d in found.dimensions else "-" for d in DIMENSIONS]
            spans = [f"{e.mean:.1f} ({e.low:.1f} to {e.high:.1f})" for e in (found.macro[metric], found.micro[metric])]
            if len(found.dimensions) < len(DIMENSIONS):
                spans = [f"{span} over {len(found.dimensions)} of {len(DIMENSIONS)}" for span in spans]
            if found.mixed:
                spans = ["not one model"] * 2
            rows.append([title, model, *cells, *spans, str(found.examples)])
    return markdown_table(rows)


def summaries_of(results: Path, model: str) -> dict[str, dict]:
    """The summary.json of a model by dimension, as far as there is one."""
    paths = {dimension: results / dimension / model / "summary.json" for dimension in DIMENSIONS}
    return {dimension: read_json(path) for dimension, path in paths.items() if path.is_file()}


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first one the head, as Markdown whose columns also line up on a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _arrays(scores: Scores, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Scores as {task: (examples, metrics)}; keys that are no task (VLABench's own extras) are passed over."""
    return {
        task: np.array([[entry[name] for name in names] for entry in examples.values()], dtype=float)
        for task, examples in scores.items()
        if examples and task != "benchmeatinfo"
    }


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]
