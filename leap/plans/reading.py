"""Model text -> skill sequence, or a named reason why not.

Two readers: `read_official` does what VLABench's own code does, `read_tolerant` what a robotics researcher means.
A skill sequence is a list of {"name": str, "params": {"target_entity_name": id, "target_container_name": id}}.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

SKILLS = ("pick", "place", "press", "open_door", "insert", "pull", "pour", "push", "lift")
TARGETS = ("target_entity_name", "target_container_name")

# The sub-tasks of VLABench, in the order in which its scorer tries them (VLABench/evaluation/utils.py).
SUBTASK_PATTERNS = (
    ("pick", "place"),
    ("pick", "insert"),
    ("pick", "pour", "place"),
    ("pick", "pour"),
    ("pick", "pull"),
    ("pick", "lift"),
    ("pick", "push", "pull"),
    ("pick", "push", "place"),
    ("pick", "push"),
    ("pick", "open_door"),
    ("press",),
)
_PATTERNS = tuple(map(list, SUBTASK_PATTERNS))
_FIRST_SKILLS = tuple(dict.fromkeys(pattern[0] for pattern in SUBTASK_PATTERNS))

# JSON nested deeper than this is no plan, for both readers: writing it indented would overflow the stack long before
# reading it does. A skill list is nested 3 deep.
MOST_NESTING = 100

# Where a skill list can begin; reading is tried there only, and not without end.
_LIST_START = re.compile(r'\[\s*\{|\{\s*"skill_sequence"')
_MOST_ATTEMPTS = 200
_MOST_CHARACTERS = 100_000
_MOST_DECODED = 1_000_000  # characters in all attempts together


class FormatError(Exception):
    """The text holds no plan; its message names the reason."""


class Step(NamedTuple):
    """One skill with its canonical targets (None where it has none)."""

    skill: str
    entity: int | str | None
    container: int | str | None


@dataclass(frozen=True)
class Plan:
    """What was read from a text: the steps, and whether an id that means a number was written as a string ("3")."""

    steps: list[Step]
    ids_as_strings: bool


def read_official(text: str) -> Any:
    """Whatever JSON stands between the first "```json" and the next "```", up to MOST_NESTING. Raises FormatError."""
    _, fence, rest = text.partition("```json")
    if not fence:
        raise FormatError("no json fence")
    source = rest.split("```")[0]
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"no JSON in the fence: {type(error).__name__}") from error
    if _may_be_deep(source):
        check_nesting(value)
    return value


def read_tolerant(text: str, *, last: bool = False) -> list[Step]:
    """The first valid skill list in the text (`last`: the last one, as after a chain of thought).

    Fenced or bare, also inside {"skill_sequence": ...}; missing params are none; ids are canonical. Reads the first
    100,000 characters. Raises FormatError.
    """
    return read_plan(text, last=last).steps


def read_plan(text: str, *, last: bool = False) -> Plan:
    """As `read_tolerant`, with how the ids were written."""
    text = text[:_MOST_CHARACTERS]
    decoder = json.JSONDecoder()
    may_be_deep = _may_be_deep(text)
    plan: Plan | None = None
    reason = "no list of skills"
    position = decoded = 0
    for _ in range(_MOST_ATTEMPTS):
        start = _LIST_START.search(text, position)
        if start is None or decoded > _MOST_DECODED:
            break
        try:
            value, position = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError) as error:
            decoded += getattr(error, "pos", start.start()) - start.start()
            reason, position = "broken JSON", start.start() + 1
            continue
        decoded += position - start.start()
        try:
            if may_be_deep:
                check_nesting(value)
            plan = plan_of(value)
        except FormatError as error:
            reason = str(error)
            position = start.start() + 1  # a valid list may lie inside
            continue
        if not last:
            break
    if plan is None:
        raise FormatError(reason)
    return plan


def plan_of(value: Any) -> Plan:
    """As `steps_of`, with how the ids were written. Raises FormatError."""
    steps = steps_of(value)
    items = value["skill_sequence"] if isinstance(value, dict) else value
    written = [(item.get("params") or {}).get(target) for item in items for target in TARGETS]
    return Plan(steps, any(isinstance(id, str) and isinstance(canonical_id(id), int) for id in written))


def _may_be_deep(source: str) -> bool:
    return source.count("[") + source.count("{") > MOST_NESTING


def check_nesting(value: Any) -> None:
    """Raise FormatError if a decoded JSON value is nested deeper than MOST_NESTING."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        if depth > MOST_NESTING:
            raise FormatError(f"JSON nested deeper than {MOST_NESTING}")
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]


def steps_of(value: Any) -> list[Step]:
    """A decoded skill list (or {"skill_sequence": list}) as steps. Raises FormatError, naming the first defect."""
    if isinstance(value, dict):
        value = value.get("skill_sequence")
    if not isinstance(value, list) or not value:
        raise FormatError("no list of skills")
    steps = []
    for item in value:
        name = item.get("name") if isinstance(item, dict) else None
        params = (item.get("params") if isinstance(item, dict) else None) or {}
        if not isinstance(name, str) or not name:
            raise FormatError("a skill without a name")
        if not isinstance(params, dict):
            raise FormatError("params that are no object")
        steps.append(Step(name, *(canonical_id(params.get(target)) for target in TARGETS)))
    if not any(step.skill in SKILLS for step in steps):  # a list of named objects, say
        raise FormatError("no known skill")
    return steps


def canonical_id(value: Any) -> int | str | None:
    """An object id as an int where it means one ("3", 3.0, " 3 " -> 3), else as text; None stays None."""
    if value is None or type(value) is int:  # not True, which is an int too
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = value.strip() if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if re.fullmatch(r"[+-]?\d{1,18}(\.0*)?", text, re.ASCII):
        return int(float(text)) if "." in text else int(text)
    return text


def subtasks(names: list[Any]) -> list[tuple[int, int]]:
    """Cut a sequence of skill names into VLABench's sub-tasks: (start, end) each, unmatched items skipped."""
    cuts, start = [], 0
    while start < len(names):
        for pattern in _PATTERNS if names[start] in _FIRST_SKILLS else ():
            end = start + len(pattern)
            if names[start:end] == pattern:
                cuts.append((start, end))
                start = end
                break
        else:
            start += 1
    return cuts


def pieces(names: list[Any]) -> list[tuple[int, int]]:
    """A sequence of skill names in sub-tasks and, where none matches, single skills: (start, end) each, in order."""
    cuts, position = [], 0
    for start, end in [*subtasks(names), (len(names), len(names))]:
        cuts += [(i, i + 1) for i in range(position, start)]
        if start < end:
            cuts.append((start, end))
        position = end
    return cuts


def fenced(skill_sequence: list[dict]) -> str:
    """A skill sequence as an answer that both readers take: compact JSON in a json fence."""
    return "```json\n" + json.dumps(skill_sequence, separators=(",", ":")) + "\n```"


def ends_with_a_plan(text: str) -> bool:
    """Whether nothing that follows can change a score of this answer (without chain of thought): its first json fence
    has closed on a valid skill list, and no list began before it."""
    head, fence, rest = text.partition("```json")
    inside, closed, _ = rest.partition("```")
    inside = inside.lstrip()
    if not fence or not closed or _LIST_START.search(head) or not _LIST_START.match(inside):
        return False
    try:
        steps_of(json.loads(inside))
    except (ValueError, RecursionError, FormatError):
        return False
    return True
