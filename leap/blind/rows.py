"""The rows of a blind review as prompts: which pictures they show, and what makes two of them the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.files import sha256_json
from leap.rows.chat import chat_messages, image_items, resolve_image, task_name_of
from leap.rows.images import intact_bytes
from leap.rows.records import PlanningRow, read_rows
from leap.rows.videos import video_items


@dataclass(frozen=True)
class BlindRow:
    """One planning row, numbered from 0. `messages` show their pictures as files; `sha256` is over all that a model is
    shown; `folder` is where the written image paths count from. `problem` says why it cannot be asked, or is None."""

    sample: int
    row: PlanningRow
    messages: list[dict]
    sha256: str
    folder: Path
    problem: str | None = None

    @property
    def images(self) -> list[str]:
        """The paths of its pictures as written."""
        return image_items(self.row)

    @property
    def task_name(self) -> str | None:
        return task_name_of(self.row)

    @property
    def prompt(self) -> str:
        """The words of the conversation, with who says them where there is more than one turn."""
        turns = [(turn["role"], _words(turn)) for turn in self.row.messages]
        if len(turns) == 1:
            return turns[0][1]
        return "\n\n".join(f"[{role}] {words}" for role, words in turns)

    def seed(self, seed: int) -> int:
        """What decides the draws for this row, wherever it stands in its file; below 2^31, which endpoints take."""
        return int(sha256_json([seed, self.sha256])[:8], 16) % 2**31


def read_blind_rows(path: Path, image_root: Path | None, workspace: Path) -> list[BlindRow]:
    """All rows of a planning JSONL. UserError for a line that is no row; a picture that is missing or broken is the
    `problem` of its own row."""
    return [blind_row(number, row, image_root, workspace) for number, row in enumerate(read_rows(path))]


def blind_row(sample: int, row: PlanningRow, image_root: Path | None, workspace: Path) -> BlindRow:
    """One row as a prompt, with what makes it the same as another."""
    folder = image_root or row.folder
    contents: list[list[str]] = []
    try:
        if video_items(row):
            raise UserError(f"{row.where}: a review shows no videos; give some of its frames as images")
        messages = [
            {
                "role": turn["role"],
                "content": [_content(item, row, image_root, workspace, contents) for item in turn["content"]],
            }
            for turn in chat_messages(row)
        ]
    except UserError as error:
        problem = str(error).encode("utf-8", "backslashreplace").decode()  # a path may hold what no terminal can show
        return BlindRow(sample, row, [], sha256_json([row.messages, str(error)]), folder, problem)
    roles = [[turn["role"], len(turn["content"])] for turn in messages]
    return BlindRow(sample, row, messages, sha256_json([roles, contents]), folder)


def _content(item: dict, row: PlanningRow, image_root: Path | None, workspace: Path, contents: list[list[str]]) -> dict:
    """A content item as a planner takes it; `contents` gets what of it a model sees."""
    if item["type"] == "text":
        try:
            item["text"].encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{row.where}: its words are no Unicode text ({error.reason})") from error
        contents.append(["text", item["text"]])
        return {"type": "text", "text": item["text"]}
    path = resolve_image(item["image"], row, image_root, workspace)
    try:
        contents.append(["image", hashlib.sha256(intact_bytes(path)).hexdigest()])
    except ValueError as error:
        raise UserError(f"{row.where}: {path} {error}") from error
    return {"type": "image", "image": str(path)}


def _words(turn: dict) -> str:
    return "\n".join(item["text"] for item in turn["content"] if item["type"] == "text")
