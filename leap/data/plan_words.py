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
# Verbs of manipulation whose other forms lose an e.
_IN_E = frozenset({
    "place", "move", "release", "close", "wipe", "take", "make", "remove", "rotate", "slide", "squeeze", "use",
    "arrange", "retrieve", "raise", "separate", "scrape", "shake", "tie", "untie", "prepare", "locate", "store",
    "organize", "rinse", "grate", "slice", "dice", "bake", "taste", "give", "leave", "hinge", "handle", "settle",
    "have", "drive", "write", "erase", "paste", "merge", "compare", "measure", "navigate", "operate", "activate",
    "complete", "continue", "ensure", "secure", "stabilize", "manipulate", "save", "serve", "change", "exchange",
    "approve", "engage", "pile", "wave",
})
_SINGULAR_IN_S = frozenset({
    "atlas", "canvas", "gas", "lens", "tongs", "scissors", "pliers", "pants", "jeans",
})
# fmt: on
_IRREGULAR = {"put": "put", "putting": "put", "held": "hold", "took": "take", "taken": "take", "brought": "bring"}
_DOUBLED = re.compile(r"(.+[aeiou])([bdgklmnprt])\2")


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
    found = [_step(step) for step in steps]
    words = tuple(words for words, _, _ in found)
    verbs = tuple(verb for _, verb, _ in found if verb)
    return PlanWords(NUMBERED, len(steps), sum(words), words, verbs, tuple(thing for _, _, thing in found if thing))


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
    rest = words[start + 1 :]
    at = 0
    while at < len(rest) and (rest[at] in _PARTICLES or rest[at] in _PREPOSITIONS):
        at += 1
    phrase = []
    for word in rest[at:]:
        if word in _PREPOSITIONS:
            break
        if word not in _DETERMINERS and not _IS_CJK.match(word):
            phrase.append(word)
    return base_form(words[start]), singular(phrase[-1]) if phrase else None


@functools.lru_cache(maxsize=1 << 14)
def base_form(verb: str) -> str:
    """picks, picked, picking -> pick; places, placed, placing -> place. By rules, so an odd verb may stay as it is."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    for ending in ("ing", "ed"):
        if verb.endswith(ending) and len(verb) > len(ending) + 2:
            stem = verb.removesuffix(ending)
            if stem + "e" in _IN_E:
                return stem + "e"
            if ending == "ed" and stem.endswith("i"):
                return stem[:-1] + "y"
            if not re.search("[aeiouy]", stem):  # bring, fling, shred
                return verb
            doubled = _DOUBLED.fullmatch(stem)
            return doubled[1] + doubled[2] if doubled and not stem.endswith("ll") else stem
    return singular(verb)


@functools.lru_cache(maxsize=1 << 14)
def singular(word: str) -> str:
    """boxes -> box, cherries -> cherry, apples -> apple; picks -> pick. By rules."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")) or word in _SINGULAR_IN_S:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes", "toes")):
        return word[:-2]
    return word[:-1]
