"""Names of models that fit beside the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def short_names(names: Iterable[str], most: int = 48) -> dict[str, str]:
    """Names of about `most` characters at most, all different: long ones first lose the words that they share."""
    widths = dict.fromkeys(names, most)
    likes: dict[int, list[str]] = {}
    for name in widths:
        if len(name) > most:
            likes.setdefault(len(_words(name)), []).append(name)
    shorter = {name: short for alike in likes.values() for name, short in _without_shared_words(alike).items()}
    while True:
        labels = {n: n if len(n) <= width else _cut(shorter.get(n, n), width) for n, width in widths.items()}
        uses = Counter(labels.values())
        if max(uses.values(), default=1) == 1:
            # An underscore in front would hide a name from the legend, a pair of dollars is a formula.
            return {name: (" " * short.startswith("_") + short).replace("$", r"\$") for name, short in labels.items()}
        widths = {name: width + 4 * (uses[labels[name]] > 1) for name, width in widths.items()}


def _words(name: str) -> list[str]:
    """Words and separators of the run's name, and as the last one what must stay: step and settings."""
    match = re.fullmatch(r"(.*?)(-?checkpoint-\d+[^-]*| \(.*\))?", name, re.DOTALL)
    assert match is not None, "any text matches"
    run, rest = match.groups()
    return [*re.split(r"([-_])", run), rest or ""]


def _without_shared_words(names: list[str]) -> dict[str, str]:
    """The names, equally many words each, with "..." for words that are the same in all; the first and last stay."""
    if len(names) < 2 or " " in "".join(_words(names[0])[:-1]):  # a label in words is no name of a run
        return {name: name for name in names}
    columns = list(zip(*map(_words, names), strict=True))
    columns_left = [i for i, words in enumerate(columns) if len(set(words)) > 1 or i in (0, len(columns) - 1)]
    # A lone separator between kept words is shorter than what would stand for it.
    columns_left = sorted({*columns_left, *(i + 1 for i in columns_left if i + 2 in columns_left)})
    shortened = {}
    for name, words in zip(names, zip(*columns, strict=True), strict=True):
        parts = [
            ("..." if i - previous > 1 else "") + words[i]
            for previous, i in zip([-1, *columns_left], columns_left, strict=False)
        ]
        shortened[name] = "".join(parts)
    return shortened


def _cut(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    tail = most * 3 // 5  # step and settings stand at the end
    return f"{name[: most - tail - 3]}...{name[-tail:]}"
