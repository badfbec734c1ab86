"""Results of one model in one dimension: written from a journal, read back for tables and figures.

eva_results/<dimension>/<model>/
    generations.jsonl      the journal: one line an answered example
    failures.jsonl         examples without an answer: kind "machine" (it failed) or "data" (a bad example), and why
    settings.json          what decided the answers: planner, prompt, pictures
    output.json            answers in VLABench's structure
    final_score.json       official scores  {task: {example: {metric: 0..100}}}, VLABench's structure
    grounded_score.json    grounded scores, same structure
    diagnosis.json         {task: {example: {"labels": [error label, ...], "truth_sha256": hash of the ground truth}}}
    summary.json           means, intervals, counts, diagnosis, settings, provenance
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.config import DIMENSIONS
from leap.files import read_json, sha256_json, write_json, write_text
from leap.plans import FormatError, Plan, Step, plan_of, read_official, read_plan, steps_of
from leap.statistics import Estimate, estimates, stratified_means
from leap.vlabench.diagnosis import ERROR_LABELS, Diagnosis, diagnose_plan, skill_confusion
from leap.vlabench.examples import Example
from leap.vlabench.published import Published, published_notes, published_rows
from leap.vlabench.scoring import METRICS, ORDER_INDEPENDENT_TASKS, Score, no_plan, score_official_sequence, score_steps

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


@dataclass(frozen=True)
class _Scored:
    """One answer: its ground truth, its entry in output.json, its scores and what is wrong with it."""

    true: list[Step]
    truth_sha256: str
    output: dict[str, Any]
    scores: dict[str, Score]
    diagnosis: Diagnosis


def write_results(
    folder: Path,
    answers: Mapping[Example, dict],
    failures: Sequence[dict],
    total: int,
    settings: dict[str, Any],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Score the journal's `answers` (example -> journal record), write all files made of scores, return the summary.

    `total` is how many examples the dimension has in the benchmark; `failures` are the lines of failures.jsonl. An
    answer may be any text. UserError for an example whose ground truth cannot be scored: such a one is no answer.
    A record of an imported output.json carries its entry there as `output`, which then decides the official score, and
    may have None as `text`.
    """
    with_cot = bool(settings["prompt"]["with_cot"])
    scored = {example: _scored(example, record, with_cot) for example, record in answers.items()}
    kinds = Counter(failure.get("kind", "machine") for failure in failures)
    summary = {
        "model": folder.name,
        "dimension": folder.parent.name,
        "examples": {
            "in_benchmark": total,
            "answered": len(answers),
            "machine_failure": kinds["machine"],
            "bad_example": kinds["data"],
            "cut_by_length": sum(record["stop"] == "length" for record in answers.values()),
        },
        "outcomes": {
            scorer: dict(Counter(found.scores[scorer].status for found in scored.values())) for scorer in METRICS
        },
        **_means(scored),
        "diagnosis": _diagnosis(scored),
        "settings": settings,
        "provenance": provenance,
    }
    for scorer, name in SCORE_FILES.items():
        _write_by_example(folder / name, {example: found.scores[scorer].scores for example, found in scored.items()})
    _write_by_example(
        folder / "diagnosis.json",
        {
            example: {"labels": list(found.diagnosis.labels), "truth_sha256": found.truth_sha256}
            for example, found in scored.items()
        },
    )
    _write_by_example(
        folder / "output.json",
        {example: found.output for example, found in scored.items()},
        {"benchmeatinfo": {"existing_num": len(answers), "already_running_time": 0}},
    )
    write_json(folder / "summary.json", summary)
    return summary


def _scored(example: Example, record: dict, with_cot: bool) -> _Scored:
    truth = example.ground_truth()
    true, free_order = steps_of(truth), example.task in ORDER_INDEPENDENT_TASKS
    output = record.get("output") or _official_output(record["text"])
    if "format_error" in output:
        official = no_plan("official", "no json fence with JSON in it")
    else:
        official = score_official_sequence(output["skill_sequence"], truth, free_order)
    plan: Plan | None = None
    try:
        text = record["text"]
        plan = plan_of(output.get("skill_sequence")) if text is None else read_plan(text, last=with_cot)
        grounded = score_steps(plan.steps, true, free_order)
    except FormatError as error:
        grounded = no_plan("grounded", str(error))
    scores = {"official": official, "grounded": grounded}
    return _Scored(true, sha256_json(truth), output, scores, diagnose_plan(plan, true, free_order))


def _official_output(text: str) -> dict[str, Any]:
    try:
        return {"origin_output": text, "skill_sequence": read_official(text)}
    except FormatError:
        return {"origin_output": text, "format_error": "format_error"}


def _means(scored: Mapping[Example, _Scored]) -> dict[str, Any]:
    """`scores` with intervals and `tasks`, of the summary."""
    by_task: dict[str, list[list[float]]] = defaultdict(list)
    for example, found in scored.items():
        by_task[example.task].append([found.scores[s].scores[name] for s, names in METRICS.items() for name in names])
    arrays = {
        task: np.array(rows, dtype=float) for task, rows in by_task.items()
    }  # (examples, metrics of both scorers)
    scores: dict[str, Any] = {}
    tasks: dict[str, Any] = {task: {"examples": len(values)} for task, values in arrays.items()}
    if arrays:
        found = iter(estimates(*stratified_means(list(arrays.values()))))
        scores = {scorer: {name: asdict(next(found)) for name in names} for scorer, names in METRICS.items()}
    for task, values in arrays.items():
        means = iter(values.mean(axis=0).tolist())
        tasks[task] |= {scorer: {name: next(means) for name in names} for scorer, names in METRICS.items()}
    return {"scores": scores, "tasks": tasks}


def _diagnosis(scored: Mapping[Example, _Scored]) -> dict[str, Any]:
    """`diagnosis` of the summary: how many answers have each label, which skill stood for which, and how the grounded
    scores fall with the number of steps in the ground truth."""
    labels = Counter(label for found in scored.values() for label in found.diagnosis.labels)
    by_length: dict[int, list[dict[str, float]]] = defaultdict(list)
    for found in scored.values():
        by_length[len(found.true)].append(found.scores["grounded"].scores)
    return {
        "labels": {label: labels[label] for label in ERROR_LABELS},
        "confusion": skill_confusion((found.true, found.diagnosis) for found in scored.values()),
        "by_length": {
            str(length): {
                "examples": len(found),
                **{name: sum(s[name] for s in found) / len(found) for name in ("total_score", "plan_success")},
            }
            for length, found in sorted(by_length.items())
        },
    }


def _write_by_example(path: Path, entries: Mapping[Example, Any], first: Mapping[str, Any] | None = None) -> None:
    """{task: {example number as text: entry}} as JSON with one line an example, after the items of `first`."""
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (first or {}).items()]
    by_task: dict[str, list[str]] = defaultdict(list)
    for example, entry in entries.items():
        by_task[example.task].append(f'  "{example.number}": {json.dumps(entry)}')
    parts += [f"{json.dumps(task)}: {{\n" + ",\n".join(lines) + "\n}" for task, lines in by_task.items()]
    write_text(path, "{" + ",\n".join(parts) + "}\n")


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


# The scores of the results table, and their titles there.
_TABLE = {
    ("official", "total_score"): "total, official (of 80)",
    ("grounded", "total_score"): "total, grounded (of 100)",
    ("grounded", "skill_match_score"): "skills, grounded",
    ("grounded", "entity_match_score"): "entities, grounded",
    ("grounded", "plan_success"): "whole plan right",
}


def results_table(results: Path, models: Sequence[str], published: Sequence[Published] = ()) -> str:
    """Markdown: one row a model and score, dimensions as columns (missing: "-"), macro and micro with intervals.

    Numbers of others (`published`) come below the measured ones of the same score, marked, or behind all rows if their
    score is not in this table; what is known of them stands below the table.
    """
    rows = [["score", "model", *DIMENSIONS, "macro (95 %)", "micro (95 %)", "n"]]
    everything = {(scorer, model): overall(results, model, scorer) for scorer in METRICS for model in models}
    for (scorer, metric), title in _TABLE.items():
        for model in models:
            rows.append([title, model, *_cells(everything[scorer, model], metric)])
        rows += [[title, *cells] for cells in published_rows(published, f"{scorer}.{metric}")]
    shown = {f"{scorer}.{metric}" for scorer, metric in _TABLE}
    for name in dict.fromkeys(found.score for entry in published for found in entry.scores):
        if name not in shown:
            rows += [[name, *cells] for cells in published_rows(published, name)]
    return "\n\n".join(filter(None, (markdown_table(rows), published_notes(published))))


def _cells(found: Overall | None, metric: str) -> list[str]:
    """A row of the results table, behind score and model."""
    if found is None:
        return [*["-"] * (len(DIMENSIONS) + 2), "0"]
    cells = [f"{found.dimensions[d][metric].mean:.1f}" if d in found.dimensions else "-" for d in DIMENSIONS]
    spans = [f"{e.mean:.1f} ({e.low:.1f} to {e.high:.1f})" for e in (found.macro[metric], found.micro[metric])]
    if len(found.dimensions) < len(DIMENSIONS):
        spans = [f"{span} over {len(found.dimensions)} of {len(DIMENSIONS)}" for span in spans]
    if found.mixed:
        spans = ["not one model"] * 2
    return [*cells, *spans, str(found.examples)]


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
