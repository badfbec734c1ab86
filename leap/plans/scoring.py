"""Scores of one answer: `official`, equal to VLABench's own code quirks included, and `grounded` beside it.

Pure Python. The official rules are those of VLABench/evaluation/utils.py at commit 47b04bf and are not to be improved
here; what is wrong with them (string ids never match, no penalty for extra items, a total that tops out at 80) is
mended in `grounded`. Sums are taken in the official order, so that they are equal to the last bit. Traps of the
official code that are kept:
- ids match by Python's equality: "1" is not 1, but 1.0 and true are;
- in the chain of sub-tasks a node counts only if the node before it is right too: one wrong node costs two;
- a sub-task keeps its last entity and its last container only (`_nodes`), and items that fit no pattern vanish;
- a ground truth without any sub-task divides by zero, which gives zeros as any other exception does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from leap.plans.reading import TARGETS, FormatError, Step, pieces, read_official, read_tolerant, steps_of, subtasks

OFFICIAL_METRICS = (
    "skill_match_score",
    "entity_match_score",
    "skill_with_entity_match_score",
    "exact_match_score",
    "total_score",
)
TOPS = {"official": 80, "grounded": 100}  # best total score

# Raised when a scorer gives other numbers for an answer; summary.json says which one scored it. Version 1 of `grounded`
# took recalls where version 2 takes F1, and the first plan in an answer where version 2 takes the last.
SCORER_VERSIONS = {"official": 1, "grounded": 2}

# The tasks whose sub-tasks may come in any order (VLABench/configs/evaluation/seq_independent_task.json).
ORDER_INDEPENDENT_TASKS = frozenset({"cook_dishes", "texas_holdem"})

WEIGHTS = {
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


def score_official(text: str, ground_truth: list, *, order_independent: bool) -> Score:
    """Score an answer as VLABench does. Never raises: anything its scorer would trip over gives zeros.

    Differs from VLABench in one thing: JSON nested deeper than leap.plans.reading.MOST_NESTING is a format error.
    """
    try:
        predicted = read_official(text)
    except FormatError as error:
        return no_plan("official", str(error))
    return score_official_sequence(predicted, ground_truth, order_independent=order_independent)


def score_official_sequence(predicted: Any, ground_truth: list, *, order_independent: bool) -> Score:
    """Score an already decoded skill sequence as VLABench does, whatever JSON value it is."""
    try:
        plan_true, plan = _columns(ground_truth), _columns(predicted)
        skill, entity, joint = _recalls(plan_true, plan)
        nodes_true, nodes = _nodes(*plan_true), _nodes(*plan)
        exact = _matched_nodes(nodes_true, nodes, order_independent=order_independent) / len(nodes_true) * 100
    except Exception as error:
        return Score("score_error", dict.fromkeys(OFFICIAL_METRICS, 0), f"{type(error).__name__}: {error}"[:200])
    # The official sum walks a dictionary that holds only the first two of its four weighted terms.
    total = WEIGHTS["skill_match_score"] * skill + WEIGHTS["entity_match_score"] * entity
    return Score("ok", dict(zip(OFFICIAL_METRICS, (skill, entity, joint, exact, total), strict=True)))


def score_grounded(text: str, ground_truth: list, *, order_independent: bool) -> Score:
    """Score an answer by what it means: the plan that it finally gives, canonical ids, and all four terms, each an F1
    of precision and recall. Beside the five official names stand `plan_success` (whole plan equal), `edit_similarity`,
    and `precision` and `recall` of steps.

    Raises FormatError if the ground truth itself is no skill list.
    """
    return score_against_steps(text, steps_of(ground_truth), order_independent=order_independent)


def score_against_steps(text: str, true: list[Step], *, order_independent: bool) -> Score:
    """As `score_grounded`, against a ground truth that was read already."""
    try:
        steps = read_tolerant(text)
    except FormatError as error:
        return no_plan("grounded", str(error))
    return score_steps(steps, true, order_independent=order_independent)


def no_plan(scorer: str, reason: str) -> Score:
    """The score, by either scorer, of an answer that holds no plan."""
    return Score("format_error", dict.fromkeys(METRICS[scorer], 0.0), reason)


def score_steps(steps: list[Step], true: list[Step], *, order_independent: bool) -> Score:
    """As `score_grounded`, for an answer and a ground truth that were read already."""
    nodes_true, nodes = _grounded_nodes(true), _grounded_nodes(steps)
    matched = _matched_nodes(nodes_true, nodes, order_independent=order_independent)
    scores = {
        "skill_match_score": _f1([step.skill for step in true], [step.skill for step in steps]),
        "entity_match_score": _f1(_named_targets(true), _named_targets(steps)),
        "skill_with_entity_match_score": _f1(true, steps),
        "exact_match_score": 200 * matched / (len(nodes_true) + len(nodes)),
    }
    scores["total_score"] = sum(weight * scores[name] for name, weight in WEIGHTS.items())
    scores |= {name: metric(true, steps, order_independent) for name, metric in EXTRA_METRICS.items()}
    return Score("ok", scores)


def _hits(expected: Iterable[Any], items: Iterable[Any]) -> int:
    """How many members two multisets have in common."""
    left: dict[Any, int] = {}
    for item in items:
        left[item] = left.get(item, 0) + 1
    hits = 0
    for item in expected:
        if left.get(item, 0):
            left[item] -= 1
            hits += 1
    return hits


def _recall(expected: Sequence[Any], items: Iterable[Any]) -> float:
    """How much of one multiset is in another, 0 to 100; 0 if there is nothing to find."""
    hits = _hits(expected, items)
    return hits / len(expected) * 100 if expected else 0


def _f1(expected: Sequence[Any], items: Sequence[Any]) -> float:
    """The harmonic mean of precision and recall of two multisets, 0 to 100; 100 if both are empty, as with the targets
    of a plan that names none."""
    size = len(expected) + len(items)
    return 200 * _hits(expected, items) / size if size else 100.0


def _named_targets(steps: Iterable[Step]) -> list[tuple[int, int | str]]:
    """Entities and containers apart, as (which of them, id)."""
    return [(kind, id) for step in steps for kind, id in enumerate(step[1:]) if id is not None]


def _columns(plan: Any) -> tuple[list[Any], list[tuple]]:
    """A decoded plan as its skill names and their (entity, container). Raises whatever VLABench's scorer would."""
    return [item["name"] for item in plan], [tuple(map(item["params"].get, TARGETS)) for item in plan]


def _recalls(true: tuple[list[Any], list[tuple]], plan: tuple[list[Any], list[tuple]]) -> tuple[float, float, float]:
    """Recall of skills, of targets (entities and containers apart), and of both together."""
    entities = [
        [(kind, value) for pair in targets for kind, value in enumerate(pair) if value is not None]
        for _, targets in (true, plan)
    ]
    joint = [list(zip(*columns, strict=True)) for columns in (true, plan)]
    return _recall(true[0], plan[0]), _recall(*entities), _recall(*joint)


def _grounded_nodes(steps: Sequence[Step]) -> list[tuple]:
    """The sub-tasks of a plan, and its steps that fit in none as sub-tasks of their own: they cost precision."""
    names, targets = [step.skill for step in steps], [step[1:] for step in steps]
    return [node for a, b in pieces(names) for node in _nodes(names[a:b], targets[a:b]) or [steps[a]]]


def _nodes(names: list[Any], targets: list[tuple]) -> list[tuple]:
    """The sub-tasks of a plan as (pattern, last entity, last container)."""
    nodes = []
    for start, end in subtasks(names):
        entity = container = None
        for next_entity, next_container in targets[start:end]:
            entity = entity if next_entity is None else next_entity
            container = container if next_container is None else next_container
        nodes.append((tuple(names[start:end]), entity, container))
    return nodes


def _matched_nodes(true: list[tuple], nodes: list[tuple], *, order_independent: bool) -> int:
    """Ground-truth nodes that find an equal, unused node with equal predecessors.

    The official code builds a graph from START and walks both graphs layer by layer. Its graphs have two shapes only,
    for which the walk comes down to this. Order-independent plans are stars around START: every node has that one
    predecessor. Others are chains, where the i-th node can only match the i-th, and the node before it must be equal.
    """
    if order_independent:
        unused, matched = list(nodes), 0
        for node in true:
            if node in unused:
                unused.remove(node)
                matched += 1
        return matched
    equal = [a == b for a, b in zip(true, nodes, strict=False)]
    return sum(is_equal and after_equal for is_equal, after_equal in zip(equal, [True, *equal], strict=False))


def same_plan(true: list[Step], steps: list[Step], *, order_independent: bool) -> bool:
    """Whether two plans are equal, up to the order of sub-tasks where the task leaves it free."""
    if not order_independent:
        return true == steps
    cut = [Counter(tuple(plan[a:b]) for a, b in pieces([step.skill for step in plan])) for plan in (true, steps)]
    return cut[0] == cut[1]


def _edit_distance(a: list, b: list) -> int:
    """Levenshtein distance between two sequences of steps (Wagner and Fischer 1974), row by row."""
    if a == b:
        return 0
    previous = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        current = [i]
        for j, right in enumerate(b, 1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]


# Grounded metrics beside the official names: a function of the true steps, the plan's steps, and whether the task
# leaves the order of its sub-tasks free; 0 to 100. A new one is an entry here and its words in leap/plans/measures.py.
EXTRA_METRICS: dict[str, Callable[[list[Step], list[Step], bool], float]] = {
    "plan_success": lambda true, steps, free: 100.0 * same_plan(true, steps, order_independent=free),
    "edit_similarity": lambda true, steps, _: 100 * (1 - _edit_distance(true, steps) / max(len(true), len(steps))),
    "precision": lambda true, steps, _: _recall(steps, true),
    "recall": lambda true, steps, _: _recall(true, steps),
}
GROUNDED_METRICS = (*OFFICIAL_METRICS, *EXTRA_METRICS)
METRICS = {"official": OFFICIAL_METRICS, "grounded": GROUNDED_METRICS}
