"""Planning rows in the formats of other trainers, and conversations of others as planning rows.

    trl        {"images": [path, ...], "prompt": [turn, ...], "completion": [turn]} with {"type": "image"} items, for
               TRL's SFTTrainer
    sharegpt   {"conversations": [{"from": "human", "value": "<image>..."}, {"from": "gpt", "value": "..."}],
               "system": "...", "images": [path, ...]}, for LLaMA-Factory
    swift      {"messages": [{"role": "user", "content": "<image>..."}, ...], "images": [path, ...]}, for ms-swift

Videos stand in `videos` and as <video>. In the other direction the same three are read, and also LLaVA's `image`,
content items that name their own file, and OpenAI's `image_url`; the last assistant turn is the plan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.rows.chat import chat_messages, resolve_image
from leap.rows.records import PlanningRow, row_from_record

KINDS = ("image", "video")  # what a turn may show
_TAG = re.compile(r"<(image|video)>")
_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_KEPT_KEYS = ("id", "task_id", "episode_id", "task_name", "supervise", "weight")

PathOf = Callable[[str], str]


def exported(row: PlanningRow, form: str, path_of: PathOf) -> dict[str, Any]:
    """The row with its plan in one of FORMATS. `path_of` turns a file as the row names it into what is written.

    UserError for a video given as frames or with bounds of its own, which the formats cannot say, and (where they mark
    files by tags) for words that hold a tag.
    """
    return FORMATS[form](chat_messages(row, row.steps), row, path_of)


def files_beside(row: PlanningRow, folder: Path | None, image_root: Path | None, workspace: Path) -> PathOf:
    """How to write the pictures and videos of a row: as absolute paths, or relative to `folder` where one is given."""

    def path_of(written: str) -> str:
        path = resolve_image(written, row, image_root, workspace).resolve()
        return str(path) if folder is None else os.path.relpath(path, folder.resolve())

    return path_of


def _files_in(messages: list[dict], row: PlanningRow, path_of: PathOf) -> dict[str, list[str]]:
    """The files that a conversation shows, in order: {"images": [...], "videos": [...]}, empty lists left out."""
    files: dict[str, list[str]] = {f"{kind}s": [] for kind in KINDS}
    for item in _items(messages):
        if (kind := item["type"]) in KINDS:
            if kind == "video" and (not isinstance(item[kind], str) or len(item) > 2):
                raise UserError(f"{row.where}: this format cannot say the frames or the bounds of {item!r:.80}")
            files[f"{kind}s"].append(path_of(item[kind]))
    return {name: paths for name, paths in files.items() if paths}


def _items(messages: list[dict]) -> Iterator[dict]:
    return (item for turn in messages for item in turn["content"])


def _with_tags(turn: dict, row: PlanningRow) -> str:
    """The words of a turn with a tag for each file that it shows."""
    for item in turn["content"]:
        if item["type"] == "text" and (tag := _TAG.search(item["text"])):
            raise UserError(f"{row.where}: {tag.group()} stands in the words, which this format reads as a file")
    return "".join(item["text"] if item["type"] == "text" else f"<{item['type']}>" for item in turn["content"])


def _trl(messages: list[dict], row: PlanningRow, path_of: PathOf) -> dict[str, Any]:
    files = _files_in(messages, row, path_of)
    turns = [
        turn | {"content": [item if item["type"] == "text" else {"type": item["type"]} for item in turn["content"]]}
        for turn in messages
    ]
    return files | {"prompt": turns[:-1], "completion": turns[-1:]}


def _sharegpt(messages: list[dict], row: PlanningRow, path_of: PathOf) -> dict[str, Any]:
    files = _files_in(messages, row, path_of)
    system = {"system": _with_tags(messages[0], row)} if messages[0]["role"] == "system" else {}
    speakers = {"user": "human", "assistant": "gpt", "system": "system"}
    turns = [{"from": speakers[turn["role"]], "value": _with_tags(turn, row)} for turn in messages[len(system) :]]
    return {"conversations": turns} | system | files


def _swift(messages: list[dict], row: PlanningRow, path_of: PathOf) -> dict[str, Any]:
    files = _files_in(messages, row, path_of)
    return {"messages": [{"role": turn["role"], "content": _with_tags(turn, row)} for turn in messages]} | files


FORMATS: dict[str, Callable[[list[dict], PlanningRow, PathOf], dict[str, Any]]] = {
    "trl": _trl,
    "sharegpt": _sharegpt,
    "swift": _swift,
}


def imported(record: dict[str, Any], where: str, folder: Path, path_of: PathOf = str) -> dict[str, Any]:
    """A conversation of another format as the JSON object of a planning row; a planning row stays what it is.

    `path_of` turns a file as the conversation names it into what is written. UserError begins with `where`: no
    assistant turn at the end, tools, a tag without its file or a file without its tag.
    """
    messages = _turns(record, where)
    if "target" in record:
        plan = record["target"]
    else:
        if not messages or messages[-1]["role"] != "assistant":
            raise UserError(f"{where}: the last turn must be the assistant's: it is the plan")
        words = [item.get("text") for item in messages.pop()["content"]]
        if not all(isinstance(text, str) for text in words):
            raise UserError(f"{where}: the plan must be words alone")
        plan = {"steps": "".join(words)}
    files = {kind: iter(_column(record, kind)) for kind in KINDS}
    turns = [
        {"role": turn["role"], "content": [_own_item(item, files, where, path_of) for item in turn["content"]]}
        for turn in messages
    ]
    for kind, unused in files.items():
        if left := list(unused):
            raise UserError(f"{where}: {len(left)} of the {kind}s beside the turns are shown in none of them")
    row = {key: record[key] for key in _KEPT_KEYS if record.get(key) is not None} | {"messages": turns, "target": plan}
    row_from_record(row, where, folder)
    return row


def _turns(record: dict[str, Any], where: str) -> list[dict]:
    """The conversation as turns with content lists, tags cut out of the words."""
    if record.get("tools"):
        raise UserError(f"{where}: conversations with tools cannot become planning rows")
    if "conversations" in record:
        turns = [_sharegpt_turn(turn, where) for turn in record["conversations"]]
    else:
        turns = record.get("messages") or [*_list(record.get("prompt")), *_list(record.get("completion"))]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise UserError(f"{where}: no conversation: 'conversations', 'messages', or 'prompt' and 'completion' hold one")
    if record.get("system"):
        turns = [{"role": "system", "content": record["system"]}, *turns]
    return [{"role": turn.get("role"), "content": _content(turn.get("content"), where)} for turn in turns]


def _sharegpt_turn(turn: object, where: str) -> dict:
    speaker = turn.get("from") if isinstance(turn, dict) else None
    if not isinstance(turn, dict) or speaker not in _SHAREGPT_ROLES:
        raise UserError(f"{where}: a turn must be from {', '.join(_SHAREGPT_ROLES)}, found {speaker!r}")
    return {"role": _SHAREGPT_ROLES[speaker], "content": turn.get("value")}


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


def _content(content: object, where: str) -> list[dict]:
    """A turn's content as items, with an item for each tag in words that come as one string."""
    if isinstance(content, str):
        parts = _TAG.split(content)  # words, kind, words, kind, ..., words
        return [
            {"type": part} if index % 2 else {"type": "text", "text": part}
            for index, part in enumerate(parts)
            if part or content == ""
        ]
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise UserError(f"{where}: a turn's content must be text or a list of items, found {content!r:.80}")
    return content


def _own_item(item: dict, files: dict[str, Iterator[str]], where: str, path_of: PathOf) -> dict:
    """A content item of ours; one that names no file takes the next of the column beside the turns."""
    kind = "image" if item.get("type") == "image_url" else item.get("type")
    if kind == "text":
        return {"type": "text", "text": item.get("text")}
    if kind not in KINDS:
        raise UserError(f"{where}: a content item must be text, image or video, found {item!r:.80}")
    named = item.get("image_url") if item.get("type") == "image_url" else item.get(kind)
    named = named.get("url") if isinstance(named, dict) else named
    if named is None and (named := next(files[kind], None)) is None:
        raise UserError(f"{where}: a turn shows more {kind}s than the column '{kind}s' names")
    if isinstance(named, str):
        if re.match(r"(?!file:)[a-z]+:", named):
            raise UserError(f"{where}: {kind}s must be files here, found {named:.60}")
        named = path_of(named)
    settings = {key: value for key, value in item.items() if key not in ("type", "text", "image", "video", "image_url")}
    return {"type": kind, kind: named} | {key: value for key, value in settings.items() if value is not None}


def _column(record: dict[str, Any], kind: str) -> list[str]:
    """The files that stand beside the turns."""
    value = record.get(f"{kind}s", record.get(kind)) or []
    return [value] if isinstance(value, str) else value
