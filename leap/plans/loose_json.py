"""JSON as models write it: Python's quotes and constants, trailing commas, comments, keys without quotes, full-width
punctuation. What is cut off or broken stays an error: nothing is guessed.
"""

from __future__ import annotations

import json
import re
from typing import Any

# JSON nested deeper than this is refused: writing it indented would overflow the stack long before reading it does.
MOST_NESTING = 100

_STRICT = json.JSONDecoder()
_CONSTANTS = {"null": None, "None": None, "true": True, "True": True, "false": False, "False": False}
_CLOSING = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}  # the last two: typographic quotes
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

# "#3" is an id, any other "#" begins a comment.
_BLANK = re.compile(r"(?:[\s\ufeff]+|//[^\n]*|#(?![0-9])[^\n]*|/\*(?:[^*]|\*(?!/)){0,500}\*/)*")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])")
_WORD = re.compile(r"#[0-9]+|[^\W\d][\w-]*")
_COLONS, _COMMAS = (":", "\uff1a"), (",", "\uff0c", "\u3001")  # and their full-width forms


class BrokenJSON(ValueError):
    """No JSON begins here; `pos` is where reading ended, `cut_off` whether the text ended there."""

    def __init__(self, text: str, pos: int) -> None:
        super().__init__(f"broken JSON at character {pos}")
        self.pos = pos
        self.cut_off = not text[pos:].strip(" \n\r\t`")


def decode(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends. BrokenJSON if none does, or it is nested too deep."""
    try:
        value, end = _STRICT.raw_decode(text, start)
    except (ValueError, RecursionError):
        return _value(text, start, 0)
    if is_too_deep(value):
        raise BrokenJSON(text, start)
    return value, end


def is_too_deep(value: Any) -> bool:
    """Whether a decoded value is nested deeper than MOST_NESTING."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        if depth > MOST_NESTING:
            return True
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return False


def _value(text: str, place: int, depth: int) -> tuple[Any, int]:
    if depth > MOST_NESTING:
        raise BrokenJSON(text, place)
    first = text[place : place + 1]
    if first == "{":
        return _object(text, place, depth)
    if first == "[":
        return _list(text, place, depth)
    number = _NUMBER.match(text, place)
    if number:
        written = number[0]
        try:
            return (int(written) if written.lstrip("-").isdigit() else float(written)), number.end()
        except ValueError:  # more digits than Python converts
            raise BrokenJSON(text, place) from None
    word, end = _word(text, place)
    return (word if first in _CLOSING else _CONSTANTS.get(word, word)), end


def _object(text: str, place: int, depth: int) -> tuple[dict[str, Any], int]:
    result: dict[str, Any] = {}
    place = _skip(text, place + 1)
    while text[place : place + 1] != "}":
        key, place = _word(text, place)
        place = _skip(text, place)
        if text[place : place + 1] not in _COLONS:
            raise BrokenJSON(text, place)
        result[key], place = _value(text, _skip(text, place + 1), depth + 1)
        place = _next_item(text, place, "}")
    return result, place + 1


def _list(text: str, place: int, depth: int) -> tuple[list[Any], int]:
    result: list[Any] = []
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        value, place = _value(text, place, depth + 1)
        result.append(value)
        place = _next_item(text, place, "]")
    return result, place + 1


def _next_item(text: str, place: int, closing: str) -> int:
    """Where the next item or the closing bracket stands."""
    place = _skip(text, place)
    if text[place : place + 1] in _COMMAS:
        return _skip(text, place + 1)
    if text[place : place + 1] != closing:
        raise BrokenJSON(text, place)
    return place


def _word(text: str, place: int) -> tuple[str, int]:
    """A string, or a word without quotes."""
    closing = _CLOSING.get(text[place : place + 1])
    if closing is None:
        word = _WORD.match(text, place)
        if word is None:
            raise BrokenJSON(text, place)
        return word[0], word.end()
    characters: list[str] = []
    i = place + 1
    while i < len(text) and text[i] != "\n":
        if text[i] == closing:
            return "".join(characters), i + 1
        if text[i] == "\\":
            i += 1
            characters.append(_ESCAPES.get(text[i : i + 1], text[i : i + 1]))
        else:
            characters.append(text[i])
        i += 1
    raise BrokenJSON(text, min(i, len(text)))


def _skip(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return match.end() if match else place
