"""The words of plans that the reference judge knows: configs/judge/actions.yaml, which says what its lists are.

{"actions": [[verb, ...]], "preparing": [verb, ...], "things": [[word, ...]], "exclusive": [[word, ...]],
 "negations": [word, ...], "absent": [word, ...]}
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from configs.config import REPOSITORY

ACTIONS = REPOSITORY / "configs" / "judge" / "actions.yaml"


@dataclass(frozen=True)
class Lexicon:
    """`actions` and `exclusive` are the numbers of the lines that hold a word; `things` is the first word of its
    line."""

    actions: dict[str, frozenset[int]]
    preparing: frozenset[str]
    things: dict[str, str]
    exclusive: dict[str, frozenset[int]]
    negations: frozenset[str]
    absent: tuple[str, ...]

    def is_same_action(self, verb: str, other: str) -> bool:
        return verb == other or bool(self.actions.get(verb, frozenset()) & self.actions.get(other, frozenset()))

    def prepares(self, verb: str) -> bool:
        """Whether what follows such an action needs it: picking up, opening, going."""
        return any(self.is_same_action(verb, other) for other in self.preparing)

    def tells_apart(self, words: frozenset[str], others: frozenset[str]) -> bool:
        """Whether two sets of words name different things by words that exclude each other, such as red and blue, or
        by numbers."""
        lines = {line for word in words ^ others for line in self.exclusive.get(word, ())}
        for line in lines:
            in_words, in_others = (
                {word for word in side if line in self.exclusive.get(word, ())} for side in (words, others)
            )
            if in_words and in_others and in_words != in_others:
                return True
        numbers = [{word for word in side if word.isdecimal()} for side in (words, others)]
        return numbers[0] != numbers[1]


@functools.cache
def lexicon() -> Lexicon:
    lists = yaml.safe_load(ACTIONS.read_text(encoding="utf-8"))
    return Lexicon(
        actions=_lines_of(lists["actions"]),
        preparing=frozenset(lists["preparing"]),
        things={word: line[0] for line in lists["things"] for word in line},
        exclusive=_lines_of(lists["exclusive"]),
        negations=frozenset(lists["negations"]),
        absent=tuple(lists["absent"]),
    )


def _lines_of(lists: Sequence[Sequence[str]]) -> dict[str, frozenset[int]]:
    lines = defaultdict(set)
    for number, words in enumerate(lists):
        for word in words:
            lines[word].add(number)
    return {word: frozenset(numbers) for word, numbers in lines.items()}
