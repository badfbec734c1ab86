"""Rows whose plan is a ground truth as a benchmark's files have it, a list of skills:

    {"messages": [...], "skill_sequence": [{"name": "pick", "params": {"target_entity_name": 1}}, ...]}

or the same list below `operation_sequence` or `target`, as {"skill_sequence": [...]} or as JSON text. Their plan is the
fenced list that VLABench's parser reads. The conversation is that of any format, or, as in the benchmark's form for
Hugging Face datasets (leap/publish/benchmark_dataset.py), a `prompt` in JSON whose image items name columns.
"""

from __future__ import annotations

import json
from typing import Any

from configs.errors import UserError
from leap.plans.reading import SKILLS, FormatError, fenced_steps, steps_of

_PLACES = ("skill_sequence", "operation_sequence", "target")
_EXAMPLE = ("dimension", "task", "example")  # the columns that name an example of a benchmark


def is_truth(record: dict[str, Any]) -> bool:
    """Whether the plan of a JSON object is such a list, and not words that answer the conversation."""
    target, turns = record.get("target"), record.get("messages") or record.get("conversations")
    last = turns[-1] if isinstance(turns, list) and turns else None
    if isinstance(last, dict) and {last.get("role"), last.get("from")} & {"assistant", "gpt"}:
        return False
    if isinstance(target, dict):
        return "skill_sequence" in target and "steps" not in target
    return isinstance(target, list) or any(
        record.get(place) is not None for place in _PLACES[:2] if "completion" not in record
    )


def with_plan(record: dict[str, Any], where: str) -> dict[str, Any]:
    """The JSON object with its truth as a plan in `target`, and its prompt as turns. UserError that begins with
    `where`."""
    place = next(place for place in reversed(_PLACES) if record.get(place) is not None)
    row = {key: value for key, value in record.items() if key not in _PLACES}
    if isinstance(prompt := record.get("prompt"), str):
        content, columns = _content(prompt, record, where)
        unshown = ("image", "images") if columns else ()  # a prompt that names its columns shows no others
        row = {key: value for key, value in row.items() if key not in ("prompt", *unshown)}
        row["messages"] = [{"role": "user", "content": content}]
    if all(record.get(name) is not None for name in _EXAMPLE):
        row.setdefault("id", "-".join(str(record[name]) for name in _EXAMPLE))
    if isinstance(record.get("instruction"), str):
        row.setdefault("task_name", record["instruction"].strip())
    return row | {"target": {"steps": _plan(record[place], f"{where}: {place}")}}


def _plan(truth: Any, where: str) -> str:
    """A truth as the fenced list."""
    try:
        steps = steps_of(json.loads(truth) if isinstance(truth, str) else truth)
    except (FormatError, ValueError, RecursionError) as error:
        raise UserError(f"{where} is no list of skills ({error}). Mend or remove the row", "no plan") from error
    for number, step in enumerate(steps, 1):
        if step.skill not in SKILLS:
            raise UserError(f"{where}: skill {number} is {step.skill!r:.40}, not one of {', '.join(SKILLS)}", "no plan")
    return fenced_steps(steps)


def _content(prompt: str, record: dict[str, Any], where: str) -> tuple[Any, set[str]]:
    """The content of a user turn, words or items with the pictures of the columns that image items name, and the names
    of those columns."""
    try:
        items = json.loads(prompt)
    except (ValueError, RecursionError):
        return prompt, set()
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return prompt, set()
    columns = {item["image"] for item in items if isinstance(item.get("image"), str)}
    if missing := sorted(column for column in columns if not isinstance(record.get(column), str)):
        raise UserError(f"{where}: the prompt shows the column {missing[0]!r:.40}, which holds no picture")
    content = (
        item | {"image": record[item["image"]]} if isinstance(item.get("image"), str) else item for item in items
    )
    return list(content), columns
