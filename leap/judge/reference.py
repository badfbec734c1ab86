"""The reference judge: a plan's steps matched with those of the reference, on the four scales. No model, no endpoint.

With the one-to-one matching of steps of leap/plans/metrics.py, whose overlaps are F1 of words (a step is firmly matched
from an overlap of 1/2 on), and

    recall        summed overlap of the matched steps over the steps of the reference
    order         share of pairs of firmly matched steps that stand in the reference's order; with fewer than two such
                  steps 0, unless the reference has one step alone: then whether it is firmly matched
    precision     summed overlap of the firmly matched steps over the steps of the plan
    repetition    share of the plan's steps that repeat an earlier one, beyond that share in the reference
    steps         number of firmly matched steps over the larger number of steps, of plan or reference
    length        the smaller over the larger number of words a step, of plan and reference

the scales, 1 to 5 in fractions, are

    completeness              1 + 4 * recall
    logical_sequence          1 + 4 * order
    hallucination_redundancy  1 + 4 * precision * (1 - repetition)
    granularity               1 + 4 * steps * length

A plan without steps is at 1 on all four. One without a firmly matched step is so on all but completeness, and below 1.5
in the mean: a text that shares a few common words with the reference, and happens to be as long, is no plan for the
task. The judge compares wording: it knows neither the scene nor what a step does. It stands beside an LLM judge's
numbers, never under their name.
"""

from __future__ import annotations

from collections.abc import Sequence

from leap.judge.judgements import SCALES
from leap.judge.plan_text import steps_of_text
from leap.plans.metrics import MATCH_THRESHOLD, alignment, compare_steps, repeated_share


def scores_of(plan: str, reference: str) -> dict[str, float]:
    """The four scales of a plan's text, 1.0 to 5.0. ValueError for a reference without a step."""
    return dict(zip(SCALES, (1 + 4 * part for part in _parts(plan, reference)), strict=True))


def _parts(plan: str, reference: str) -> tuple[float, float, float, float]:
    steps, reference_steps = steps_of_text(plan), steps_of_text(reference)
    if not reference_steps:
        raise ValueError("the reference has no step")
    if not steps:
        return 0.0, 0.0, 0.0, 0.0
    scores = compare_steps(steps, reference_steps)
    firm = [overlap for _, _, overlap in alignment(steps, reference_steps) if overlap >= MATCH_THRESHOLD]
    tau = scores.order_agreement
    order = float(len(firm) == len(reference_steps) == 1) if tau is None else (tau + 1) / 2
    precision = sum(firm) / len(steps)
    repetition = max(0.0, repeated_share(steps) - repeated_share(reference_steps))
    matched = len(firm) / max(len(steps), len(reference_steps))
    length = _ratio(_words_a_step(steps), _words_a_step(reference_steps))
    return scores.step_recall, order, precision * (1 - repetition), matched * length


def _words_a_step(steps: Sequence[str]) -> float:
    return sum(len(step.split()) for step in steps) / len(steps)


def _ratio(a: float, b: float) -> float:
    return min(a, b) / max(a, b)
