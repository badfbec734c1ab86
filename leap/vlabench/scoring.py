"""Scores of one answer: `official`, equal to VLABench's own code quirks included, and `grounded` beside it.

Pure Python. The official rules are those of VLABench/evaluation/utils.py at commit 47b04bf and are not to be improved
here; what is wrong with them (string ids never match, no penalty for extra items, a total that tops out at 80) is
mended in `grounded`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from leap.plans import TARGETS, FormatError, Step, pieces, read_official, read_tolerant, steps_of, subtasks

OFFICIAL_METRICS = (
    "skill_match_score",
    "entity_match_score",
    "skill_with_entity_match_score",
    "exact_match_score",
    "total_score",
)
GROUNDED_METRICS = (*OFFICIAL_METRICS, "plan_success", "edit_similarity", "precision")

# The tasks whose sub-tasks may come in any order (VLABench/configs/evaluation/seq_independent_task.json).
ORDER_INDEPENDENT_TASKS = frozenset({"cook_dishes", "texas_holdem"})

_WEIGHTS = {
    "skill_match_score": 0.4,
    "entity_match_score": 0.4,
    "skill_with_entity_match_score": 0.1,
    "exact_match_score": 0.1,
}


@dataclass(frozen=True)
class Score:
    """`status` is ok, format_error (no plan in the text) or score_error (a plan the scorer cannot read); `scores` are
    0 to 100 by metric; `reason` says why the status is not ok."""

    status: str
    scores: dict[str, float]
    reason: str = ""


def score_official(text: str, ground_truth: list, order_independent: bool) -> Score:
    """Score an answer as VLABench does. Never raises: anything its scorer would trip over gives zeros."""
    try:
        predicted = read_official(text)
    except FormatError as error:
        return Score("format_error", dict.fromkeys(OFFICIAL_METRICS, 0), str(error))
    return score_official_sequence(predicted, ground_truth, order_independent)


def score_official_sequence(predicted: Any, ground_truth: list, order_independent: bool) -> Score:
    """Score an already decoded skill sequence as VLABench does, whatever JSON value it is."""
    try:
        names_true, names = [item["name"] for item in ground_truth], [item["name"] for item in predicted]
        skill = _recall(names_true, names)
        entity = _recall(_entities(ground_truth), _entities(predicted))
        joint = _recall(_triples(ground_truth), _triples(predicted))
        nodes_true, nodes = _nodes(ground_truth, names_true), _nodes(predicted, names)
        exact = 100 * _matched_nodes(nodes_true, nodes, order_independent) / len(nodes_true)
    except Exception as error:
        return Score("score_error", dict.fromkeys(OFFICIAL_METRICS, 0), f"{type(error).__name__}: {error}"[:200])
    # The official sum walks a dictionary that holds only the first two of its four weighted terms.
    total = _WEIGHTS["skill_match_score"] * skill + _WEIGHTS["entity_match_score"] * entity
    return Score("ok", dict(zip(OFFICIAL_METRICS, (skill, entity, joint, exact, total), strict=True)))


def score_grounded(text: str, ground_truth: list, order_independent: bool, with_cot: bool = False) -> Score:
    """Score an answer by what it means: tolerant reading, canonical ids, all four terms (100 is reachable), and beside
    the five official names `plan_success` (whole plan equal), `edit_similarity` and `precision`.

    Raises FormatError if the ground truth itself is no skill list.
    """
    return score_against_steps(text, steps_of(ground_truth), order_independent, with_cot)


def score_against_steps(text: str, true: list[Step], order_independent: bool, with_cot: bool = False) -> Score:
    """As `score_grounded`, against a ground truth that was read already."""
    try:
        steps = read_tolerant(text, last=with_cot)
    except FormatError as error:
        return Score("format_error", dict.fromkeys(GROUNDED_METRICS, 0.0), str(error))
    names_true, names = [step.skill for step in true], [step.skill for step in steps]
    plan_true, plan = [_as_item(step) for step in true], [_as_item(step) for step in steps]
    nodes_true, nodes = _nodes(plan_true, names_true), _nodes(plan, names)
    scores = {
        "skill_match_score": _recall(names_true, names),
        "entity_match_score": _recall(_entities(plan_true), _entities(plan)),
        "skill_with_entity_match_score": _recall(true, steps),
        "exact_match_score": (
            100 * _matched_nodes(nodes_true, nodes, order_independent) / len(nodes_true) if nodes_true else 0.0
        ),
    }
    scores["total_score"] = sum(weight * scores[name] for name, weight in _WEIGHTS.items())
    scores["plan_success"] = 100.0 if _same_plan(true, steps, order_independent) else 0.0
    scores["edit_similarity"] = 100 * (1 - _edit_distance(true, steps) / max(len(true), len(steps)))
    scores["precision"] = _recall(steps, true)
    return Score("ok", scores)


def _recall(wanted: Iterable[Any], found: Iterable[Any]) -> float:
    wanted, found = Counter(wanted), Counter(found)
    total = sum(wanted.values())
    return sum((wanted & found).values()) / total * 100 if total else 0


def _entities(plan: list[dict]) -> list[tuple[str, Any]]:
    return [(t, item["params"].get(t)) for item in plan for t in TARGETS if item["params"].get(t) is not None]


def _triples(plan: list[dict]) -> list[tuple]:
    return [(item["name"], *(item["params"].get(target) for target in TARGETS)) for item in plan]


def _nodes(plan: list[dict], names: list[Any]) -> list[tuple]:
    """The sub-tasks of a plan as (pattern, last entity, last container)."""
    nodes = []
    for start, end in subtasks(names):
        targets = []
        for target in TARGETS:
            given = [item["params"].get(target) for item in plan[start:end]]
            targets.append(next((value for value in reversed(given) if value is not None), None))
        nodes.append((tuple(names[start:end]), *targets))
    return nodes


def _matched_nodes(true: list[tuple], found: list[tuple], order_independent: bool) -> int:
    """Ground-truth nodes that find an equal, unused node with equal predecessors.

    Order-independent plans are stars around START: every node has that one predecessor. Others are chains: the i-th
    node can only match the i-th, and the node before it must be equal too.
    """
    if order_independent:
        unused, matched = list(found), 0
        for node in true:
            if node in unused:
                unused.remove(node)
                matched += 1
        return matched
    equal = [a == b for a, b in zip(true, found, strict=False)]
    return sum(now and before for now, before in zip(equal, [True, *equal], strict=False))


def _as_item(step: Step) -> dict:
    return {"name": step.skill, "params": dict(zip(TARGETS, (step.entity, step.container), strict=True))}


def _same_plan(true: list[Step], steps: list[Step], order_independent: bool) -> bool:
    if not order_independent:
        return true == steps
    cut = [Counter(tuple(plan[a:b]) for a, b in pieces([step.skill for step in plan])) for plan in (true, steps)]
    return cut[0] == cut[1]


def _edit_distance(a: list, b: list) -> int:
    """Levenshtein distance between two sequences of steps."""
    previous = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        current = [i]
        for j, right in enumerate(b, 1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]
