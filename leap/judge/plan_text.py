"""A plan's text as judges see it: its steps, numbered in one way whoever wrote it.

A judge that knows a model's habits (bold headings, "Sure! Here is the plan:") is no longer blind, so all that is not a
step goes, also in the reference.
"""

from __future__ import annotations

import re
import unicodedata

from leap.plans.metrics import MOST_CHARACTERS, MOST_STEPS, numbered_steps
from leap.plans.reading import FormatError, Step, answer_text, read_tolerant

SHOWN_CHARACTERS = 8_000  # of a plan, to judges

# A run of line breaks is no indent: tried from each of them, 20,000 would take seconds.
_BULLET = re.compile(r"^[^\S\n]*(?:[-*+]|\u2022)\s+(?P<step>\S.*)$", re.MULTILINE)
_MARKDOWN = re.compile(r"\*\*|__|`+|^[^\S\n]*#+\s*", re.MULTILINE)


def steps_of_text(text: str) -> list[str]:
    """The steps of a plan: of a skill list, else the numbered ones, else the items of a bulleted list, else the lines
    that are not empty. What a model thought is no step. Markdown, control characters and white space are cleaned. Reads
    the first MOST_CHARACTERS and MOST_STEPS of the answer."""
    text = answer_text(text)[:MOST_CHARACTERS]
    try:
        steps = [in_words(step) for step in read_tolerant(text)]
    except FormatError:
        steps = numbered_steps(text) or [match["step"] for match in _BULLET.finditer(text)] or text.splitlines()
    return [clean for step in steps if (clean := _clean(step))][:MOST_STEPS]


def normalised(text: str, most_characters: int = SHOWN_CHARACTERS) -> str:
    """The steps as lines "1. ...", "2. ..."; "" for a text without any. What is longer than judges are shown, or than
    is read, is cut behind a step (inside of it if it is the first) and says so in a last line in brackets."""
    steps = steps_of_text(text)
    whole = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    if len(whole) <= most_characters and len(answer_text(text)) <= MOST_CHARACTERS and len(steps) < MOST_STEPS:
        return whole
    head = whole[:most_characters]
    if len(whole) > most_characters:
        head = head.rpartition("\n")[0] or head
    return f"{head}\n[cut here; the plan goes on, {len(text):,} characters in all]"


def in_words(step: Step) -> str:
    """A skill and the numbers of its targets: "pour 3 into 5"."""
    words = step.skill.replace("_", " ")
    words += f" {step.entity}" if step.entity is not None else ""
    return words + (f" to {step.container}" if step.container is not None else "")


def _clean(step: str) -> str:
    """One line of printable text that UTF-8 can carry."""
    step = _MARKDOWN.sub("", step)
    step = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in step)
    return " ".join(step.split())
