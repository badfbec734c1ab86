"""Annotations of AgiBot episodes, in the forms in which they are published, as one typed form.

    AgiBotWorld         task_info/task_<id>.json, a list of
                        {"episode_id": 649078, "task_id": 327, "task_name": "...", "init_scene_text": "...",
                         "label_info": {"action_config": [{"start_frame": 0, "end_frame": 435,
                                                           "action_text": "Pick up ...", "skill": "Pick"}]}}
                        (some releases write "lable_info")
    first-frame rows    {"episode_dir": ".../487/<episode>", "first_frame_path": ".../487/<episode>/00000.png",
                         "task_general": "...", "task_detail": "1) ... 2) ..."}
    planning rows       leap/rows/records.py

LOVE-Agibot's json/output_<id>.json has no published form: any of these is taken, as a list, as an object by episode id,
inside one object, or as JSONL. An id may stand in a field, a path, a key or the file's name; where two of these
disagree, or steps cannot be told, the entry is rejected with a reason. Steps lose the bullets and numbers of a list
("- ", "1)", "Step 1:"); numbers that are not those of their places are a reason, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import UserError
from leap.plans.metrics import is_numbered_plan, leading_number, numbered_steps
from leap.rows.chat import task_name_in

AGIBOT_LICENCE = "CC BY-NC-SA 4.0"

# Ids are texts of at most 20 digits (a 64-bit number), which may begin with zeros; they are never turned into numbers.
_ID = re.compile(r"[0-9]{1,20}")
_FILE_TASK = re.compile(r"(?:task|output)_([0-9]{1,20})", re.IGNORECASE)
_EPISODE_FOLDER = re.compile(r"(?:^|/)([0-9]{1,20})/([0-9]{1,20})/?$")
_FRAME = re.compile(r"(?:^|/)([0-9]{1,20})/([0-9]{1,20})/[^/]+\.(?:png|jpe?g)$", re.IGNORECASE)
_PICTURE = re.compile(r"(?:^|/)([0-9]{1,20})-([0-9]{1,20})\.(?:png|jpe?g)$", re.IGNORECASE)
_BULLETS = re.compile(r"^[ \t]*(?:[-*+](?:[ \t]+|$)|\u2022[ \t]*)+", re.MULTILINE)
# What an object may hold its entries under.
_WRAPPERS = ("data", "episodes", "annotations", "items", "rows", "results")
_NAMES = ("task_name", "task_general")
_STEPS = ("task_detail", "steps")
_SHARED = ("task_id", *_NAMES)  # what the object around a list may say for all of its entries


@dataclass(frozen=True)
class AnnotatedEpisode:
    """An annotated episode: its steps as texts, and of AgiBotWorld each step's skill and [first, last] frame."""

    task_id: str
    episode_id: str
    task_name: str
    steps: list[str]
    where: str
    skills: list[str | None] = field(default_factory=list)
    frames: list[list[int]] = field(default_factory=list)
    scene: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class RejectedEntry:
    """An entry that is no usable episode, and why. `where` is the file and the entry's place in it."""

    where: str
    reason: str
    task_id: str | None = None
    episode_id: str | None = None


class _EntryDefect(Exception):
    """Why an entry is none."""


def annotation_files(paths: Sequence[Path]) -> list[Path]:
    """The JSON and JSONL files that these paths mean: themselves, or those in a folder by name. UserError if none."""
    files = []
    for path in paths:
        if path.is_dir():
            matches = sorted(file for file in path.iterdir() if file.suffix in (".json", ".jsonl") and file.is_file())
        elif path.is_file():
            matches = [path]
        else:
            raise UserError(f"annotations not found: {path}. Name task_info/*.json of AgiBotWorld, or their folder")
        if not matches:
            raise UserError(f"no .json or .jsonl file in {path}")
        files += matches
    return files


def read_annotations(path: Path) -> Iterator[AnnotatedEpisode | RejectedEntry]:
    """The entries of one file, in its order. A file, or a line of a JSONL, that is no JSON is one RejectedEntry."""
    named = _FILE_TASK.fullmatch(path.stem)
    for place, key, entry in _entries(path):
        where = f"{path.parent.name}/{path.name}{place}"
        if isinstance(entry, RejectedEntry):
            yield RejectedEntry(where, entry.reason)
            continue
        task_id = episode_id = None
        try:
            if not isinstance(entry, dict):
                raise _EntryDefect(f"is no object but {type(entry).__name__}")
            task_id, episode_id = _ids(entry, key, named and named[1])
            yield _episode(entry, task_id, episode_id, where)
        except _EntryDefect as error:
            task_id, episode_id = task_id or _plain_id(entry, "task_id"), episode_id or _plain_id(entry, "episode_id")
            yield RejectedEntry(where, str(error), task_id, episode_id)


def _entries(path: Path) -> Iterator[tuple[str, str | None, Any]]:
    """(place in the file, key that names the episode, value) of each entry; a RejectedEntry for what cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield "", None, RejectedEntry("", f"is not UTF-8 text ({error.reason} at byte {error.start})")
        return
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if path.suffix == ".jsonl" or _is_jsonl(text):
            yield from _lines(text)
        else:
            yield "", None, RejectedEntry("", f"is not valid JSON ({error})")
        return
    yield from _unwrapped(content)


def _is_jsonl(text: str) -> bool:
    """Whether the first line with text is a JSON object by itself."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _lines(text: str) -> Iterator[tuple[str, None, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f":{number}", None, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f":{number}", None, RejectedEntry("", f"is not valid JSON ({error})")


def _unwrapped(content: Any) -> Iterator[tuple[str, str | None, Any]]:
    """The entries in a JSON value: those of a list, inside one object, of an object by episode id, or one entry."""
    if isinstance(content, list):
        yield from ((f"[{index}]", None, entry) for index, entry in enumerate(content))
        return
    wrapped = _wrapped(content) if isinstance(content, dict) else None
    if wrapped is not None:
        shared = {name: content[name] for name in _SHARED if name in content}
        for place, key, entry in _unwrapped(wrapped):
            yield place, key, shared | entry if isinstance(entry, dict) else entry
    elif isinstance(content, dict) and content and all(isinstance(key, str) and _key_id(key) for key in content):
        for key, value in content.items():
            yield f"[{key!r}]", key, value
    else:
        yield "", None, content


def _wrapped(content: dict) -> list | dict | None:
    """The entries inside one object. Of two candidates neither is it, and a planning row wraps nothing: its content
    items may lie under one of the names."""
    inner = [content[name] for name in _WRAPPERS if isinstance(content.get(name), (list, dict))]
    return inner[0] if len(inner) == 1 and "messages" not in content else None


def _key_id(key: str) -> tuple[str | None, str] | None:
    """(task id if it is said, episode id) of a key: "648642", "327-648642", "327/648642" or a path to a frame."""
    if _ID.fullmatch(key):
        return None, key
    match = re.fullmatch(r"([0-9]{1,20})[-_]([0-9]{1,20})", key) or _in_path(key)
    return (match[1], match[2]) if match else None


def _in_path(path: str) -> re.Match | None:
    """Task and episode in the path of an episode's folder, of a frame in it, or of a first frame in data/images."""
    return _EPISODE_FOLDER.search(path) or _FRAME.search(path) or _PICTURE.search(path)


def _plain_id(entry: Any, name: str) -> str | None:
    """An id in a field of its own, None without the field."""
    value = entry.get(name) if isinstance(entry, dict) else None
    number = _whole(value)
    if number is not None and number >= 0:
        return str(number)
    return value.strip() if isinstance(value, str) and _ID.fullmatch(value.strip()) else None


def _whole(value: Any) -> int | None:
    """A whole number, which JSON may also write as 8.0; None for anything else, and where digits may be lost."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _ids(entry: dict, key: str | None, task_of_file: str | None) -> tuple[str, str]:
    """(task id, episode id); the sources that say one must agree."""
    tasks: list[tuple[str, str | None]] = [("the file's name", task_of_file)]
    episodes: list[tuple[str, str | None]] = []
    for name, sources in (("task_id", tasks), ("episode_id", episodes)):
        value = _plain_id(entry, name)
        if value is None and entry.get(name) is not None:
            raise _EntryDefect(f"{name} is no number: {entry[name]!r:.60}")
        sources.append((name, value))
    if key is not None and (ids := _key_id(key)) is not None:
        task, episode = ids
        tasks.append(("its key", task))
        episodes.append(("its key", episode))
    for name, path in _paths(entry):
        if match := _in_path(path):
            tasks.append((name, match[1]))
            episodes.append((name, match[2]))
    return _agreed(tasks, "task"), _agreed(episodes, "episode")


def _agreed(sources: Sequence[tuple[str, str | None]], what: str) -> str:
    stated = [(name, value) for name, value in sources if value is not None]
    if not stated:
        raise _EntryDefect(f"says no {what} id")
    first = stated[0]
    other = next((source for source in stated if source[1] != first[1]), None)
    if other:
        raise _EntryDefect(f"{what} id is {first[1]} by {first[0]}, {other[1]} by {other[0]}")
    return first[1]


def _paths(entry: dict) -> Iterator[tuple[str, str]]:
    """The paths that an entry names its episode by."""
    for name in ("episode_dir", "first_frame_path", "image"):
        if isinstance(entry.get(name), str):
            yield name, entry[name].replace("\\", "/")
    for item in _items(entry):
        if item.get("type") == "image" and isinstance(item.get("image"), str):
            yield "its image", item["image"]


def _items(entry: dict) -> Iterator[dict]:
    """The content items of a planning row's turns."""
    for turn in entry["messages"] if isinstance(entry.get("messages"), list) else ():
        content = turn.get("content") if isinstance(turn, dict) else None
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        elif isinstance(content, list):
            yield from (item for item in content if isinstance(item, dict))


def _episode(entry: dict, task_id: str, episode_id: str, where: str) -> AnnotatedEpisode:
    text = entry.get("init_scene_text")
    scene = text.strip() or None if isinstance(text, str) else None
    name = _task_name(entry)
    config = _action_config(entry)
    if config is not None:
        actions = _actions(config)
        return AnnotatedEpisode(
            task_id,
            episode_id,
            name,
            [action.text for action in actions],
            where,
            [action.skill for action in actions],
            [[action.start, action.end] for action in actions],
            scene=scene,
            licence=AGIBOT_LICENCE,
        )
    return AnnotatedEpisode(task_id, episode_id, name, _stated_steps(entry), where, scene=scene)


def _task_name(entry: dict) -> str:
    names = [_one_line(entry[key]) for key in _NAMES if isinstance(entry.get(key), str)]
    names += [name for item in _items(entry) if (name := task_name_in(str(item.get("text", ""))))]
    name = next(filter(None, names), None)
    if name is None:
        raise _EntryDefect("says no task name")
    return name


def _action_config(entry: dict) -> list | None:
    """The list of actions of an AgiBotWorld entry; None for another form."""
    labels = [entry[name] for name in ("label_info", "lable_info") if entry.get(name) is not None]
    if not labels and "action_config" not in entry:
        return None
    if len(labels) == 2 and labels[0] != labels[1]:
        raise _EntryDefect("label_info and lable_info differ")
    config = labels[0].get("action_config") if labels and isinstance(labels[0], dict) else entry.get("action_config")
    if not isinstance(config, list):
        raise _EntryDefect("has no steps")
    return config


class _Action(NamedTuple):
    """A step of AgiBotWorld, from its first to its last frame."""

    start: int
    end: int
    text: str
    skill: str | None


def _actions(config: list) -> list[_Action]:
    """The actions by time, without empty texts and repetitions of the one before.

    1. Each entry is checked and typed; one without text is an idle stretch of the recording and goes.
    2. They are put in order of their frames, which must increase: overlapping starts mean another order of steps than
       the one written, or a mistake in labelling, and nobody can tell which.
    3. List numbers in the texts go; they must be the steps' places after the sorting.
    4. Equal neighbours, as where a step was labelled in two takes, become one that spans both.
    """
    actions = sorted(filter(None, map(_action, config)), key=lambda action: (action.start, action.end))
    _require_order(actions)
    texts = _without_numbers([action.text for action in actions])
    named = [action._replace(text=text) for action, text in zip(actions, texts, strict=True) if text]
    merged: list[_Action] = []
    for action in named:
        if merged and merged[-1].text == action.text:
            merged[-1] = merged[-1]._replace(end=max(merged[-1].end, action.end))
        else:
            merged.append(action)
    if not merged:
        raise _EntryDefect("has no steps")
    return merged


def _action(record: Any) -> _Action | None:
    """The typed form of one entry of an action_config; None without a text."""
    text = record.get("action_text") if isinstance(record, dict) else None
    if text is not None and not isinstance(text, str):
        raise _EntryDefect(f"an action's text is no text: {text!r:.60}")
    if not text or not text.strip():
        return None
    skill = record.get("skill")
    start, end = (_whole(record.get(name)) for name in ("start_frame", "end_frame"))
    if start is None or end is None:
        written = " to ".join(f"{record.get(name)!r:.20}" for name in ("start_frame", "end_frame"))
        raise _EntryDefect(f"a step's frames are no whole numbers: {written}")
    return _Action(start, end, _one_line(text), skill.strip() or None if isinstance(skill, str) else None)


def _require_order(actions: Sequence[_Action]) -> None:
    last = -1
    for action in actions:
        if action.start <= last or action.end <= action.start:
            behind = f", and another step begins at {last}" if last >= 0 else ""
            raise _EntryDefect(f"frames do not increase: a step goes from {action.start} to {action.end}{behind}")
        last = action.start


def _stated_steps(entry: dict) -> list[str]:
    """Steps stated as a list of texts, or as one text that numbers them or has one a line.

    A list of one numbered text is that text. List marks go first, so that a number behind a bullet counts; a text whose
    numbers are not 1, 2, 3 is refused, not cut at its lines: a step may be missing. A repeated step counts once.
    """
    value = _steps_field(entry)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) and is_numbered_plan(value[0]):
        value = value[0]
    if isinstance(value, str):
        value = _cut(value)
    if not isinstance(value, list) or not all(isinstance(step, str) for step in value):
        raise _EntryDefect("its steps are no texts")
    steps = list(filter(None, _without_numbers(list(filter(None, map(_one_line, value))))))
    steps = [step for index, step in enumerate(steps) if index == 0 or step != steps[index - 1]]
    if not steps:
        raise _EntryDefect("has no steps")
    return steps


def _steps_field(entry: dict) -> Any:
    target = entry.get("target")
    values = [entry.get(name) for name in _STEPS] + [target.get("steps") if isinstance(target, dict) else None]
    value = next((value for value in values if value is not None), None)
    if value is None:
        raise _EntryDefect("has no steps")
    return value


def _cut(text: str) -> list[str]:
    """The steps of one text: by their numbers, else its lines."""
    text = _BULLETS.sub("", text)
    if is_numbered_plan(text):
        return numbered_steps(text)
    if numbered_steps(text):
        raise _EntryDefect(f"its steps are not numbered 1, 2, 3: {_one_line(text)!r:.80}")
    return text.split("\n")


def _without_numbers(steps: Sequence[str]) -> list[str]:
    """The steps without the bullets and numbers that they begin with."""
    texts = []
    for place, step in enumerate(steps, 1):
        number, rest = leading_number(_BULLETS.sub("", step))
        if number not in (None, place):
            raise _EntryDefect(f"its steps are not numbered 1, 2, 3: step {place} is {step!r:.80}")
        texts.append(rest)
    return texts


def _one_line(text: str) -> str:
    return " ".join(text.split())
