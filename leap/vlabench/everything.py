"""The control that names everything: one plan with every kind of step on every object.

It never looks and is right about nothing, yet a score that only counts what a plan has finds all of it there. A score
that means something is near 0 for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from leap.files import sha256_json
from leap.models.answer import Answer
from leap.planners import Query, QueryResult
from leap.plans.reading import TARGETS, fenced
from leap.vlabench.constant import plans_of_benchmark
from leap.vlabench.options import EvaluationOptions


def open_planner(options: EvaluationOptions, folder: Path | None) -> EverythingPlanner:
    """Over the skills and ids of all tasks of the benchmark, whatever was selected."""
    return EverythingPlanner(plan for _, plan in plans_of_benchmark(options))


class EverythingPlanner:
    """Answers every prompt with each skill of the ground truth on each of its ids. It needs no model and no picture."""

    notes = ()

    def __init__(self, plans: Iterable[list[dict]]) -> None:
        """`plans` are the ground-truth skill sequences of all examples at hand."""
        self._plan = plan_of_everything(plans)

    def identity(self) -> dict[str, Any]:
        return {"planner": "everything", "plans_sha256": sha256_json(self._plan)}

    def batches(self, queries: Sequence[Query]) -> list[list[Query]]:
        return [list(queries)]

    def answer(self, batches: Iterable[Sequence[Query]]) -> Iterator[list[QueryResult]]:
        for batch in batches:
            yield [(query, Answer(fenced(self._plan), 0, "end")) for query in batch]


def plan_of_everything(plans: Iterable[list[dict]]) -> list[dict]:
    """Every skill, with the kinds of targets that some plan gives it, on every id that some plan names."""
    steps = [step for plan in plans for step in plan]
    named = [{key: step["params"][key] for key in TARGETS if step["params"].get(key) is not None} for step in steps]
    shapes = dict.fromkeys((step["name"], tuple(targets)) for step, targets in zip(steps, named, strict=True))
    ids = sorted({id for targets in named for id in targets.values()}, key=str)
    # A skill without targets is named as often as the others.
    return [{"name": name, "params": dict.fromkeys(keys, id)} for name, keys in shapes for id in ids]
