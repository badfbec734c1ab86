"""What is wrong with an answer, in words: one or more of ERROR_LABELS, from an alignment of its steps with the ground
truth's.

An answer is read as the grounded scorer reads it, so that ids "3" count as 3, and one that scores plan_success has no
label but perhaps `ids_as_strings`.

unparsable        the text holds no skill list; the only label then
ids_as_strings    ids were written as strings ("3"), which VLABench's own scorer never matches; alone, the plan is right
wrong_skill       a step has another skill than its counterpart
wrong_entity      the skill is right, target_entity_name is not
wrong_container   the skill is right, target_container_name is not
wrong_order       a step of the ground truth is there, but not in its turn
missing_step      a step of the ground truth has no counterpart
extra_step        a step of the answer has no counterpart
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from leap.plans.reading import SKILLS, FormatError, Plan, Step, pieces, read_plan, steps_of

ERROR_LABELS = (
    "unparsable",
    "ids_as_strings",
    "wrong_skill",
    "wrong_entity",
    "wrong_container",
    "wrong_order",
    "missing_step",
    "extra_step",
)

# Between their common beginning and end, this many steps of both plans are aligned (or sub-tasks, where those may come
# in any order). What comes after is missing, extra or out of turn. Ground truth has 10 steps at most; a model that
# never stops may write thousands.
MOST_STEPS = 200
MOST_SUBTASKS = 50

# Costs of an alignment. A pair, however different, is cheaper than a gap on both sides: two steps in one place are a
# wrong step and not a missing and an extra one. A wrong skill costs more than wrong targets, as two steps of one skill
# are more alike than two on one object.
_GAP = 3
_ONE_TARGET, _BOTH_TARGETS, _SKILL, _EVERYTHING = 2, 3, 4, 5

StepPair = tuple[int | None, int | None]


@dataclass(frozen=True)
class Diagnosis:
    """`labels` in the order of ERROR_LABELS; `steps` of the answer, () if unparsable; `pairs` align the ground truth's
    steps with the answer's by index: (i, j), (i, None) missing, (None, j) extra. In reading order: the ground truth's
    steps one after another, an extra step behind the answer's step before it."""

    labels: tuple[str, ...]
    steps: tuple[Step, ...]
    pairs: tuple[StepPair, ...]

    @property
    def correct(self) -> bool:
        """Whether the plan is right, however its ids are written."""
        return not set(self.labels) - {"ids_as_strings"}


def diagnose(text: str, ground_truth: list[dict], *, order_independent: bool) -> Diagnosis:
    """Compare an answer with the ground truth. Never raises for the answer; FormatError for the ground truth."""
    true = steps_of(ground_truth)
    try:
        plan = read_plan(text)
    except FormatError:
        plan = None
    return diagnose_plan(plan, true, order_independent=order_independent)


def diagnose_plan(plan: Plan | None, true: Sequence[Step], *, order_independent: bool) -> Diagnosis:
    """As `diagnose`, for an answer and a ground truth that were read already; None is an unparsable answer.

    Where sub-tasks may come in any order (`order_independent`), a plan with the right ones has no wrong_order; one that
    takes the steps of a sub-task apart has.
    """
    if plan is None:
        return Diagnosis(("unparsable",), (), tuple((i, None) for i in range(len(true))))
    answer = plan.steps
    pairs, moved = _aligned(true, answer, order_independent=order_independent)
    labels = {label for pair in pairs for label in _labels(true, answer, pair)}
    if plan.ids_as_strings:
        labels.add("ids_as_strings")
    if moved:
        labels.add("wrong_order")
    return Diagnosis(tuple(label for label in ERROR_LABELS if label in labels), tuple(answer), tuple(_reading(pairs)))


def skill_pairs(true: Sequence[Step], diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """(true skill, predicted skill) for each step of the ground truth; none for an answer without a plan.

    Where the step has no counterpart "missing" is predicted, "other" for a name that is no skill of the benchmark.
    """
    if "unparsable" in diagnosis.labels:
        return []
    pairs = [(true[i].skill, j) for i, j in diagnosis.pairs if i is not None]
    names = ["missing" if j is None else diagnosis.steps[j].skill for _, j in pairs]
    return [
        (skill, name if name in SKILLS or j is None else "other") for (skill, j), name in zip(pairs, names, strict=True)
    ]


def skill_confusion(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """{true skill: {predicted skill: count}} of the `skill_pairs` of all answers."""
    counts = Counter(pairs)
    order = (*SKILLS, "other", "missing")
    table: dict[str, dict[str, int]] = {}
    for skill, name in sorted(counts, key=lambda pair: [order.index(n) if n in order else len(order) for n in pair]):
        table.setdefault(skill, {})[name] = counts[skill, name]
    return table


def _labels(true: Sequence[Step], answer: Sequence[Step], pair: StepPair) -> list[str]:
    i, j = pair
    if j is None:
        return ["missing_step"]
    if i is None:
        return ["extra_step"]
    expected, actual = true[i], answer[j]
    if expected == actual:
        return []
    if expected.skill != actual.skill:
        return ["wrong_skill"]
    wrong = {
        "wrong_entity": expected.entity != actual.entity,
        "wrong_container": expected.container != actual.container,
    }
    return [label for label, is_wrong in wrong.items() if is_wrong]


def _aligned(true: Sequence[Step], answer: Sequence[Step], *, order_independent: bool) -> tuple[list[StepPair], bool]:
    """Pairs of all steps, and whether one is out of turn.

    An alignment of least cost keeps the order, so a step that came too early or late is left alone in it twice, as
    missing and as extra. Hence:
    1. cut both plans into blocks that are aligned apart: the whole plans, or sub-tasks that may come in any order (what
       is left of both if the answer took sub-tasks apart, so that their steps stand in a wrong order);
    2. align each block;
    3. pair equal steps that the alignment left alone: they are out of turn;
    4. align what is left once more, between the equal steps that stay in their places.
    """
    if true == answer:
        return [(i, i) for i in range(len(true))], False
    blocks = (
        _blocks(true, answer) if order_independent else [_Block(range(len(true)), range(len(answer)), ordered=True)]
    )
    by_block = [_align(true, answer, block.true, block.answer) for block in blocks]
    equal = [[(i, j) for i, j in pairs if _is_equal(true, answer, i, j)] for pairs in by_block]
    # Two sub-tasks that exchanged a target name the wrong ones: in a plan without order nothing came too early.
    in_turn = [same if block.ordered else pairs for block, pairs, same in zip(blocks, by_block, equal, strict=True)]
    paired = [(i, j) for pairs in in_turn for i, j in pairs if i is not None and j is not None]
    moved = _moved(true, answer, {i for i, _ in paired}, {j for _, j in paired})
    if not moved:
        taken_apart = order_independent and any(block.ordered for block in blocks)
        return [pair for pairs in by_block for pair in pairs], taken_apart
    # The counterparts of the moved steps are free again: align what is left between the steps that stay.
    moved_i, moved_j = {i for i, _ in moved}, {j for _, j in moved}
    pairs: list[StepPair] = list(moved)
    for block, anchors in zip(blocks, equal, strict=True):
        pairs += anchors
        rest_i, rest_j = deque(block.true), deque(block.answer)
        for anchor_i, anchor_j in [*anchors, (None, None)]:
            between_i = [i for i in _until(rest_i, anchor_i) if i not in moved_i]
            between_j = [j for j in _until(rest_j, anchor_j) if j not in moved_j]
            pairs += _align(true, answer, between_i, between_j)
    return pairs, True


def _until(rest: deque[int], stop: int | None) -> list[int]:
    """Take the indices before `stop` off the front, and `stop` itself; all of them for None."""
    taken = []
    while rest:
        index = rest.popleft()
        if index == stop:
            break
        taken.append(index)
    return taken


def _is_equal(true: Sequence[Step], answer: Sequence[Step], i: int | None, j: int | None) -> bool:
    return i is not None and j is not None and true[i] == answer[j]


def _moved(
    true: Sequence[Step], answer: Sequence[Step], paired_i: set[int], paired_j: set[int]
) -> list[tuple[int, int]]:
    """Equal steps that the alignment left without each other, first with first."""
    unpaired: dict[Step, deque[int]] = defaultdict(deque)
    for j, step in enumerate(answer):
        if j not in paired_j:
            unpaired[step].append(j)
    return [(i, unpaired[step].popleft()) for i, step in enumerate(true) if i not in paired_i and unpaired.get(step)]


def _align(
    true: Sequence[Step], answer: Sequence[Step], block_i: Sequence[int], block_j: Sequence[int]
) -> list[StepPair]:
    """An alignment of least cost that keeps the order, of the steps at these indices.

    Equal steps at both ends are paired first: they cost nothing, and a table of long plans is quadratic.
    """
    block_i, block_j = list(block_i), list(block_j)
    shorter = min(len(block_i), len(block_j))
    start = next((k for k in range(shorter) if true[block_i[k]] != answer[block_j[k]]), shorter)
    ends = range(shorter - start)
    end = next((k for k in ends if true[block_i[-1 - k]] != answer[block_j[-1 - k]]), len(ends))
    middle_i, middle_j = block_i[start : len(block_i) - end], block_j[start : len(block_j) - end]
    pairs: list[StepPair] = list(zip(block_i[:start], block_j[:start], strict=True))
    a, b = middle_i[:MOST_STEPS], middle_j[:MOST_STEPS]
    pairs += [
        (None if i is None else a[i], None if j is None else b[j])
        for i, j in _cheapest([true[i] for i in a], [answer[j] for j in b])[1]
    ]
    pairs += [(i, None) for i in middle_i[MOST_STEPS:]] + [(None, j) for j in middle_j[MOST_STEPS:]]
    return pairs + list(zip(block_i[len(block_i) - end :], block_j[len(block_j) - end :], strict=True))


def _cheapest(a: Sequence[Step], b: Sequence[Step]) -> tuple[int, list[StepPair]]:
    """(cost, pairs) of an alignment of least cost; of several, one with pairs as early as can be.

    Global alignment by dynamic programming (Needleman and Wunsch 1970) with the costs of _cost and _GAP. costs[i][j] is
    that of aligning a[i:] with b[j:]: filled from the ends, it lets the way back be read from the first step on.
    """
    if not a or not b:
        return _GAP * (len(a) + len(b)), [(i, None) for i in range(len(a))] + [(None, j) for j in range(len(b))]
    costs = [[_GAP * (len(b) - j) for j in range(len(b) + 1)]]  # the row of a[len(a):]
    for i, step in enumerate(reversed(a), 1):
        below, row = costs[-1], [0] * len(b) + [_GAP * i]
        for j in range(len(b) - 1, -1, -1):
            row[j] = min(below[j + 1] + _cost(step, b[j]), below[j] + _GAP, row[j + 1] + _GAP)
        costs.append(row)
    costs.reverse()
    pairs: list[StepPair] = []
    i = j = 0
    while i < len(a) and j < len(b):
        if costs[i][j] == costs[i + 1][j + 1] + _cost(a[i], b[j]):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif costs[i][j] == costs[i + 1][j] + _GAP:
            pairs.append((i, None))
            i += 1
        else:
            pairs.append((None, j))
            j += 1
    pairs += [(k, None) for k in range(i, len(a))] + [(None, k) for k in range(j, len(b))]
    return costs[0][0], pairs


def _cost(a: Step, b: Step) -> int:
    if a == b:
        return 0
    same = (a.entity == b.entity) + (a.container == b.container)
    if a.skill == b.skill:
        return _ONE_TARGET if same else _BOTH_TARGETS
    return _SKILL if same == 2 else _EVERYTHING


@dataclass(frozen=True)
class _Block:
    """Indices of steps of both plans that are aligned with each other; `ordered` if their order counts."""

    true: Sequence[int]
    answer: Sequence[int]
    ordered: bool = False


def _blocks(true: Sequence[Step], answer: Sequence[Step]) -> list[_Block]:
    """Sub-tasks of both plans: equal ones together, then those that fit best, the rest alone. Where the rest of the
    answer has the very steps of the rest of the ground truth, but cut into other sub-tasks, it is one block."""
    true_pieces, answer_pieces = (
        [range(*piece) for piece in pieces([step.skill for step in steps])] for steps in (true, answer)
    )
    equal: dict[tuple[Step, ...], deque[range]] = defaultdict(deque)
    for piece in answer_pieces:
        equal[tuple(answer[piece.start : piece.stop])].append(piece)
    blocks, left = [], []
    for piece in true_pieces:
        same = equal.get(tuple(true[piece.start : piece.stop]))
        if same:
            blocks.append(_Block(piece, same.popleft()))
        else:
            left.append(piece)
    spare = sorted((piece for same in equal.values() for piece in same), key=lambda piece: piece.start)
    left_i, spare_j = ([k for piece in cut for k in piece] for cut in (left, spare))
    if _same_members([true[i] for i in left_i], [answer[j] for j in spare_j]) and not _same_members(
        [tuple(true[i].skill for i in piece) for piece in left],
        [tuple(answer[j].skill for j in piece) for piece in spare],
    ):
        return [*blocks, _Block(left_i, spare_j, ordered=True)]
    fit = _best_fit(true, answer, left[:MOST_SUBTASKS], spare[:MOST_SUBTASKS])
    blocks += [_Block(left[a], spare[b]) for a, b in fit]
    fit_a, fit_b = {a for a, _ in fit}, {b for _, b in fit}
    blocks += [_Block(piece, range(0)) for a, piece in enumerate(left) if a not in fit_a]
    return blocks + [_Block(range(0), piece) for b, piece in enumerate(spare) if b not in fit_b]


def _same_members(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return Counter(a) == Counter(b)


def _best_fit(
    true: Sequence[Step], answer: Sequence[Step], left: Sequence[range], spare: Sequence[range]
) -> list[tuple[int, int]]:
    """The pairing of sub-tasks that saves most against leaving them alone: an assignment problem (Kuhn 1955)."""
    if not left or not spare:
        return []
    if len(left) == len(spare) == 1:
        return [(0, 0)]
    from scipy.optimize import linear_sum_assignment

    saved = [
        [_GAP * (len(a) + len(b)) - _cheapest(true[a.start : a.stop], answer[b.start : b.stop])[0] for b in spare]
        for a in left
    ]
    return [(int(a), int(b)) for a, b in zip(*linear_sum_assignment(saved, maximize=True), strict=True)]


def _reading(pairs: Sequence[StepPair]) -> list[StepPair]:
    """Pairs in reading order."""
    if all(None not in pair for pair in pairs):
        return sorted(pairs)
    behind: dict[int, list[StepPair]] = defaultdict(list)  # extra steps, by the answer's step before them that is none
    previous = -1
    true_index = {j: i for i, j in pairs if j is not None}
    for j in sorted(true_index):
        if true_index[j] is None:
            behind[previous].append((None, j))
        else:
            previous = j
    ordered = list(behind[-1])
    for i, place in sorted(((i, j) for i, j in pairs if i is not None), key=lambda pair: pair[0]):
        ordered.append((i, place))
        if place is not None:
            ordered += behind[place]
    return ordered
