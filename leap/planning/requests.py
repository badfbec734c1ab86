"""What a plan is asked for: an instruction and pictures, and how they become a prompt.

A JSONL of requests holds one a line; paths are found as those of planning rows are:

    {"instruction": "Put the cup on the shelf", "images": ["kitchen.jpg"], "id": "7",
     "tagged_image": "kitchen_tags.png", "tags": {"1": [120, 80], "2": [300, 200]}}

`instruction` alone must be there; `tagged_image` and `tags` (number: x, y in pixels) are two ways to say the same. A
planning row ({"messages": ...}, leap/rows/records.py) is a request too, with its prompt as it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import numbered_jsonl, sha256_json
from leap.planners import Query
from leap.planning.options import PlanningOptions
from leap.planning.tags import Tags, check_places, with_tags
from leap.rows.chat import first_file, image_candidates, planning_prompt, task_name_of
from leap.rows.images import load_image
from leap.rows.records import PlanningRow, row_from_record
from leap.vlabench.prompts import PromptWriter

_KEYS = ("id", "instruction", "image", "images", "tagged_image", "tags")


@dataclass(frozen=True)
class PlanRequest:
    """One instruction with its pictures. The tags of the first picture are in `tagged_image`, or at `tags`; `messages`
    are a prompt that stands as it is, with image items as files."""

    instruction: str
    images: tuple[Path, ...] = ()
    tagged_image: Path | None = None
    tags: Tags = field(default_factory=dict)
    id: str | None = None
    messages: list[dict] | None = None
    where: str = "the plan"

    def record(self) -> dict[str, Any]:
        """What is asked, as JSON."""
        return {
            "id": self.id,
            "instruction": self.instruction,
            "images": list(map(str, self.images)),
            "tagged_image": str(self.tagged_image) if self.tagged_image else None,
            "tags": {str(number): list(place) for number, place in self.tags.items()},
        }


class RequestWriter:
    """Makes prompts of requests; `folder` is where pictures go on which tags are drawn."""

    def __init__(self, options: PlanningOptions, workspace: WorkspaceConfig, folder: Path) -> None:
        self.wording, self.folder = options.wording, folder
        self._seed = options.seed if options.temperature else None
        self._skills = PromptWriter(workspace, options.prompt, options.language)

    def fingerprint(self) -> dict[str, Any]:
        """What decides the wording, and what is drawn, for settings.json."""
        drawing = {} if self._seed is None else {"seed": self._seed}
        return {"wording": self.wording, "skills": self._skills.fingerprint()} | drawing

    def queries(self, request: PlanRequest, num_samples: int) -> list[Query]:
        """A query for each of the plans that are drawn to a request; only their keys and seeds differ. UserError as
        `query` has it."""
        first = self.query(request)
        keys = [sha256_json([first.key, number]) if number else first.key for number in range(num_samples)]
        return [replace(first, key=key, seed=int(sha256_json([self._seed, key])[:8], 16) % 2**31) for key in keys]

    def query(self, request: PlanRequest) -> Query:
        """The prompt, keyed by its words and its pictures' contents. UserError if a picture is missing or broken, a tag
        lies outside of it, or the wording wants other pictures."""
        messages = request.messages or [{"role": "user", "content": self._content(request)}]
        key = sha256_json([[turn["role"], list(map(_identity, turn["content"]))] for turn in messages])
        return Query(key, request.instruction, messages)

    def tagged_picture(self, request: PlanRequest) -> Path | None:
        """The file of the picture with its tags, drawn if need be; None for a request without tags."""
        if request.tagged_image or not request.tags:
            return request.tagged_image
        if len(request.images) != 1:
            raise UserError(f"{request.where}: tags belong to one picture, found {len(request.images)}; give one image")
        [photo] = request.images
        picture = load_image(photo, request.where)
        check_places(request.tags, picture.size, request.where)
        tagged = with_tags(picture, request.tags)
        path = self.folder / f"{hashlib.sha256(tagged.tobytes()).hexdigest()[:16]}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            tagged.save(path)
        return path

    def _content(self, request: PlanRequest) -> list[dict]:
        if not request.instruction.strip():
            raise UserError(f"{request.where}: no instruction; say what the robot should do")
        tagged = self.tagged_picture(request)
        wording = self.wording if self.wording != "auto" else "skills" if tagged else "steps"
        if wording == "skills":
            if tagged is None or len(request.images) != 1:
                raise UserError(
                    f"{request.where}: skills name objects by tags: they want one picture and its tags; give --image "
                    "once, with --tagged_image or --tag"
                )
            return self._skills.write_for((request.images[0], tagged), request.instruction)
        pictures = [*request.images, *([tagged] if tagged else [])]
        words = request.instruction if wording == "verbatim" else planning_prompt(request.instruction.strip(" ."))
        return [*({"type": "image", "image": str(path)} for path in pictures), {"type": "text", "text": words}]


def read_requests(path: Path, image_root: Path | None, workspace: Path) -> list[PlanRequest]:
    """All requests of a JSONL. UserError names file, line and defect; a picture that is not there is not one, since
    only its own request fails by it."""
    requests = list(_requests_in(path, image_root, workspace))
    if not requests:
        raise UserError(f'{path} holds no requests. Each line is {{"instruction": "...", "images": ["photo.jpg"]}}')
    return requests


def _requests_in(path: Path, image_root: Path | None, workspace: Path) -> Iterator[PlanRequest]:
    for number, record in numbered_jsonl(path):
        where = f"{path}:{number}"

        def file_of(written: object, where: str = where) -> Path:
            if not isinstance(written, str) or not written:
                raise UserError(f"{where}: a picture must be named by its path, found {written!r:.80}")
            candidates = image_candidates(written, path.parent, image_root, workspace)
            return first_file(candidates) or candidates[0]

        if "messages" in record:
            target = record.get("target") or {"steps": "1) Any."}  # nobody is shown it
            yield _from_row(row_from_record(record | {"target": target}, where, path.parent), file_of)
        else:
            yield _from_record(record, where, file_of)


def _from_row(row: PlanningRow, file_of: Any) -> PlanRequest:
    kinds = {item["type"] for turn in row.messages for item in turn["content"]}
    if "video" in kinds:
        raise UserError(f"{row.where}: no plan for videos; give some of its frames as images")
    messages = [
        {
            "role": turn["role"],
            "content": [
                item if item["type"] == "text" else {"type": "image", "image": str(file_of(item["image"]))}
                for item in turn["content"]
            ],
        }
        for turn in row.messages
    ]
    items = [item for turn in messages for item in turn["content"]]
    words = task_name_of(row) or " ".join(item["text"] for item in items if item["type"] == "text")
    pictures = tuple(Path(item["image"]) for item in items if item["type"] == "image")
    return PlanRequest(words, pictures, id=row.id, messages=messages, where=row.where)


def _from_record(record: dict[str, Any], where: str, file_of: Any) -> PlanRequest:
    unknown = sorted(record.keys() - set(_KEYS))
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r}; known keys: {', '.join(_KEYS)}, or messages")
    instruction = record.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        raise UserError(f"{where}: 'instruction' must say what the robot should do, found {instruction!r:.80}")
    images = record.get("images", record.get("image") or [])
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list):
        raise UserError(f"{where}: 'images' must be a list of paths, found {images!r:.80}")
    tagged = record.get("tagged_image")
    return PlanRequest(
        instruction,
        tuple(map(file_of, images)),
        file_of(tagged) if tagged else None,
        tags_of(record.get("tags") or {}, where),
        str(record["id"]) if record.get("id") is not None else None,
        where=where,
    )


def tags_of(written: object, where: str) -> dict[int, tuple[int, int]]:
    """Tags as JSON has them, {"3": [120, 80]}. UserError that begins with `where`."""
    try:
        if not isinstance(written, Mapping):
            raise TypeError
        tags = {int(number): (int(x), int(y)) for number, (x, y) in written.items()}
    except (TypeError, ValueError):
        raise UserError(f"{where}: 'tags' must be numbers with pixels, as in {{\"3\": [120, 80]}}") from None
    return tags


def _identity(item: dict) -> list[str]:
    """What a model sees of a content item: its words, or the content of its picture."""
    if item["type"] == "text":
        return ["text", item["text"]]
    try:
        return ["image", hashlib.sha256(Path(item["image"]).read_bytes()).hexdigest()]
    except OSError as error:
        raise UserError(f"unreadable image: {item['image']} ({error.strerror})", "unreadable image") from error
