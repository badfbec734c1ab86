"""Planning rows: the typed form of LEAP's training JSONL, read with file:line errors.

    {"messages": [{"role": "user", "content": [{"type": "image", "image": "images/327-648642.png"},
                                               {"type": "text", "text": "..."}]}],
     "target": {"steps": "1) ... 2) ..."}}

Pictures and videos are content items; a row that has them in a column of its own, or as <image> in its words, is an
error. Optional: id, task_id, episode_id, task_name; supervise ("last": the loss sees the plan, "all": the assistant's
earlier turns too); weight (of each of the row's tokens in the loss, 1 by default). System turns, earlier turns, several
images and videos (leap/rows/videos.py) are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import numbered_jsonl

ROLES = ("system", "user", "assistant")
SUPERVISED_TURNS = ("last", "all")
_MOST_WEIGHT = 1_000_000  # sums of losses stay far from the largest float32

# What other formats write beside the conversation and this one has in it, by the kind of content item.
_COLUMNS = {"image": ("image", "images"), "video": ("video", "videos")}
_UNREAD_COLUMNS = ("system", "tools")

_IMPORT_ADVICE = "; scripts/utils/import_rows.py makes rows of conversations that end with an assistant's turn"

_BOUNDS = ("min_pixels", "max_pixels", "total_pixels")
_SAMPLING = ("fps", "nframes", "min_frames", "max_frames", "video_start", "video_end")
_SIZES = ("resized_height", "resized_width")


@dataclass(frozen=True)
class PlanningRow:
    """One conversation that ends with a user turn, and the plan that answers it.

    `messages` have content lists only (text was wrapped); `where` is "file:line"; `folder` is the JSONL's. A row that
    is not `supervised` fills a batch up and teaches nothing. `image_tokens` bounds the visual tokens of each of its
    images where they must be shrunk for the row to fit. `supervise` is one of SUPERVISED_TURNS, None where the row
    leaves that to the run.
    """

    messages: list[dict]
    steps: str
    where: str
    folder: Path
    id: str | None = None
    task_id: str | None = None
    episode_id: str | None = None
    task_name: str | None = None
    supervised: bool = True
    image_tokens: int | None = None
    supervise: str | None = None
    weight: float = 1.0


def read_rows(path: Path) -> list[PlanningRow]:
    """All rows of a planning JSONL; UserError names file, line and defect. An empty file is an error."""
    rows = list(iter_rows(path))
    if not rows:
        raise no_rows(path)
    return rows


class NoRows(UserError):
    """A planning file holds no row at all."""


def no_rows(path: Path) -> NoRows:
    """What to say of a planning file without rows."""
    return NoRows(f'{path} holds no planning rows. Each line is {{"messages": [...], "target": {{...}}}}')


def iter_rows(path: Path) -> Iterator[PlanningRow]:
    for number, record in numbered_jsonl(path):
        yield row_from_record(record, f"{path}:{number}", path.parent)


def row_from_record(record: dict, where: str, folder: Path) -> PlanningRow:
    """Check one JSON object and type it. Raises UserError that begins with `where`."""
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        advice = _IMPORT_ADVICE if "conversations" in record or "prompt" in record else ""
        raise UserError(f"{where}: 'messages' must be a list with at least one turn{advice}")
    target = record.get("target")
    steps = target.get("steps") if isinstance(target, dict) else None
    if not isinstance(steps, str) or not steps.strip():
        advice = "" if target is not None else _IMPORT_ADVICE
        raise UserError(f"{where}: 'target.steps' must be the plan as text{advice}", "no plan")
    turns = [_turn(message, where) for message in messages]
    if turns[-1]["role"] != "user":
        raise UserError(
            f"{where}: the last turn must be the user's, found {turns[-1]['role']!r}; the plan is its answer"
        )
    for kind, columns in _COLUMNS.items():
        _refuse_pictures_elsewhere(kind, columns, record, turns, where)
    optional: dict[str, Any] = {
        key: str(record[key]) for key in ("id", "task_id", "episode_id", "task_name") if record.get(key) is not None
    }
    if (supervise := record.get("supervise")) not in (None, *SUPERVISED_TURNS):
        raise UserError(f"{where}: 'supervise' must be {' or '.join(SUPERVISED_TURNS)}, found {supervise!r:.40}")
    return PlanningRow(
        turns, steps.strip(), where, folder, **optional, supervise=supervise, weight=_weight(record, where)
    )


def _weight(record: dict, where: str) -> float:
    """What each of the row's tokens counts in the loss."""
    weight = record.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= _MOST_WEIGHT:
        raise UserError(f"{where}: 'weight' must be a number from 0 to {_MOST_WEIGHT:,}, found {weight!r:.40}")
    return float(weight)


def _turn(message: object, where: str) -> dict:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise UserError(f"{where}: a turn needs a role out of {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise UserError(f"{where}: the {message['role']} turn has no content")
    for item in content:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind not in ("text", "image", "video") or not isinstance(
            item.get(kind), (str, list) if kind == "video" else str
        ):
            raise UserError(
                f'{where}: a content item must be {{"type": "text" or "image" or "video", ...}}, found {item!r:.80}'
            )
    return {"role": message["role"], "content": content}


def unread_keys(record: dict, row: PlanningRow) -> list[str]:
    """What of a record might be meant to change its prompt or its plan, and is not read, in words."""
    keys = [f"the key {name!r}" for name in _UNREAD_COLUMNS if record.get(name)]
    for message, turn in zip(record["messages"], row.messages, strict=True):
        keys += [f"{name!r} of a turn" for name in message if name not in ("role", "content") and message[name]]
        for item in turn["content"]:
            keys += [f"{name!r} of {item['type']} items" for name in item if name not in _keys_read(item)]
    return sorted(set(keys))


def _keys_read(item: dict) -> tuple[str, ...]:
    """The keys of a content item that count; leap/rows/videos.py says what those of a video mean."""
    content = ("type", item["type"])
    if item["type"] != "video":
        return content
    sampling = ("sample_fps",) if isinstance(item["video"], list) else (*_SAMPLING, *_SIZES)
    return (*content, *_BOUNDS, *sampling)


def _refuse_pictures_elsewhere(
    kind: str, columns: tuple[str, ...], record: dict, turns: list[dict], where: str
) -> None:
    """UserError for a row that would be shown without its pictures (or videos, by `kind`)."""
    items = [item for turn in turns for item in turn["content"]]
    item_count = sum(item["type"] == kind for item in items)
    advice = f'write each as a content item {{"type": "{kind}", "{kind}": path}}'
    for column in columns:
        named = record.get(column) or []
        count = len(named) if isinstance(named, list) else 1
        if count > item_count:
            raise UserError(
                f"{where}: the key {column!r} names {count} {kind}s, of which the turns show {item_count}; {advice}"
            )
    if not item_count and any(f"<{kind}>" in item["text"] for item in items if item["type"] == "text"):
        raise UserError(f"{where}: <{kind}> stands in the words and the turns show no {kind}; {advice}")
