"""An answer's steps beside those of the ground truth, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from leap.plans.diagnosis import Diagnosis
from leap.plans.reading import Step

MOST_ROWS = 60  # a model that never stops may write thousands of steps

# [index in the ground truth or None, index in the answer or None, what is wrong as error labels; none: equal]
Pairing = tuple[int | None, int | None, list[str]]


def pairings(true: Sequence[Step], diagnosis: Diagnosis, order_independent: bool) -> list[Pairing]:
    """The pairs of a diagnosis with what is wrong in each. A step that is right but out of turn is wrong_order; where
    sub-tasks may come in any order, no single step is."""
    moved = set() if order_independent or "wrong_order" not in diagnosis.labels else _out_of_turn(diagnosis)
    return [(i, j, _marks(true, diagnosis.steps, i, j, moved)) for i, j in diagnosis.pairs]


def as_lists(steps: Sequence[Step]) -> list[list[int | str | None]]:
    """Steps as [skill, entity, container]."""
    return [[step.skill, step.entity, step.container] for step in steps]


def _marks(
    true: Sequence[Step], plan: Sequence[Step], i: int | None, j: int | None, moved: set[tuple[int, int]]
) -> list[str]:
    if j is None:
        return ["missing_step"]
    if i is None:
        return ["extra_step"]
    if true[i].skill != plan[j].skill:
        return ["wrong_skill"]
    wrong = {
        "wrong_entity": true[i].entity != plan[j].entity,
        "wrong_container": true[i].container != plan[j].container,
        "wrong_order": (i, j) in moved,
    }
    return [mark for mark, is_wrong in wrong.items() if is_wrong]


def _out_of_turn(diagnosis: Diagnosis) -> set[tuple[int, int]]:
    """The pairs outside a longest run of pairs whose steps come in one order in both plans."""
    pairs = sorted((i, j) for i, j in diagnosis.pairs if i is not None and j is not None)
    runs: list[list[tuple[int, int]]] = []  # the longest run that ends with each pair
    for pair in pairs:
        longest = max((run for run in runs if run[-1][1] < pair[1]), key=len, default=[])
        runs.append([*longest, pair])
    longest = max(runs, key=len, default=[])
    return set(pairs) - set(longest)
