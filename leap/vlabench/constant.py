"""The control that never looks: one fixed plan a task, taken from the ground truth of the other tasks."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import sha256_json
from leap.models.answer import Answer
from leap.planners import Query, QueryResult
from leap.plans.reading import fenced
from leap.vlabench.examples import find_examples
from leap.vlabench.options import EvaluationOptions


def open_planner(options: EvaluationOptions, folder: Path | None) -> ConstantPlanner:
    """Drawn from all tasks of the benchmark, whatever was selected: it must not depend on what else is evaluated."""
    return ConstantPlanner(plans_of_benchmark(options))


def plans_of_benchmark(options: EvaluationOptions) -> list[tuple[str, list[dict]]]:
    """(task, ground-truth skill sequence) of all examples at hand. UserError without any."""
    dimensions = [dimension for dimension in DIMENSIONS if (options.data_path / dimension).is_dir()]
    plans = []
    for example in [e for examples in find_examples(options.data_path, dimensions).values() for e in examples]:
        with contextlib.suppress(UserError):  # one without a scorable plan is named by the evaluation itself
            plans.append((example.task, example.ground_truth()))
    if not plans:
        raise UserError(f"no ground truth in {options.data_path} to draw a constant plan from")
    return plans


class ConstantPlanner:
    """Answers every prompt of a task with the plan most frequent in the other tasks' ground truth.

    The skills are the most frequent sequence of skills there; each target is the id most frequent at its place in the
    plans with those skills. Ties go to the plan seen first. It needs no model and no picture.
    """

    notes = ()

    def __init__(self, plans: Iterable[tuple[str, list[dict]]]) -> None:
        """`plans` are (task, ground-truth skill sequence) of all examples at hand."""
        self._plans = list(plans)
        self._by_task: dict[str, str] = {}

    def identity(self) -> dict[str, Any]:
        return {"planner": "constant", "plans_sha256": sha256_json(self._plans)}

    def batches(self, queries: Sequence[Query]) -> list[list[Query]]:
        return [list(queries)]

    def answer(self, batches: Iterable[Sequence[Query]]) -> Iterator[list[QueryResult]]:
        for batch in batches:
            yield [(query, Answer(self._text(query.task), 0, "end")) for query in batch]

    def _text(self, task: str) -> str:
        if task not in self._by_task:
            others = [plan for name, plan in self._plans if name != task] or [plan for _, plan in self._plans]
            self._by_task[task] = fenced(most_frequent_plan(others))
        return self._by_task[task]


def most_frequent_plan(plans: Sequence[list[dict]]) -> list[dict]:
    """The most frequent shape (skills and which targets they name), filled with the most frequent id of each place."""
    shape, _ = Counter(_shape(plan) for plan in plans).most_common(1)[0]
    alike = [plan for plan in plans if _shape(plan) == shape]
    return [
        {
            "name": name,
            "params": {key: Counter(plan[i]["params"][key] for plan in alike).most_common(1)[0][0] for key in keys},
        }
        for i, (name, keys) in enumerate(shape)
    ]


def _shape(plan: list[dict]) -> tuple:
    return tuple((item["name"], tuple(item["params"])) for item in plan)
