"""The reference judge: a plan's actions matched with those of the reference, on the four scales. No model, no endpoint.

Plan and reference become actions (leap/judge/actions.py), matched one to one with the largest summed likeness
(leap/judge/likeness.py). A match takes a likeness of 1/2. Two matches in the other order than in the reference, of
which one needs the other ("place the cup" in front of "pick up the cup"), do not count. With

    run           longest run of matches in the reference's order, gaps allowed
    right         summed likeness of the matches that count, less half of the share of matches outside of the run
    recall        right over the reference's actions, or over the mean number of actions if the plan has more of them
    order         run over the larger number of actions; 0 if a match does not count, or if there is only one and the
                  reference has more actions
    precision     right over the plan's actions
    repetition    share of the plan's steps that repeat an earlier one, beyond that share in the reference
    detail        precision * right over the reference's actions * the smaller over the larger number of steps

the scales, 1 to 5 in fractions, are

    completeness              1 + 4 * recall
    logical_sequence          1 + 4 * order
    hallucination_redundancy  1 + 4 * precision^2 * (1 - repetition)
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

from leap.judge.actions import PlanAction, actions_of
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
    run = _longest_run(matches)
    right = sum(alike for _, _, alike in possible) * (1 + run / len(matches)) / 2
    number, reference_number = len(actions), len(reference_actions)
    has_order = len(possible) == len(matches) and (len(matches) > 1 or reference_number == 1)
    order = run / max(number, reference_number) if has_order else 0.0
    repetition = max(0.0, repeated_share(steps) - repeated_share(reference_steps))
    recall = right / max(reference_number, (number + reference_number) / 2)
    precision = right / number
    fewer, more = sorted((len(steps), len(reference_steps)))
    # Squared: one wrong step in five is a fifth of the plan and spoils more than that.
    return recall, order, precision**2 * (1 - repetition), precision * right / reference_number * fewer / more


def _matches(actions: Sequence[PlanAction], reference_actions: Sequence[PlanAction]) -> list[Match]:
    """The one-to-one matching with the largest summed likeness, by the plan's actions; only those of at least FIRM."""
    from scipy.optimize import linear_sum_assignment

    # (actions, reference actions)
    alike = np.array([[likeness(a, b) for b in reference_actions] for a in actions]).reshape(len(actions), -1)
    alike[alike < FIRM] = 0
    # Repeated actions tie: squared distances are least where the order is kept. Too small to outweigh a likeness.
    distance = np.subtract.outer(np.arange(len(actions)), np.arange(len(reference_actions))) ** 2
    chosen = zip(*linear_sum_assignment(alike - 1e-9 * distance, maximize=True), strict=True)
    return [(int(i), int(j), float(alike[i, j])) for i, j in chosen if alike[i, j]]


def _in_possible_order(matches: Sequence[Match], reference_actions: Sequence[PlanAction]) -> list[Match]:
    """The matches of which none stands on the wrong side of one that it needs, or that needs it."""
    impossible = set()
    for first, second in combinations(matches, 2):
        if first[1] > second[1] and _needs(reference_actions, first[1], second[1]):
            impossible |= {first, second}
    return [match for match in matches if match not in impossible]


def _needs(actions: Sequence[PlanAction], later: int, earlier: int) -> bool:
    """Whether an action of the reference needs an earlier one: it shares a thing with it, or follows what prepares."""
    if later == earlier + 1 and lexicon().prepares(actions[earlier].verb):
        return True
    return shares_a_thing(actions[later], actions[earlier])


def _longest_run(matches: Sequence[Match]) -> int:
    """The length of the longest run of matches in the reference's order, gaps allowed, by patience sorting."""
    ends: list[int] = []  # the lowest end of a run of each length
    for _, j, _ in matches:
        place = bisect_left(ends, j)
        ends[place : place + 1] = [j]
    return len(ends)
