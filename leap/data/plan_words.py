"""Verbs and objects of plans, counted without a parser.

The verb of a step is its first word that is no filler ("then", "carefully"), in its base form; of a step in Chinese or
Japanese it is the first two characters. The object is the last word of what follows the verb, up to the first
preposition: "Pick up the red onion from the shelf" has pick and onion. Steps in Chinese or Japanese have none, as
words are not set apart there; in a skill list verbs are its skills, and objects are numbers, which say nothing.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from itertools import dropwhile, takewhile

from leap.plans.metrics import ARTICLES, CJK, numbered_steps
from leap.plans.reading import FormatError, read_tolerant

NUMBERED, SKILLS, OTHER = "numbered steps", "skill list", "other text"

_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['-][^\W_{CJK}]+)*")
_IS_CJK = re.compile(rf"[{CJK}]")

# fmt: off
_FILLERS = frozenset({
    "then", "next", "first", "firstly", "second", "secondly", "third", "finally", "lastly", "now", "afterwards",
    "after", "and", "also", "again", "please", "carefully", "slowly", "gently", "precisely", "firmly",
    "simultaneously", "continue", "robot", "should", "will", "you", "the", "a", "an", "to",
})
_PARTICLES = frozenset({
    "up", "down", "on", "off", "out", "over", "away", "back", "in", "open", "close", "closed", "around",
})
_PREPOSITIONS = frozenset({
    "about", "above", "across", "after", "against", "along", "and", "around", "as", "at", "back", "before", "behind",
    "below", "beneath", "beside", "between", "by", "down", "for", "from", "in", "inside", "into", "near", "next",
    "of", "off", "on", "onto", "or", "out", "outside", "over", "so", "that", "then", "through", "to", "toward",
    "towards", "under", "until", "up", "upon", "using", "via", "which", "while", "with", "within", "without",
})
_DETERMINERS = ARTICLES | frozenset({
    "this", "that", "these", "those", "it", "its", "them", "his", "her", "their", "your", "another", "each", "all",
})
# fmt: on


@dataclass(frozen=True)
class PlanWords:
    """What a plan is made of; a text that is no plan is its own single step, without verb or object."""

    kind: str
    steps: int | None
    words: int
    step_words: tuple[int, ...]
    verbs: tuple[str, ...]
    objects: tuple[str, ...]


@functools.lru_cache(maxsize=1 << 16)
def plan_words(plan: str) -> PlanWords:
    """Read a plan: numbered steps, a skill list, or another text."""
    try:
        skills = read_tolerant(plan)
    except FormatError:
        pass
    else:
        return PlanWords(SKILLS, len(skills), len(words_of(plan)), (), tuple(step.skill for step in skills), ())
    steps = numbered_steps(plan)
    if not steps:
        return PlanWords(OTHER, None, len(words_of(plan)), (), (), ())
    words, verbs, objects = zip(*map(_step, steps), strict=True)
    return PlanWords(NUMBERED, len(steps), sum(words), words, tuple(filter(None, verbs)), tuple(filter(None, objects)))


@functools.lru_cache(maxsize=1 << 16)
def _step(step: str) -> tuple[int, str | None, str | None]:
    """(number of words, verb, object)."""
    words = words_of(step)
    return len(words), *verb_and_object(words)


def words_of(text: str) -> list[str]:
    """Lower-case words; a Chinese or Japanese character is a word."""
    return _WORD.findall(text.lower())


def verb_and_object(words: list[str]) -> tuple[str | None, str | None]:
    """The verb and the object of a step, None where there is none."""
    start = next((i for i, word in enumerate(words) if word not in _FILLERS), None)
    if start is None:
        return None, None
    if _IS_CJK.match(words[start]):
        return "".join(word for word in words[start : start + 2] if _IS_CJK.match(word)), None
    # "up from" of "pick up from the shelf the onion" goes, then the noun phrase reaches to the next preposition.
    rest = dropwhile(lambda word: word in _PARTICLES or word in _PREPOSITIONS, words[start + 1 :])
    phrase = [word for word in takewhile(lambda word: word not in _PREPOSITIONS, rest)
              if word not in _DETERMINERS and not _IS_CJK.match(word)]  # fmt: skip
    return base_form(words[start], "VERB"), base_form(phrase[-1], "NOUN") if phrase else None


@functools.lru_cache(maxsize=1 << 14)
def base_form(word: str, part_of_speech: str) -> str:
    """picks, picked, picking -> pick as a VERB; boxes -> box, knives -> knife as a NOUN. A word that lemminflect's
    dictionary does not hold follows its rules."""
    from lemminflect import getLemma  # its dictionaries take a moment to load

    return getLemma(word, part_of_speech)[0]
