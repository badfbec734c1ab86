"""Who answers a prompt. A planner is one module with one class, and one line in PLANNERS."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from leap.models.answer import Answer
from leap.rows.images import decode_image

# Name of --planner -> module. Each has `open_planner(options, folder) -> Planner`, where `options` are
# leap.planners.options.AnsweringOptions and `folder` is the model's, or None for a planner that has none.
# A benchmark adds its own controls in its own options (leap.vlabench.options).
PLANNERS = {
    "huggingface": "leap.planners.huggingface",
    "openai": "leap.planners.endpoint",
    "vllm": "leap.planners.vllm",
}


class MachineFailure(Exception):
    """The machine, not the model, failed (out of memory, a refused connection): no answer, and no wrong one either."""

    kind = "machine"


class UnusablePrompt(MachineFailure):
    """The planner cannot be asked this prompt, whereas it can others; asking again does not help."""

    kind = "data"


class UnreadablePicture(UnusablePrompt):
    """A picture of the prompt cannot be decoded."""


@dataclass(frozen=True)
class Query:
    """One prompt. `key` names it among all of a run; `task` is what a control may know of it.

    `messages` are chat turns whose content is a list of {"type": "text", "text": str} and {"type": "image", "image":
    path}; with `blank_images` each picture is shown as a grey one of its size. `seed` decides what is drawn where the
    planner samples.
    """

    key: str
    task: str
    messages: list[dict]
    blank_images: bool = False
    seed: int = 0

    def picture_paths(self) -> list[Path]:
        """The files of the pictures, in the order in which the prompt shows them."""
        return [Path(item["image"]) for turn in self.messages for item in turn["content"] if item["type"] == "image"]

    def pictures(self) -> list[Image.Image]:
        """The pictures as RGB, in the same order. UnreadablePicture names one that cannot be read."""
        return [self._picture(path) for path in self.picture_paths()]

    def _picture(self, path: Path) -> Image.Image:
        try:
            picture = decode_image(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UnreadablePicture(f"unreadable image {path} ({error})") from error
        return Image.new("RGB", picture.size, "grey") if self.blank_images else picture


QueryResult = tuple[Query, Answer | MachineFailure]


class Planner(Protocol):
    """What an evaluation needs of a planner."""

    notes: Sequence[str]  # what a user should know of it before trusting its numbers

    def identity(self) -> dict[str, Any]:
        """Everything that decides its answers besides the prompt: model hash, decoding, precision."""
        ...

    def batches(self, queries: Sequence[Query]) -> list[list[Query]]:
        """The queries in groups that are answered, and stored, at once; the same queries make the same groups."""
        ...

    def answer(self, batches: Iterable[Sequence[Query]]) -> Iterator[list[QueryResult]]:
        """Answers as they come, in lists that the caller stores before it asks for the next.

        Each query comes out once, in any order, with its answer or why the machine gave none.
        """
        ...


def open_planner(options: Any, folder: Path | None) -> Planner:
    """The planner that the options name. UserError if it cannot be had."""
    return importlib.import_module(options.planner_modules[options.planner]).open_planner(options, folder)
