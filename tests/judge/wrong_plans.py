"""Plans of known worth, made of a reference: right ones in other words by hand, wrong ones by a rule each."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

_CJK = re.compile("[\u4e00-\u9fff]")
_WORDS = re.compile(r"\w+(?:['-]\w+)*")


@dataclass(frozen=True)
class Case:
    """A reference of tests/judge/reference_plans.yaml, as lists of steps."""

    reference: list[str]
    near: list[str]
    other: list[str]
    things: dict[str, str]

    @property
    def is_chinese(self) -> bool:
        return bool(_CJK.search(self.reference[0]))


CASES = [Case(**case) for case in yaml.safe_load(Path(__file__).with_name("reference_plans.yaml").read_text("utf-8"))]


def written(steps: Sequence[str]) -> str:
    return " ".join(f"{number}) {step}" for number, step in enumerate(steps, 1))


def wrong_objects(case: Case, rng: random.Random) -> list[str]:
    """The same actions on other things."""
    longest_first = sorted(case.things, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)) if case.is_chinese else
                         rf"\b({'|'.join(map(re.escape, longest_first))})\b")  # fmt: skip
    return [pattern.sub(lambda match: case.things[match[0]], step) for step in case.reference]


def negated(case: Case, rng: random.Random) -> list[str]:
    if case.is_chinese:
        return [rng.choice(("\u4e0d\u8981", "\u522b", "\u7981\u6b62")) + step for step in case.reference]
    front = ("Do not", "Don't", "Never", "You should not", "The robot must not", "Do NOT")
    return [f"{rng.choice(front)} {step[0].lower()}{step[1:]}" for step in case.reference]


def impossible_order(case: Case, rng: random.Random) -> list[str]:
    """Every step in front of the one that it follows."""
    return case.reference[::-1]


def swapped_pairs(case: Case, rng: random.Random) -> list[str]:
    """Steps 2, 1, 4, 3, ...: things are placed and then picked up."""
    steps = list(case.reference)
    for i in range(0, len(steps) - 1, 2):
        steps[i : i + 2] = steps[i : i + 2][::-1]
    return steps


def shuffled_words(case: Case, rng: random.Random) -> list[str]:
    def shuffled(step: str) -> str:
        words = list(step.strip(".\u3002")) if case.is_chinese else _WORDS.findall(step)
        original = list(words)
        while words == original and len(words) > 1:
            rng.shuffle(words)
        return ("" if case.is_chinese else " ").join(words)

    return [shuffled(step) for step in case.reference]


def _key_words(case: Case) -> list[str]:
    if case.is_chinese:
        return [*case.things, "\u62ff\u8d77", "\u653e\u5230", "\u6253\u5f00", "\u5173\u95ed"]
    small = re.split(" ", "the a on in to of with from into and it up back for onto under")
    words = [word for step in case.reference for word in _WORDS.findall(step.lower()) if word not in small]
    return list(dict.fromkeys(words))


def one_step_of_key_words(case: Case, rng: random.Random) -> list[str]:
    return [", ".join(_key_words(case))]


def steps_of_key_words(case: Case, rng: random.Random) -> list[str]:
    """As many steps as the reference has, each with all its words."""
    words = _key_words(case)
    return [" ".join(rng.sample(words, len(words))) for _ in case.reference]


def key_words_behind_verbs(case: Case, rng: random.Random) -> list[str]:
    """Each verb with every thing behind it."""
    if case.is_chinese:
        return [step[:2] + "".join(case.things) for step in case.reference]
    return [f"{step.split()[0]} {' '.join(case.things)}." for step in case.reference]


WRONG: dict[str, Callable[[Case, random.Random], list[str]]] = {
    "wrong objects": wrong_objects,
    "negated": negated,
    "impossible order": impossible_order,
    "swapped pairs": swapped_pairs,
    "shuffled words": shuffled_words,
    "key words in one step": one_step_of_key_words,
    "key words in every step": steps_of_key_words,
    "key words behind verbs": key_words_behind_verbs,
}


def edited(case: Case, edits: int, rng: random.Random) -> list[str]:
    """The reference after so many random edits of steps: one goes, one of another plan comes or takes its place, or two
    neighbours change places."""
    others = [step for other in CASES if other is not case and other.is_chinese == case.is_chinese
              for step in other.reference]  # fmt: skip
    steps = list(case.reference)
    for _ in range(edits):
        kind = rng.choice(("delete", "insert", "replace", "swap"))
        at = rng.randrange(len(steps)) if steps else 0
        if kind == "insert" or not steps:
            steps.insert(at, rng.choice(others))
        elif kind == "delete":
            del steps[at]
        elif kind == "replace":
            steps[at] = rng.choice(others)
        elif at + 1 < len(steps):
            steps[at : at + 2] = steps[at : at + 2][::-1]
    return steps


def edit_distance(steps: Sequence[str], reference: Sequence[str]) -> int:
    """Levenshtein's distance over whole steps."""
    row = list(range(len(reference) + 1))
    for i, step in enumerate(steps, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(reference, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (step != other))
    return row[-1]
