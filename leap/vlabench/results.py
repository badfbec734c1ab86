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
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.config import DIMENSIONS
from leap.files import read_json, sha256_json, write_json, write_text
from leap.models.names import order_of
from leap.plans.diagnosis import ERROR_LABELS, diagnose_plan, skill_confusion, skill_pairs
from leap.plans.reading import FormatError, Plan, plan_of, read_official, read_plan, steps_of
from leap.plans.scoring import METRICS, ORDER_INDEPENDENT_TASKS, no_plan, score_official_sequence, score_steps
from leap.statistics import Estimate, estimates, stratified_means
from leap.text import markdown_table
from leap.vlabench.examples import Example
from leap.vlabench.published import Published, published_notes, published_rows

SCORE_FILES = {"official": "final_score.json", "grounded": "grounded_score.json"}
_OTHER_FILES = ("diagnosis.json", "output.json")
_BY_LENGTH = ("total_score", "plan_success")

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
    """Score the journal's `answers` (example -> journal record), write all files made of scores, return the summary.

    `total` is how many examples the dimension has in the benchmark; `failures` are the lines of failures.jsonl. An
    answer may be any text. UserError for an example whose ground truth cannot be scored: such a one is no answer.
    A record of an imported output.json carries its entry there as `output`, which then decides the official score, and
    may have None as `text`.
    """
    tally = _Tally(bool(settings["prompt"]["with_cot"]))
    for example, record in answers.items():
        tally.add(example, record)
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
        "outcomes": {scorer: dict(counts) for scorer, counts in tally.outcomes.items()},
        **tally.means(),
        "diagnosis": tally.diagnosis(),
        "settings": settings,
        "provenance": provenance,
    }
    for name, by_task in tally.lines.items():
        parts = [f"{json.dumps(task)}: {{\n" + ",\n".join(lines) + "\n}" for task, lines in by_task.items()]
        if name == "output.json":
            info = {"existing_num": len(answers), "already_running_time": 0}
            parts.insert(0, f'"benchmeatinfo": {json.dumps(info)}')
        write_text(folder / name, "{" + ",\n".join(parts) + "}\n")
    write_json(folder / "summary.json", summary)
    return summary


class _Tally:
    """What a dimension's answers add up to. Keeps numbers and lines of text only, so that many answers stay cheap."""

    def __init__(self, with_cot: bool) -> None:
        self.with_cot = with_cot
        # {file: {task: lines}}: one line an example.
        self.lines = {name: defaultdict[str, list[str]](list) for name in (*SCORE_FILES.values(), *_OTHER_FILES)}
        self.outcomes = {scorer: Counter[str]() for scorer in METRICS}
        self._rows: dict[str, list[list[float]]] = defaultdict(list)  # by task: an example's metrics of both scorers
        self._labels: Counter[str] = Counter()
        self._skills: list[tuple[str, str]] = []
        self._by_length: dict[int, list[tuple[float, ...]]] = defaultdict(list)

    def add(self, example: Example, record: Mapping[str, Any]) -> None:
        """Score one answer."""
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
            plan = plan_of(output.get("skill_sequence")) if text is None else read_plan(text, last=self.with_cot)
            grounded = score_steps(plan.steps, true, free_order)
        except FormatError as error:
            grounded = no_plan("grounded", str(error))
        diagnosis = diagnose_plan(plan, true, free_order)

        scores = {"official": official, "grounded": grounded}
        entries = {SCORE_FILES[scorer]: score.scores for scorer, score in scores.items()}
        entries["diagnosis.json"] = {"labels": diagnosis.labels, "truth_sha256": sha256_json(truth)}
        for name, entry in (*entries.items(), ("output.json", output)):
            self.lines[name][example.task].append(f'  "{example.number}": {json.dumps(entry)}')
        for scorer, score in scores.items():
            self.outcomes[scorer][score.status] += 1
        self._rows[example.task].append([scores[s].scores[name] for s, names in METRICS.items() for name in names])
        self._labels.update(diagnosis.labels)
        self._skills += skill_pairs(true, diagnosis)
        self._by_length[len(true)].append(tuple(grounded.scores[name] for name in _BY_LENGTH))

    def means(self) -> dict[str, Any]:
        """`scores` with intervals and `tasks`, of the summary."""
        arrays = {task: np.array(rows, dtype=float) for task, rows in self._rows.items()}  # (examples, metrics)
        scores: dict[str, Any] = {}
        if arrays:
            found = iter(estimates(*stratified_means(list(arrays.values()))))
            scores = {scorer: {name: asdict(next(found)) for name in names} for scorer, names in METRICS.items()}
        tasks: dict[str, Any] = {}
        for task, values in arrays.items():
            means = iter(values.mean(axis=0).tolist())
            by_scorer = {scorer: {name: next(means) for name in names} for scorer, names in METRICS.items()}
            tasks[task] = {"examples": len(values), **by_scorer}
        return {"scores": scores, "tasks": tasks}

    def diagnosis(self) -> dict[str, Any]:
        """`diagnosis` of the summary: how many answers have each label, which skill stood for which, and how the
        grounded scores fall with the number of steps in the ground truth."""
        return {
            "labels": {label: self._labels[label] for label in ERROR_LABELS},
            "confusion": skill_confusion(self._skills),
            "by_length": {
                str(length): {
                    "examples": len(found),
                    **dict(zip(_BY_LENGTH, np.mean(found, axis=0).tolist(), strict=True)),
                }
                for length, found in sorted(self._by_length.items())
            },
        }


def _official_output(text: str) -> dict[str, Any]:
    try:
        return {"origin_output": text, "skill_sequence": read_official(text)}
    except FormatError:
        return {"origin_output": text, "format_error": "format_error"}


def models_in(results: Path) -> list[str]:
    """Names of all models with a summary in any dimension: the base first, then by name and step."""
    names = {path.parent.name for dimension in DIMENSIONS for path in (results / dimension).glob("*/summary.json")}
    return sorted(names, key=order_of)


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


def _arrays(scores: Scores, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Scores as {task: (examples, metrics)}; keys that are no task (VLABench's own extras) are passed over."""
    return {
        task: np.array([[entry[name] for name in names] for entry in examples.values()], dtype=float)
        for task, examples in scores.items()
        if examples and task != "benchmeatinfo"
    }
