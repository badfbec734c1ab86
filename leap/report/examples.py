"""The examples of the page: what was asked, what is right, what each model answered and where it differs.

Two parts, so that a page of thousands of examples opens at once. The index has columns over all examples, in the order
of dimensions, tasks and numbers:

    {"models": [name], "flags": [name], "dimensions": [name], "tasks": [[name, dimension index]],
     "examples": {"task": [task index], "number": [], "instruction": [text or null], "steps": [ground-truth steps or
                  null], "pictures": [[plain, tagged]: picture index or -1]},
     "answers": [{"flags": [bits of FLAGS], "official": [total or null], "grounded": [total or null]} of each model],
     "review": whether the page has a blind review}

Details are lists by task, an entry an example, in the same order:

    {"truth": [[skill, entity, container]] or null, "problem": text or null, "prompts": [text],
     "answers": [of each model: null, {"failure": kind, "reason": text}, or
                 {"text", "cut": characters left out, "prompt": index or null, "new_tokens", "stop", "imported": bool,
                  "shots": [name], "pictures_from": name or null, "status": {scorer: [status, reason]},
                  "scores": {scorer: [value in the order of METRICS] or null}, "labels": [label],
                  "steps": [[skill, entity, container]], "rows": [leap.report.steps.Row] or null,
                  "more": rows left out}]}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.plans.diagnosis import ERROR_LABELS, Diagnosis, diagnose, skill_confusion, skill_pairs
from leap.plans.reading import Step, read_tolerant, steps_of
from leap.plans.scoring import ORDER_INDEPENDENT_TASKS
from leap.progress import Progress
from leap.report.answers import Answers, Place, read_answers, scored_again, text_of
from leap.report.steps import MOST_ROWS, as_lists, rows_of
from leap.vlabench.examples import Example
from leap.vlabench.results import METRICS

T = TypeVar("T")

OUTCOMES = (
    "right",
    "not_right",
    "format_error",
    "official_format_error",
    "official_score_error",
    "cut_by_length",
    "machine_failure",
    "bad_example",
    "no_answer",
)
FLAGS = (*OUTCOMES, *ERROR_LABELS)

MOST_CHARACTERS = 20_000  # of one text; the journal has all of it


@dataclass(frozen=True)
class Examples:
    """`index` and `details` as above, without the pictures of the index: `pictures` are their paths, plain and tagged.

    `diagnoses` are {model: {dimension: counts in the form of a summary's "diagnosis"}} over answers that were compared.
    `absent` counts the examples that the benchmark folder lacks, `rescored` the answers whose grounded total differs
    from the one in the results.
    """

    index: dict[str, Any]
    details: list[list[dict]]
    pictures: list[tuple[Path | None, Path | None]]
    diagnoses: dict[str, dict[str, dict]]
    absent: int
    rescored: int


@dataclass(frozen=True)
class _Question:
    """What the benchmark says about an example, as far as it can be read."""

    instruction: str | None = None
    truth: list[dict] | None = None
    true: list[Step] = field(default_factory=list)
    problem: str | None = None
    pictures: tuple[Path | None, Path | None] = (None, None)
    absent: bool = False


@dataclass
class _Compared:
    """The answers of one model in one dimension that stand beside a ground truth."""

    plans: list[tuple[list[Step], Diagnosis]] = field(default_factory=list)
    scores: dict[int, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))

    def counts(self) -> dict[str, Any]:
        labels = Counter(label for _, diagnosis in self.plans for label in diagnosis.labels)
        return {
            "answers": len(self.plans),
            "labels": {label: labels[label] for label in ERROR_LABELS},
            "confusion": skill_confusion(pair for plan in self.plans for pair in skill_pairs(*plan)),
            "by_length": {
                str(length): {
                    "examples": len(found),
                    **{name: sum(s[name] for s in found) / len(found) for name in ("total_score", "plan_success")},
                }
                for length, found in sorted(self.scores.items())
            },
        }


def collect_examples(results: Path, models: Sequence[str], benchmark: Path | None) -> Examples:
    """Every example that one of `models` was asked. Without a `benchmark` (None) they have no instruction, ground truth
    and pictures."""
    answers = {
        dimension: {model: read_answers(results / dimension / model) for model in models} for dimension in DIMENSIONS
    }
    places = {dimension: sorted(set().union(*(a.places() for a in of.values()))) for dimension, of in answers.items()}
    builder = _Builder(list(models))
    with Progress("comparing plans", sum(map(len, places.values())), "example") as progress:
        for dimension, of_dimension in places.items():
            for place in of_dimension:
                builder.add(dimension, place, _question(benchmark, dimension, place), answers[dimension])
                progress.advance()
    return builder.finish()


def _question(benchmark: Path | None, dimension: str, place: Place) -> _Question:
    if benchmark is None:
        return _Question()
    task, number = place
    example = Example(dimension, task, number, benchmark / dimension / task / f"example{number}")
    if not example.folder.is_dir():
        return _Question(problem=f"the benchmark folder has no {dimension}/{task}/example{number}", absent=True)
    problems: list[str] = []
    instruction = _or_none(example.instruction, problems)
    truth = _or_none(example.ground_truth, problems)
    pictures = tuple(path if path.is_file() else None for path in (example.plain_image, example.tagged_image))
    problem = "; ".join(problems) or None
    return _Question(instruction and instruction.strip(), truth, steps_of(truth) if truth else [], problem, pictures)


def _or_none(read: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return read()
    except UserError as error:
        problems.append(str(error))
        return None


class _Builder:
    """Puts the columns of the index and the details together, example by example."""

    def __init__(self, models: list[str]) -> None:
        self.models = models
        self.tasks: list[tuple[str, int]] = []
        self.columns: dict[str, list] = {name: [] for name in ("task", "number", "instruction", "steps")}
        self.given: list[dict[str, list]] = [{"flags": [], "official": [], "grounded": []} for _ in models]
        self.details: list[list[dict]] = []
        self.pictures: list[tuple[Path | None, Path | None]] = []
        self.compared: dict[str, dict[str, _Compared]] = {model: defaultdict(_Compared) for model in models}
        self.absent = self.rescored = 0

    def add(self, dimension: str, place: Place, question: _Question, answers: Mapping[str, Answers]) -> None:
        """Add an example; those of a task come one after another."""
        task, number = place
        if not self.tasks or self.tasks[-1] != (task, DIMENSIONS.index(dimension)):
            self.tasks.append((task, DIMENSIONS.index(dimension)))
            self.details.append([])
        self.absent += question.absent
        row = (len(self.tasks) - 1, number, question.instruction, len(question.true) or None)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(value)
        self.pictures.append(question.pictures)
        prompts: list[str] = []
        entries = []
        for model, columns in zip(self.models, self.given, strict=True):
            given = answers[model]
            scores = {scorer: given.scores[scorer].get(place) for scorer in METRICS}
            entry, flags = self._answer(given, place, question, self.compared[model][dimension], prompts, scores)
            columns["flags"].append(sum(1 << FLAGS.index(flag) for flag in flags))
            for scorer, values in scores.items():
                columns[scorer].append(round(values["total_score"], 2) if values else None)
            entries.append(entry)
        self.details[-1].append(
            {
                "truth": as_lists(question.true) or None,
                "problem": question.problem,
                "prompts": [prompt[:MOST_CHARACTERS] for prompt in prompts],
                "answers": entries,
            }
        )

    def _answer(
        self,
        given: Answers,
        place: Place,
        question: _Question,
        compared: _Compared,
        prompts: list[str],
        scores: Mapping[str, dict[str, float] | None],
    ) -> tuple[dict | None, set[str]]:
        """One model's entry of the details, and its flags."""
        if place not in given.records:
            failure = given.failures.get(place)
            if failure is None:
                return None, {"no_answer"}
            kind = failure.get("kind", "machine")
            flag = "bad_example" if kind == "data" else "machine_failure"
            return {"failure": kind, "reason": str(failure.get("reason", ""))}, {flag}
        record, free_order = given.records[place], place[0] in ORDER_INDEPENDENT_TASKS
        text = text_of(record)
        again = scored_again(record, question.truth, free_order, given.with_cot)
        entry = _as_given(record, text, prompts) | {
            "status": {scorer: [score.status, score.reason] for scorer, score in again.items()},
            "scores": {
                scorer: [round(values[name], 2) for name in METRICS[scorer]] if values else None
                for scorer, values in scores.items()
            },
            "labels": given.labels.get(place, []),
            "steps": [],
            "rows": None,
            "more": 0,
        }
        if question.truth:
            diagnosis = diagnose(text, question.truth, free_order, given.with_cot)
            rows = rows_of(question.true, diagnosis, free_order)
            entry["labels"] = list(diagnosis.labels)
            entry["rows"], entry["more"] = rows[:MOST_ROWS], max(0, len(rows) - MOST_ROWS)
            shown = max((j for _, j, _ in entry["rows"] if j is not None), default=-1) + 1
            entry["steps"] = as_lists(diagnosis.steps[:shown])
            compared.plans.append((question.true, diagnosis))
            if scores["grounded"]:
                compared.scores[len(question.true)].append(scores["grounded"])
                now, then = again["grounded"].scores["total_score"], scores["grounded"]["total_score"]
                self.rescored += abs(now - then) > 1e-6
        elif again["grounded"].status == "ok":
            entry["steps"] = as_lists(read_tolerant(text, last=given.with_cot)[:MOST_ROWS])
        return entry, set(entry["labels"]) | _outcomes(entry, record, scores["grounded"])

    def finish(self) -> Examples:
        index = {
            "models": self.models,
            "flags": FLAGS,
            "dimensions": DIMENSIONS,
            "tasks": self.tasks,
            "examples": self.columns,
            "answers": self.given,
        }
        diagnoses = {
            model: {dimension: found.counts() for dimension, found in of_model.items() if found.plans}
            for model, of_model in self.compared.items()
        }
        return Examples(index, self.details, self.pictures, diagnoses, self.absent, self.rescored)


def _as_given(record: Mapping[str, Any], text: str, prompts: list[str]) -> dict[str, Any]:
    """What the journal says; its prompt goes to `prompts` unless it is there already."""
    prompt = record.get("prompt")
    if prompt is not None and prompt not in prompts:
        prompts.append(prompt)
    return {
        "text": text[:MOST_CHARACTERS],
        "cut": max(0, len(text) - MOST_CHARACTERS),
        "prompt": None if prompt is None else prompts.index(prompt),
        "new_tokens": record.get("new_tokens"),
        "stop": record.get("stop"),
        "imported": record["text"] is None,
        "shots": record.get("shots", []),
        "pictures_from": record.get("pictures_from"),
    }


def _outcomes(entry: Mapping[str, Any], record: Mapping[str, Any], grounded: dict[str, float] | None) -> set[str]:
    status = {scorer: found for scorer, (found, _) in entry["status"].items()}
    right = bool(grounded) and grounded["plan_success"] == 100
    found = {
        "right": right,
        "not_right": bool(grounded) and not right and status["grounded"] == "ok",
        "format_error": status["grounded"] == "format_error",
        "official_format_error": status["official"] == "format_error",
        "official_score_error": status["official"] == "score_error",
        "cut_by_length": record.get("stop") == "length",
    }
    return {name for name, is_so in found.items() if is_so}
