"""The reference judge: a plan's actions matched with those of the reference, on the four scales. No model, no endpoint.

Plan and reference become actions (leap/judge/actions.py), which are matched one to one with the largest summed likeness
(leap/judge/likeness.py). A match counts from a likeness of 1/2 on. Of two matches in the other order than in the
reference, of which one acts on what the other acts on ("place the cup" in front of "pick up the cup"), neither counts.

    right         summed likeness of the matches that count, times their share of all matches
    recall        right over the reference's actions, or over the mean number of actions if the plan has more of them
    order         matches over the reference's actions, times the share of pairs of them in the reference's order; 0 if a
                  match does not count, or if it is the only one and the reference has more actions
    precision     right over the plan's actions
    repetition    share of the plan's steps that repeat an earlier one, beyond that share in the reference
    detail        right over the mean number of actions, times the smaller over the larger number of steps

the scales, 1 to 5 in fractions, are

    completeness              1 + 4 * recall
    logical_sequence          1 + 4 * order
    hallucination_redundancy  1 + 4 * precision * (1 - repetition)
    granularity               1 + 4 * detail

A plan without a match is at 1 on all four, whatever words it shares with the reference: other objects, steps that are
not to be done, an order that cannot be, words in disorder and lists of key words are no plan for the task. The judge
knows words, not the scene: another good plan scores low. It stands beside an LLM judge's numbers, never under their
name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from leap.judge.actions import Action, actions_of
from leap.judge.judgements import SCALES
from leap.judge.lexicon import lexicon
from leap.judge.likeness import FIRM, likeness, shares_a_thing
from leap.judge.plan_text import steps_of_text
from leap.plans.metrics import repeated_share

Match = tuple[int, int, float]  # action of the plan, action of the reference, likeness


def scores_of(plan: str, reference: str) -> dict[str, float]:
    """The four scales of a plan's text, 1.0 to 5.0. ValueError for a reference without a step."""
    return dict(zip(SCALES, (1 + 4 * part for part in _parts(plan, reference)), strict=True))


def _parts(plan: str, reference: str) -> tuple[float, float, float, float]:
    steps, reference_steps = steps_of_text(plan), steps_of_text(reference)
    if not reference_steps:
        raise ValueError("the reference has no step")
    actions, reference_actions = actions_of(steps), actions_of(reference_steps)
    matches = _matches(actions, reference_actions) if actions else []
    if not matches:
        return 0.0, 0.0, 0.0, 0.0
    possible = _in_possible_order(matches, reference_actions)
    right = sum(alike for _, _, alike in possible)
    number, reference_number = len(actions), len(reference_actions)
    order = _order(matches, max(number, reference_number), reference_number) if len(possible) == len(matches) else 0.0
    repetition = max(0.0, repeated_share(steps) - repeated_share(reference_steps))
    mean = (number + reference_number) / 2
    detail = right / number * right / reference_number * min(len(steps), len(reference_steps)) / max(len(steps), len(reference_steps))
    return right / max(reference_number, mean), order, (right / number) ** 2 * (1 - repetition), detail


def _matches(actions: Sequence[Action], reference_actions: Sequence[Action]) -> list[Match]:
    """The one-to-one matching with the largest summed likeness, by the plan's actions; only those of at least FIRM."""
    from scipy.optimize import linear_sum_assignment

    # (actions, reference actions)
    alike = np.array([[likeness(a, b) for b in reference_actions] for a in actions]).reshape(len(actions), -1)
    alike[alike < FIRM] = 0
    # Repeated actions tie: squared distances are least where the order is kept. Too small to outweigh a likeness.
    distance = np.subtract.outer(np.arange(len(actions)), np.arange(len(reference_actions))) ** 2
    chosen = zip(*linear_sum_assignment(alike - 1e-9 * distance, maximize=True), strict=True)
    return [(int(i), int(j), float(alike[i, j])) for i, j in chosen if alike[i, j]]


def _in_possible_order(
    matches: Sequence[Match], reference_actions: Sequence[Action]
) -> list[Match]:
    """The matches that stand on the right side of all others that act on the same thing."""
    impossible = set()
    for first, second in combinations(matches, 2):
        if first[1] > second[1] and _needs(reference_actions, first[1], second[1]):
            impossible |= {first, second}
    return [match for match in matches if match not in impossible]


def _needs(actions: Sequence[Action], later: int, earlier: int) -> bool:
    """Whether an action of the reference needs an earlier one: it shares a thing with it, or follows what prepares."""
    if later == earlier + 1 and lexicon().prepares(actions[earlier].verb):
        return True
    return shares_a_thing(actions[later], actions[earlier])


def _order(matches: Sequence[Match], most: int, reference_number: int) -> float:
    """The longest run of matches in the reference's order, gaps allowed, over the larger number of actions."""
    if len(matches) == 1 < reference_number:
        return 0.0
    ends: list[int] = []  # patience sorting: the lowest end of a run of each length
    for _, j, _ in matches:
        at = bisect_left(ends, j)
        ends[at : at + 1] = [j]
    return len(ends) / most
