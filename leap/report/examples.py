"""The examples of the page: what was asked, what is right, what each model answered and where it differs.

Two parts, so that a page of thousands of examples opens at once. The index has columns over all examples, in the order
of dimensions, tasks and numbers:

    {"models": [name], "flags": [name], "dimensions": [name], "titles": {dimension: for people},
     "tasks": [[name, dimension index]],
     "examples": {"task": [task index], "number": [], "instruction": [text or null], "steps": [ground-truth steps or
                  null], "pictures": [[plain, tagged]: picture index or -1]},
     "answers": [{"flags": [bits of FLAGS], "official": [total or null], "grounded": [total or null]} of each model],
     "details_an_island": EXAMPLES_AN_ISLAND,
     "looks": [[colour, shape] of each model, then of those of the blind review alone, by leap.pages.palette],
     "review": whether the page has a blind review}

Details are lists of `EXAMPLES_AN_ISLAND` entries, an entry an example, in the same order, each packed for itself, so
that a reader unpacks those of the examples that are looked at:

    {"truth": [[skill, entity, container]] or null, "problem": text or null, "prompts": [text],
     "answers": [of each model: null, {"failure": kind, "reason": text}, or
                 {"text", "cut": characters left out, "prompt": index or null, "new_tokens", "stop", "imported": bool,
                  "shots": [name], "pictures_from": name or null, "status": {scorer: [status, reason]},
                  "scores": {scorer: [value in the order of METRICS] or null}, "labels": [label],
                  "steps": [[skill, entity, container]], "rows": [leap.report.steps.Pairing] or null,
                  "more": rows left out}]}
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from configs.config import DIMENSION_TITLES, DIMENSIONS
from configs.errors import UserError
from leap.pages.page import packed
from leap.plans.diagnosis import ERROR_LABELS, Diagnosis, skill_confusion, skill_pairs
from leap.plans.reading import Step, steps_of
from leap.plans.scoring import METRICS, ORDER_INDEPENDENT_TASKS
from leap.progress import Progress
from leap.report.lengths import METRICS_BY_LENGTH, scores_by_length
from leap.report.steps import MOST_ROWS, as_lists, pairings
from leap.vlabench.examples import Example
from leap.vlabench.folder import AnswerRecord, ExampleKey, ResultFolder
from leap.vlabench.results import score_answer
from leap.vlabench.sampling import Origin

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

EXAMPLES_AN_ISLAND = 32  # few, so that one is shown at once; many, so that what they share is packed once
MOST_CHARACTERS = 20_000  # of one text; the journal has all of it


@dataclass(frozen=True)
class Examples:
    """`index` and packed `details` as above, without the pictures of the index: `pictures` are their paths, plain and
    tagged.

    `diagnoses` are {model: {dimension: counts in the form of a summary's "diagnosis"}} over answers that were compared,
    `lengths` are {model: their scores in the form of leap.report.lengths}.
    `absent` counts the examples that the benchmark folder lacks, `rescored` the answers whose grounded total differs
    from the one in the results.
    """

    index: dict[str, Any]
    details: list[str]
    pictures: list[tuple[Path | None, Path | None]]
    diagnoses: dict[str, dict[str, dict]]
    lengths: dict[str, dict[str, dict]]
    absent: int
    rescored: int


@dataclass(frozen=True)
class _Reference:
    """What the benchmark says about an example, as far as it can be read."""

    instruction: str | None = None
    truth: list[dict] | None = None
    steps: list[Step] = field(default_factory=list)
    problem: str | None = None
    pictures: tuple[Path | None, Path | None] = (None, None)
    absent: bool = False


@dataclass
class _Comparisons:
    """The answers of one model in one dimension that stand beside a ground truth."""

    answers: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    skills: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Of those that were scored: the example, the steps of its ground truth, the values of METRICS_BY_LENGTH.
    keys: list[ExampleKey] = field(default_factory=list)
    lengths: array[int] = field(default_factory=lambda: array("l"))
    values: tuple[array[float], ...] = field(default_factory=lambda: tuple(array("d") for _ in METRICS_BY_LENGTH))
    origins: dict[ExampleKey, Origin] = field(default_factory=dict)

    def add(self, true: Sequence[Step], diagnosis: Diagnosis) -> None:
        self.answers += 1
        self.labels.update(diagnosis.labels)
        self.skills.update(skill_pairs(true, diagnosis))

    def add_scores(self, key: ExampleKey, length: int, grounded: Mapping[str, float], origin: Origin) -> None:
        self.keys.append(key)
        self.lengths.append(length)
        for name, values in zip(METRICS_BY_LENGTH, self.values, strict=True):
            values.append(grounded[name])
        self.origins[key] = origin

    def scores(self) -> dict[int, dict[ExampleKey, dict[str, float]]]:
        """METRICS_BY_LENGTH of each example, by the length of its ground truth."""
        by_length: dict[int, dict[ExampleKey, dict[str, float]]] = defaultdict(dict)
        for key, length, *values in zip(self.keys, self.lengths, *self.values, strict=True):
            by_length[length][key] = dict(zip(METRICS_BY_LENGTH, values, strict=True))
        return by_length

    def counts(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "labels": {label: self.labels[label] for label in ERROR_LABELS},
            "confusion": skill_confusion(self.skills.elements()),
            "by_length": {
                str(length): {
                    "examples": len(scores),
                    **{name: fmean(entry[name] for entry in scores.values()) for name in METRICS_BY_LENGTH},
                }
                for length, scores in sorted(self.scores().items())
            },
        }


def collect_examples(results: Path, models: Sequence[str], benchmark: Path | None) -> Examples:
    """Every example that one of `models` was asked. Without a `benchmark` (None) they have no instruction, ground truth
    and pictures."""
    builder = _Builder(list(models))
    for dimension in DIMENSIONS:
        folders = {model: ResultFolder(results / dimension / model) for model in models}  # one dimension's at a time
        keys = sorted({key for folder in folders.values() for key in (*folder.answers, *folder.failures)})
        if keys:
            with Progress(f"comparing plans, {dimension}", len(keys), "example") as progress:
                for key in keys:
                    builder.add(dimension, key, _reference(benchmark, dimension, key), folders)
                    progress.advance()
    return builder.finish()


def _reference(benchmark: Path | None, dimension: str, key: ExampleKey) -> _Reference:
    if benchmark is None:
        return _Reference()
    task, number = key
    example = Example(dimension, task, number, benchmark / dimension / task / f"example{number}")
    if not example.folder.is_dir():
        return _Reference(problem=f"the benchmark folder has no {dimension}/{task}/example{number}", absent=True)
    problems: list[str] = []
    instruction = _or_none(example.instruction, problems)
    truth = _or_none(example.ground_truth, problems)
    plain, tagged = (path if path.is_file() else None for path in (example.plain_image, example.tagged_image))
    problem = "; ".join(problems) or None
    steps = steps_of(truth) if truth else []
    return _Reference(instruction and instruction.strip(), truth, steps, problem, (plain, tagged))


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
        self.answers: list[dict[str, list]] = [{"flags": [], "official": [], "grounded": []} for _ in models]
        self.details: list[str] = []
        self.entries: list[dict] = []  # of the details that are not packed yet
        self.origins: dict[tuple, Origin] = {}  # one object for those that are equal
        self.pictures: list[tuple[Path | None, Path | None]] = []
        self.comparisons: dict[str, dict[str, _Comparisons]] = {model: defaultdict(_Comparisons) for model in models}
        self.absent = self.rescored = 0

    def add(self, dimension: str, key: ExampleKey, reference: _Reference, folders: Mapping[str, ResultFolder]) -> None:
        """Add an example; those of a task come one after another."""
        task, number = key
        if not self.tasks or self.tasks[-1] != (task, DIMENSIONS.index(dimension)):
            self.tasks.append((task, DIMENSIONS.index(dimension)))
        self.absent += reference.absent
        row = (len(self.tasks) - 1, number, reference.instruction, len(reference.steps) or None)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(value)
        self.pictures.append(reference.pictures)
        prompts: list[str] = []
        entries = []
        entry: dict | None
        for model, columns in zip(self.models, self.answers, strict=True):
            folder = folders[model]
            scores = {scorer: folder.scores(scorer).get(key) for scorer in METRICS}
            if key in folder.answers:
                comparisons = self.comparisons[model][dimension]
                entry, flags = self._answer(folder, key, reference, comparisons, prompts, scores)
            else:
                entry, flags = _unanswered(folder, key)
            columns["flags"].append(sum(1 << FLAGS.index(flag) for flag in flags))
            for scorer, values in scores.items():
                columns[scorer].append(round(values["total_score"], 2) if values else None)
            entries.append(entry)
        self.entries.append(
            {
                "truth": as_lists(reference.steps) or None,
                "problem": reference.problem,
                "prompts": [prompt[:MOST_CHARACTERS] for prompt in prompts],
                "answers": entries,
            }
        )
        if len(self.entries) == EXAMPLES_AN_ISLAND:
            self._pack()

    def _pack(self) -> None:
        if self.entries:
            self.details.append(packed(self.entries))
            self.entries = []

    def _answer(
        self,
        folder: ResultFolder,
        key: ExampleKey,
        reference: _Reference,
        comparisons: _Comparisons,
        prompts: list[str],
        scores: Mapping[str, dict[str, float] | None],
    ) -> tuple[dict, set[str]]:
        """One model's entry of the details, and its flags."""
        answer = folder.answers[key]
        # The folder does not say why an answer could not be read, and the benchmark may have changed since.
        scored = score_answer(answer, reference.truth)
        entry = _journal_part(answer, prompts) | {
            "status": {scorer: [score.status, score.reason] for scorer, score in scored.scores.items()},
            "scores": {
                scorer: [round(values[name], 2) for name in METRICS[scorer]] if values else None
                for scorer, values in scores.items()
            },
            "labels": folder.labels.get(key, []),
            "steps": [],
            "rows": None,
            "more": 0,
        }
        if reference.truth:
            diagnosis, grounded = scored.diagnosis, scores["grounded"]
            rows = pairings(reference.steps, diagnosis, key[0] in ORDER_INDEPENDENT_TASKS)
            entry["labels"] = list(diagnosis.labels)
            entry["rows"], entry["more"] = rows[:MOST_ROWS], max(0, len(rows) - MOST_ROWS)
            listed = max((j for _, j, _ in entry["rows"] if j is not None), default=-1) + 1
            entry["steps"] = as_lists(diagnosis.steps[:listed])
            comparisons.add(reference.steps, diagnosis)
            if grounded:
                origin = folder.origins.get(key, {})
                shared = self.origins.setdefault(tuple(origin.items()), origin)
                comparisons.add_scores(key, len(reference.steps), grounded, shared)
                total = scored.scores["grounded"].scores["total_score"]
                self.rescored += abs(total - grounded["total_score"]) > 1e-6
        elif scored.plan:
            entry["steps"] = as_lists(scored.plan.steps[:MOST_ROWS])
        return entry, set(entry["labels"]) | _outcomes(entry, scores["grounded"])

    def finish(self) -> Examples:
        self._pack()
        index = {
            "models": self.models,
            "flags": FLAGS,
            "dimensions": DIMENSIONS,
            "titles": DIMENSION_TITLES,
            "tasks": self.tasks,
            "examples": self.columns,
            "answers": self.answers,
            "details_an_island": EXAMPLES_AN_ISLAND,
        }
        diagnoses = {
            model: {dimension: each.counts() for dimension, each in by_dimension.items() if each.answers}
            for model, by_dimension in self.comparisons.items()
        }
        lengths = {
            model: scores_by_length(
                {dimension: each.scores() for dimension, each in by_dimension.items()},
                {dimension: each.origins for dimension, each in by_dimension.items()},
            )
            for model, by_dimension in self.comparisons.items()
        }
        return Examples(index, self.details, self.pictures, diagnoses, lengths, self.absent, self.rescored)


def _unanswered(folder: ResultFolder, key: ExampleKey) -> tuple[dict | None, set[str]]:
    """The entry and flags of an example without an answer."""
    failure = folder.failures.get(key)
    if failure is None:
        return None, {"no_answer"}
    flag = "bad_example" if failure.kind == "data" else "machine_failure"
    return {"failure": failure.kind, "reason": failure.reason}, {flag}


def _journal_part(answer: AnswerRecord, prompts: list[str]) -> dict[str, Any]:
    """What the journal says; its prompt goes to `prompts` unless it is there already."""
    if answer.prompt is not None and answer.prompt not in prompts:
        prompts.append(answer.prompt)
    text = answer.readable_text
    return {
        "text": text[:MOST_CHARACTERS],
        "cut": max(0, len(text) - MOST_CHARACTERS),
        "prompt": None if answer.prompt is None else prompts.index(answer.prompt),
        "new_tokens": answer.new_tokens,
        "stop": answer.stop,
        "imported": answer.text is None,
        "shots": answer.shots,
        "pictures_from": answer.pictures_from,
    }


def _outcomes(entry: Mapping[str, Any], grounded: dict[str, float] | None) -> set[str]:
    status = {scorer: word for scorer, (word, _) in entry["status"].items()}
    right = bool(grounded and grounded["plan_success"] == 100)
    outcomes = {
        "right": right,
        "not_right": bool(grounded) and not right and status["grounded"] == "ok",
        "format_error": status["grounded"] == "format_error",
        "official_format_error": status["official"] == "format_error",
        "official_score_error": status["official"] == "score_error",
        "cut_by_length": entry["stop"] == "length",
    }
    return {name for name, is_so in outcomes.items() if is_so}
