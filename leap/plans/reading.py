"""Model text -> skill sequence, or a named reason why not.

Two readers: `read_official` does what VLABench's own code does, `read_plan` what a robotics researcher means. The
second one serves all who ask what plan an answer gives: scores, the early stop of an answer, validation, blind review,
judges.
A skill sequence is a list of {"name": str, "params": {"target_entity_name": id, "target_container_name": id}}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from leap.plans.cues import UNMARKED, announces_a_step, finality_of, is_step_label, without_fences
from leap.plans.loose_json import MOST_NESTING, BrokenJSON, decode, is_too_deep

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

_SPELLINGS = {skill.replace("_", ""): skill for skill in SKILLS}

# Where a plan can begin; reading is tried there only, and not without end.
_START = re.compile(r"\[(?=\s*[{/#])|\{(?=\s*[\w\"'\u201c\u2018/#])")
_MOST_ATTEMPTS = 1000
_MOST_CHARACTERS = 100_000
_MOST_DECODED = 1_000_000  # characters in all attempts together
_LIST_END = re.compile(r"\]|```|\n\s*\n")
_JSON_FENCE = "```json"

# 3, "3", "3.0", "#3", "object 3", "[3]"; also with the Chinese words for number, object and label.
_ID = re.compile(
    r"\[?\s*(?:(?:object|obj|item|tag|id|number|no|label|entity|container"
    r"|\u7f16\u53f7|\u7269\u4f53|\u7269\u54c1|\u6807\u7b7e|\u76ee\u6807)[\s_.:\uff1a-]*)?#?\s*"
    r"(?P<id>[+-]?[0-9]{1,18})(?:\.0*)?\s*\u53f7?\s*\]?",
    re.IGNORECASE,
)

# The tags around a thought: of Qwen, DeepSeek and GLM, of Kimi (triangles), Magistral ([THINK]), gpt-oss and Gemma
# (channels).
_THOUGHT_NAMES = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|analysis|reflection|scratchpad)"
_THOUGHT = re.compile(
    rf"(?P<end></{_THOUGHT_NAMES}>|\u25c1/think\u25b7|\[/THINK\]|<\|channel\|>final<\|message\|>|<channel\|>)"
    rf"|<{_THOUGHT_NAMES}>|\u25c1think\u25b7|\[THINK\]|<\|channel\|>analysis<\|message\|>|<\|channel>thought",
    re.IGNORECASE,
)


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
    _, fence, rest = text.partition(_JSON_FENCE)
    if not fence:
        raise FormatError("no json fence")
    source = rest.split("```")[0]
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"no JSON in the fence: {type(error).__name__}") from error
    check_nesting(value)
    return value


def read_tolerant(text: str) -> list[Step]:
    """The steps of `read_plan`."""
    return read_plan(text).steps


def read_plan(text: str) -> Plan:
    """The plan that an answer finally gives. Raises FormatError.

    1. What the model thought (`answer_text`) is no answer.
    2. Every skill list in the rest is a candidate: fenced or bare, inside {"skill_sequence": ...}, as JSON or as
       models write it (leap.plans.loose_json); so are steps as objects, one a line or a fence. One that is cut off is
       none.
    3. Words in front tell an example and a draft from what is declared final (leap.plans.cues). Of those that are most
       final, lists before single objects, the last one counts.

    Reads the first 100,000 characters of the answer.
    """
    answer = answer_text(text)[:_MOST_CHARACTERS]
    candidates = _PlansInText(answer)
    chosen = candidates.final
    if chosen is None:
        raise FormatError(candidates.reason)
    return plan_of(chosen.items)


def answer_text(text: str) -> str:
    """The text without what the model thought: `<think>...</think>` and the like, also a block that never closes, and
    all in front of a closing tag that the prompt opened."""
    return _without_thoughts(text)[0]


def final_object(text: str) -> dict[str, Any]:
    """The last JSON object of an answer that lies in no other. Raises FormatError."""
    answer = answer_text(text)[:_MOST_CHARACTERS]
    last, position = None, 0
    for _ in range(_MOST_ATTEMPTS):
        start = answer.find("{", position)
        if start < 0:
            break
        try:
            last, position = decode(answer, start)
        except BrokenJSON:
            position = start + 1
    if last is None:
        raise FormatError("no JSON object")
    return last


def ends_with_a_plan(text: str) -> bool:
    """Whether this answer is finished: a fence has just closed on a list of skills that is no thought, example, draft
    or part of a plan, and its first json fence is closed.

    Nothing that follows can change its official score. Its grounded score only a second plan could.
    """
    answer, thinking = _without_thoughts(text)
    _, _, after_first_fence = text.partition(_JSON_FENCE)
    inside, closing, _ = answer.rpartition("```")
    if thinking or not closing or "```" not in after_first_fence:
        return False
    candidate = next(iter(_PlansInText(inside).all[::-1]), None)
    if candidate is None or not candidate.is_list or candidate.finality < UNMARKED or candidate.is_labelled_step:
        return False
    opening = inside[: candidate.start].rstrip()
    return not inside[candidate.end :].strip() and opening.endswith(("```", _JSON_FENCE))


def plan_of(value: Any) -> Plan:
    """As `steps_of`, with how the ids were written. Raises FormatError."""
    steps = steps_of(value)
    written = [(item.get("params") or {}).get(target) for item in _items(value) for target in TARGETS]
    return Plan(steps, any(isinstance(id, str) and isinstance(canonical_id(id), int) for id in written))


def check_nesting(value: Any) -> None:
    """Raise FormatError if a decoded JSON value is nested deeper than MOST_NESTING."""
    if is_too_deep(value):
        raise FormatError(f"JSON nested deeper than {MOST_NESTING}")


def steps_of(value: Any) -> list[Step]:
    """A decoded skill list (or {"skill_sequence": list}, or one step) as steps. Raises FormatError, naming the first
    defect."""
    items = _items(value)
    if not isinstance(items, list) or not items:
        raise FormatError("no list of skills")
    steps = []
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        params = (item.get("params") if isinstance(item, dict) else None) or {}
        if not isinstance(name, str) or not name.strip():
            raise FormatError("a skill without a name")
        if not isinstance(params, dict):
            raise FormatError("params that are no object")
        steps.append(Step(canonical_skill(name), *(canonical_id(params.get(target)) for target in TARGETS)))
    if not any(step.skill in SKILLS for step in steps):  # a list of named objects, say
        raise FormatError("no known skill")
    return steps


def _items(value: Any) -> Any:
    """The list of steps in a decoded value, where it has the form of one."""
    if isinstance(value, dict) and "skill_sequence" in value:
        value = value["skill_sequence"]
    return [value] if isinstance(value, dict) and "name" in value else value


def canonical_skill(name: str) -> str:
    """A skill's name in VLABench's spelling, whatever its case and blanks ("Open Door" -> open_door)."""
    letters = re.sub(r"[\s_-]+", "", name).lower()
    return _SPELLINGS.get(letters, name.strip().lower())


def canonical_id(value: Any) -> int | str | None:
    """An object id as an int where it means one ("3", 3.0, "#3", "object 3", [3] -> 3), else as text; None stays None,
    and so does a word for it ("none", "null", "")."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (int, float, str)):
        value = value[0]
    if value is None or type(value) is int:  # not True, which is an int too
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = value.strip() if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if text.lower() in ("", "none", "null"):
        return None
    number = _ID.fullmatch(text)
    return int(number["id"]) if number else text


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


def fenced_steps(steps: Iterable[Step]) -> str:
    """Steps as such an answer, with the targets that they have and no others."""

    def params(step: Step) -> dict[str, int | str]:
        targets = zip(TARGETS, (step.entity, step.container), strict=True)
        return {name: target for name, target in targets if target is not None}

    return fenced([{"name": step.skill, "params": params(step)} for step in steps])


@dataclass
class _PlanInText:
    """A plan in an answer: its steps as they were decoded, where it stands, and whether it was written as a list (or as
    objects one after another). `is_labelled_step`: the words in front say that it is one step of a plan."""

    start: int
    end: int
    items: list[Any]
    is_list: bool
    finality: int
    is_labelled_step: bool


class _PlansInText:
    """All plans in an answer, in order, and `reason`, why there is none."""

    def __init__(self, answer: str) -> None:
        self.all: list[_PlanInText] = []
        self.reason = "no list of skills"
        self._answer = answer
        self._cut_off = False
        self._find()

    @property
    def final(self) -> _PlanInText | None:
        """The plan that the answer finally gives. One that was announced as an example or a draft does not stand in for
        a plan that is cut off."""
        chosen = max(self.all, key=lambda each: (each.finality, each.is_list, each.start), default=None)
        return None if chosen and self._cut_off and chosen.finality < UNMARKED else chosen

    def _find(self) -> None:
        answer, position, decoded = self._answer, 0, 0
        objects_from = 0  # objects before this place lie in a list that is broken or no plan
        for _ in range(_MOST_ATTEMPTS):
            start = _START.search(answer, position)
            if start is None or decoded > _MOST_DECODED:
                break
            try:
                value, end = decode(answer, start.start())
            except BrokenJSON as error:
                decoded += error.pos - start.start()
                position, self.reason = start.start() + 1, "broken JSON"
                objects_from = max(objects_from, self._end_of_broken(error))
                if error.cut_off and not self._cut_off:
                    self._cut_off = True
                    self._drop_unfinished(start.start())
                continue
            decoded += end - start.start()
            try:
                steps_of(value)
            except FormatError as error:
                self.reason = self.reason if start.start() < objects_from else str(error)
                position, objects_from = start.start() + 1, max(objects_from, end)  # a list may lie inside
                continue
            position = end
            is_object = isinstance(value, dict) and "name" in value
            if not is_object or start.start() >= objects_from:
                self._add(start.start(), end, _items(value), is_list=not is_object)

    def _end_of_broken(self, error: BrokenJSON) -> int:
        end = _LIST_END.search(self._answer, error.pos)
        return len(self._answer) if error.cut_off or end is None else end.end()

    def _drop_unfinished(self, start: int) -> None:
        """Steps one after another whose last one is cut off are no plan."""
        if self.all and not self.all[-1].is_list and self._goes_on(self.all[-1], start, is_list=False):
            self.all.pop()
            self.reason = "a plan that is cut off"

    def _goes_on(self, candidate: _PlanInText, start: int, *, is_list: bool) -> bool:
        """Whether what begins at `start` is the next step of a plan that is written step by step."""
        gap = self._answer[candidate.end : start]
        if is_list or candidate.is_list:
            return is_list and candidate.is_labelled_step and is_step_label(gap)
        return is_step_label(gap) or not without_fences(gap)

    def _add(self, start: int, end: int, items: list[Any], *, is_list: bool) -> None:
        previous = self.all[-1] if self.all else None
        if previous and len(items) == 1 and self._goes_on(previous, start, is_list=is_list):
            previous.items, previous.end = [*previous.items, *items], end
            return
        words = self._answer[previous.end if previous else 0 : start]
        finality = finality_of(words, after_a_plan=previous is not None)
        self.all.append(_PlanInText(start, end, items, is_list, finality, len(items) == 1 and announces_a_step(words)))


def _without_thoughts(text: str) -> tuple[str, bool]:
    """(the text without what the model thought, whether it ends inside a thought)."""
    parts: list[str] = []
    position, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        if tag["end"]:
            parts = parts if thinking else []
            position, thinking = tag.end(), False
        elif not thinking:
            parts.append(text[position : tag.start()])
            thinking = True
    if not thinking:
        parts.append(text[position:])
    return "\n".join(parts), thinking
