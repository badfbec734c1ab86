"""A planning row as chat messages with resolved images, and the text patterns of planning prompts."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from configs.errors import UserError
from leap.rows.records import PlanningRow

# The prompt of rows that this project writes.
PLANNING_PROMPT = "Task name: {name}.\nPlan it from this picture of the start, as numbered steps."

# Task names in planning prompts: ours, and that of LEAP's published rows (spaces or line breaks between sentences).
_TASK_NAME = re.compile(r"Task name:\s*(?P<name>.+?)\s*\.?\s*(?:\n|Based on the above description|$)", re.DOTALL)

_ROOT_FOLDERS = ("data", "demo-data")


def planning_prompt(task_name: str) -> str:
    return PLANNING_PROMPT.format(name=task_name)


def task_name_in(prompt: str) -> str | None:
    """The task name that a planning prompt states, or None."""
    match = _TASK_NAME.search(prompt)
    return match.group("name") if match else None


def task_name_of(row: PlanningRow) -> str | None:
    """The name of a row's task: its own field, else what its prompt states, else None."""
    texts = (item["text"] for turn in row.messages for item in turn["content"] if item["type"] == "text")
    return row.task_name or next((name for name in map(task_name_in, texts) if name), None)


def image_items(row: PlanningRow) -> list[str]:
    """The image paths of a row as written, in the order in which the conversation shows them."""
    return [item["image"] for turn in row.messages for item in turn["content"] if item["type"] == "image"]


def image_candidates(written: str, folder: Path, image_root: Path | None, workspace: Path) -> list[Path]:
    """The files that an image path may mean in a JSONL file of `folder`, in the order in which they are tried.

    Published rows write `data/images/x.png`, `images/x.png` or `demo-data/images/x.png`. Tried with and without that
    leading folder: `image_root` alone if it is given, else the JSONL's folder, its parent, the workspace, its `data`.
    """
    return list(map(Path, _candidate_names(written, folder, image_root, workspace)))


def image_file(written: str, folder: Path, image_root: Path | None, workspace: Path) -> str | None:
    """The first of `image_candidates` that is a file."""
    # As text, not as paths, which would take most of the time over a million pictures.
    # os.path.isfile is False, not an error, for a text too long for a path.
    return next(filter(os.path.isfile, _candidate_names(written, folder, image_root, workspace)), None)


def _candidate_names(written: str, folder: Path, image_root: Path | None, workspace: Path) -> Iterator[str]:
    name = written.removeprefix("file://")
    if name.startswith("/"):
        yield name
        return
    first, _, rest = name.removeprefix("./").partition("/")
    forms = [name, rest] if first in _ROOT_FOLDERS else [name]
    for place in _places(folder, image_root, workspace):
        for form in forms:
            yield f"{place}/{form}"


@functools.lru_cache(maxsize=64)
def _places(folder: Path, image_root: Path | None, workspace: Path) -> list[str]:
    places = [image_root] if image_root else [folder, folder.parent, workspace, workspace / "data"]
    return list(map(str, places))


def media_stamp(file: str) -> int:
    """64 bits of a hash of a picture's or video's path, size and time of change. OSError if it is not there."""
    stat = os.stat(file)
    content = f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def first_file(candidates: list[Path]) -> Path | None:
    """The first of these that is a file."""
    # os.path.isfile is False, not an error, for a text too long for a path.
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)


def resolve_image(
    written: str, row: PlanningRow, image_root: Path | None, workspace: Path, what: str = "image"
) -> Path:
    """The file that an image path of `row` means: the first of `image_candidates` there is, else UserError. Also for
    another kind of file, named by `what`."""
    if path := image_file(written, row.folder, image_root, workspace):
        return Path(path)
    candidates = image_candidates(written, row.folder, image_root, workspace)
    advice = f"Unpack the {what}s beside the JSONL file, or name their folder with --image_root"
    if archives := sorted(row.folder.glob("images*.tar.gz")):
        folder = shlex.quote(str(row.folder))
        advice = (
            f"{archives[0]} is still packed: python scripts/download/download_dataset.py --local_dir {folder} verifies "
            "and unpacks it, fetching only what is not there"
        )
    raise UserError(
        f"{row.where}: {what} not found: {written} (looked at {candidates[0]} and {len(candidates) - 1} other "
        f"places). {advice}",
        "missing image or video",
    )


def chat_messages(row: PlanningRow, answer: str | None = None) -> list[dict]:
    """The row as messages for a chat template; with `answer`, as the last assistant turn."""
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in row.messages]
    if answer is not None:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages
