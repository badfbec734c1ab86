"""Verifiable rewards: what an answer earns against its row's own plan, term by term, as the scorer reads both.

Pure Python. Every term is 0 to 1 and `reward` is their weighted mean, so 1 is a right plan in the right form and 0 is
no plan. All terms but `format` are F1-like: what is wrong or too much costs as much as what is missing. The plan that
counts is the one that the answer finally gives (leap/plans/reading.py), so a thought, a draft or an echoed example
earns nothing.

Terms for a skill list:
    format      the answer is one plan in the official form and nothing else
    skill       F1 of the skills in order: twice their longest common subsequence over both lengths
    entity      the same of the objects acted on, and `container` of the places; both times `skill`, because an id is
                worth nothing to a robot that does something else with it, and less for every id too many, so that to
                name two and hope does not pay
    plan        the whole plan is right (the one term that a robot cares about)
    brevity     F1 of whole steps, if the plan is as long as the row's or longer; less the more it is longer, nothing if
                it stops early or repeats steps
Terms for numbered steps:
    format      the answer is a numbered plan and nothing else
    step        F1 of the words of steps matched in order
    order       agreement of the order of matched steps (Kendall's tau from 0 to 1), times `step`
    redundancy  `step`, less the share of steps that repeat an earlier one more often than the row's plan does
And for both, where the recipe asks for a thought:
    thought     one closed <think> block in front, not longer than allowed; score on what follows it
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from configs.errors import UserError
from leap.plans.metrics import compare_steps, is_numbered_plan, numbered_steps, ordered_f1, repeated_share
from leap.plans.reading import SKILLS, FormatError, Step, answer_text, read_official, read_tolerant, steps_of
from leap.plans.scoring import same_plan

SKILL_TERMS = ("format", "skill", "entity", "container", "plan", "brevity")
PROSE_TERMS = ("format", "step", "order", "redundancy")
TERMS = (*dict.fromkeys((*SKILL_TERMS, *PROSE_TERMS)), "thought")

_FENCED = re.compile(r"\s*```json\s*\[(?:(?!```).)*\]\s*```\s*", re.DOTALL)
_THOUGHT = re.compile(r"\s*<think>(?P<thought>.*?)</think>(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class ThoughtRule:
    """A thought that answers must begin with: at most so many characters, and not empty."""

    most_characters: int


class Truth(NamedTuple):
    """A row's plan as rewards compare with it: a skill list or numbered steps, the other one empty."""

    skills: tuple[Step, ...]
    prose: tuple[str, ...]


@lru_cache(maxsize=4096)
def truth_of(steps: str) -> Truth:
    """The plan in a row's target. UserError if it is neither numbered steps nor a list of known skills."""
    try:
        skills = tuple(read_tolerant(steps))
    except FormatError as error:
        prose = tuple(numbered_steps(steps))
        if not prose:
            reason = f"no plan to compare with, neither skills ({error}) nor numbered steps, in {steps!r:.60}"
            raise UserError(reason, kind="no plan") from None
        return Truth((), prose)
    unknown = sorted({step.skill for step in skills} - set(SKILLS))
    if unknown:
        raise UserError(f"the plan has the unknown skill {unknown[0]!r}; known: {', '.join(SKILLS)}", kind="no plan")
    return Truth(skills, ())


@lru_cache(maxsize=65536)  # the trainer asks for one term of all answers at a time
def reward_terms(
    answer: str, steps: str, *, order_independent: bool = False, thought: ThoughtRule | None = None
) -> Mapping[str, float]:
    """The terms of an answer to a row whose target is `steps`, 0 to 1 by name; which terms, `truth_of` decides.

    `order_independent` is for tasks whose sub-tasks may come in any order. UserError for a row without a plan.
    """
    truth = truth_of(steps)
    terms: dict[str, float] = {}
    if thought is not None:
        terms["thought"], answer = _judged_thought(answer, thought)
    if truth.skills:
        return terms | _skill_terms(answer, list(truth.skills), order_independent=order_independent)
    return terms | _prose_terms(answer, truth.prose)


def reward(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted mean of terms, 0 to 1."""
    total = sum(weights.get(name, 0.0) for name in terms)
    return sum(weights.get(name, 0.0) * value for name, value in terms.items()) / total if total else 0.0


def _skill_terms(answer: str, true: list[Step], *, order_independent: bool) -> dict[str, float]:
    terms = dict.fromkeys(SKILL_TERMS, 0.0)
    try:
        plan = read_tolerant(answer)
    except FormatError:
        return terms
    common = _common if order_independent else _common_in_order

    def f1(expected: Sequence[Hashable], items: Sequence[Hashable]) -> float:
        """F1 by the members that both have in common; 1 if both are empty."""
        size = len(expected) + len(items)
        return 2 * common(expected, items) / size if size else 1.0

    terms["format"] = float(_is_official(answer, plan))
    terms["skill"] = f1([step.skill for step in true], [step.skill for step in plan])
    for which in ("entity", "container"):
        expected, named = _targets(true, which), _targets(plan, which)
        hedging = min(1.0, len(expected) / len(named)) if named else 1.0
        terms[which] = f1(expected, named) * hedging * terms["skill"]
    if not _targets(true, "container"):  # to name no place where there is none is no merit of its own
        terms["container"] = min(terms["container"], terms["entity"])
    terms["plan"] = float(same_plan(true, plan, order_independent=order_independent))
    repeats = sum((Counter(plan) - Counter(true)).values()) - len(set(plan) - set(true))
    if len(plan) >= len(true) and repeats <= 0:
        terms["brevity"] = f1(true, plan) * len(true) / len(plan)
    return terms


def _prose_terms(answer: str, true: Sequence[str]) -> dict[str, float]:
    terms = dict.fromkeys(PROSE_TERMS, 0.0)
    steps = numbered_steps(answer)
    if not steps:
        return terms
    step = ordered_f1(steps, true)
    agreement = compare_steps(steps, true).order_agreement
    spare = max(0.0, repeated_share(steps) - repeated_share(true) * len(true) / len(steps))
    terms["format"] = float(is_numbered_plan(answer))
    terms["step"] = step
    terms["order"] = step * (1.0 if agreement is None else (agreement + 1) / 2)
    terms["redundancy"] = step * (1 - spare) * min(1.0, len(true) / len(steps))
    return terms


def _targets(steps: Sequence[Step], which: str) -> list[Hashable]:
    return [target for step in steps if (target := getattr(step, which)) is not None]


def _common(expected: Sequence[Hashable], items: Sequence[Hashable]) -> int:
    """How many members two multisets have in common."""
    return (Counter(expected) & Counter(items)).total()


def _common_in_order(expected: Sequence[Hashable], items: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence, row by row (Wagner and Fischer 1974)."""
    row = [0] * (len(items) + 1)
    for member in expected:
        previous = row
        row = [0]
        for j, item in enumerate(items):
            row.append(previous[j] + 1 if item == member else max(row[j], previous[j + 1]))
    return row[-1]


def _is_official(answer: str, plan: list[Step]) -> bool:
    """Whether the text is one fenced list that VLABench's reader and the tolerant one read alike, and nothing else."""
    if not _FENCED.fullmatch(answer):
        return False
    try:
        official = read_official(answer)
        typed = all(
            isinstance(value, int) and not isinstance(value, bool)
            for item in official
            for value in item["params"].values()
            if value is not None
        )
        return typed and steps_of(official) == plan
    except Exception:  # whatever VLABench's scorer trips over is no official form
        return False


def _judged_thought(answer: str, rule: ThoughtRule) -> tuple[float, str]:
    """(how well an answer begins with a thought, what follows it). Without a closed block nothing follows."""
    match = _THOUGHT.fullmatch(answer)
    if match is None:
        return 0.0, ""
    thought = match["thought"].strip()
    nested = "<think>" in thought or "</think>" in match["rest"]
    return float(bool(thought) and not nested and len(thought) <= rule.most_characters), answer_text(match["rest"])
