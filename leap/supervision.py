"""Rows to tensors: answer-only labels, length accounting, the collator.

Prompt and answer are built structurally: the chat template renders the conversation with and without the answer,
the prompt is tokenised exactly as it is for generation, and the rest (the answer and its end-of-turn token) is what
the loss sees. No token id is ever searched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from configs.errors import UserError
from leap.chat import chat_messages, image_items, resolve_image
from leap.images import image_size, load_image
from leap.packing import Packer
from leap.records import PlanningRow

IGNORED = -100  # the label that the loss skips


@dataclass(frozen=True)
class RowLength:
    """Tokens of one row: visual (after merging), text of the prompt, supervised answer."""

    visual: int
    prompt: int
    supervised: int

    @property
    def total(self) -> int:
        return self.visual + self.prompt + self.supervised


def render(processor: Any, row: PlanningRow) -> tuple[str, str]:
    """The row as (prompt text, answer text), the answer with its end-of-turn token and nothing behind it.

    UserError if the processor's chat template does not continue the prompt by the answer, or if its end of turn is not
    the token at which generation stops.
    """
    prompt = processor.apply_chat_template(chat_messages(row), tokenize=False, add_generation_prompt=True)
    whole = processor.apply_chat_template(chat_messages(row, row.steps), tokenize=False)
    end = processor.tokenizer.eos_token
    answer = whole.removeprefix(prompt).rstrip()
    if not whole.startswith(prompt) or not answer.startswith(row.steps) or not answer.endswith(end):
        raise UserError(
            f"{row.where}: the chat template of this model does not render prompt + answer + {end!r}; "
            "LEAP cannot tell which tokens to supervise"
        )
    return prompt, answer


def set_pixel_budget(processor: Any, image_tokens_min: int, image_tokens_max: int) -> None:
    """Let the processor resize every picture to between these numbers of visual tokens (after merging)."""
    image = processor.image_processor
    side = image.patch_size * image.merge_size  # pixels a merged token covers
    size = {"shortest_edge": image_tokens_min * side**2, "longest_edge": image_tokens_max * side**2}
    image.size = type(image.size)(**size) if not isinstance(image.size, dict) else size
    # Older processors read these two instead of `size`; both must say the same.
    for name in ("min_pixels", "max_pixels"):
        if getattr(image, name, None) is not None:
            setattr(image, name, size["shortest_edge" if name == "min_pixels" else "longest_edge"])


def pixel_budget(processor: Any) -> dict[str, int]:
    """The processor's bounds on a picture, in pixels: shortest_edge (fewest) and longest_edge (most)."""
    size = processor.image_processor.size
    return {name: int(size[name]) for name in ("shortest_edge", "longest_edge")}


def visual_tokens(processor: Any, width: int, height: int) -> int:
    """Visual tokens of a picture of this size in pixels, by the processor's own resize rule."""
    image = processor.image_processor
    return image.get_number_of_image_patches(height, width, {}) // image.merge_size**2


class PlanningCollator:
    """Rows -> one right-padded batch on the CPU, or with a packer one sequence without padding.

    input_ids, attention_mask, labels, mm_token_type_ids  # (batch, seq); packed as Packer says
    pixel_values  # (patches of all images, channels x temporal_patch x patch x patch)
    image_grid_thw  # (images, 3) t h w in patches
    row_lengths  # list: tokens of each row that is no filler
    """

    def __init__(self, processor: Any, image_root: Path | None, workspace: Path, packer: Packer | None = None) -> None:
        self.processor = processor
        self.image_root = image_root
        self.workspace = workspace
        self.packer = packer

    def image_paths(self, row: PlanningRow) -> list[Path]:
        return [resolve_image(item, row, self.image_root, self.workspace) for item in image_items(row)]

    def pictures(self, row: PlanningRow) -> list[Image.Image]:
        return [load_image(path, row.where) for path in self.image_paths(row)]

    def length(self, row: PlanningRow) -> RowLength:
        """Lengths without decoding a picture. UserError for a missing or unreadable image, or a video item."""
        for turn in row.messages:
            if any(item["type"] == "video" for item in turn["content"]):
                raise UserError(f"{row.where}: video items are not supported yet; use image items")
        visual = 0
        for path in self.image_paths(row):
            try:
                visual += visual_tokens(self.processor, *image_size(path, row.where))
            except ValueError as error:
                raise UserError(f"{row.where}: {path}: {error}") from error
        prompt, answer = render(self.processor, row)
        placeholders = len(image_items(row))  # each image token stands once in the text
        tokenize = self.processor.tokenizer
        return RowLength(visual, len(tokenize(prompt).input_ids) - placeholders, len(tokenize(answer).input_ids))

    def __call__(self, rows: Sequence[PlanningRow]) -> dict[str, Any]:
        texts = [render(self.processor, row) for row in rows]
        pictures = [picture for row in rows for picture in self.pictures(row)]
        encoded = self.processor(
            text=[prompt for prompt, _ in texts], images=pictures or None, padding=False, return_tensors=None
        )
        prompts = encoded["input_ids"]
        answers = self.processor.tokenizer([answer for _, answer in texts]).input_ids
        ids = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        labels = [
            [IGNORED] * len(prompt) + (answer if row.supervised else [IGNORED] * len(answer))
            for row, prompt, answer in zip(rows, prompts, answers, strict=True)
        ]
        kinds = encoded.get("mm_token_type_ids")
        if kinds is not None:
            kinds = [kind + [0] * len(answer) for kind, answer in zip(kinds, answers, strict=True)]
        counted = {"row_lengths": [len(i) for row, i in zip(rows, ids, strict=True) if row.supervised]}
        seen: dict[str, Any] = {}
        if pictures:
            seen["pixel_values"] = torch.as_tensor(encoded["pixel_values"])
            seen["image_grid_thw"] = torch.as_tensor(encoded["image_grid_thw"])
        if self.packer:
            packed = self.packer(
                ids, labels, kinds, [len(image_items(row)) for row in rows], seen.get("image_grid_thw")
            )
            return packed | seen | counted
        batch = {
            "input_ids": _padded(ids, self.processor.tokenizer.pad_token_id),
            "attention_mask": _padded([[1] * len(row) for row in ids], 0),
            "labels": _padded(labels, IGNORED),
        }
        if kinds is not None:
            batch["mm_token_type_ids"] = _padded(kinds, 0)
        return batch | seen | counted


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
