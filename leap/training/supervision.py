"""Rows to tensors: answer-only labels, length accounting, the collator.

Prompt and answer are built structurally: the chat template renders the conversation with and without the answer,
the prompt is tokenised exactly as it is for generation, and the rest (the answer and its end-of-turn token) is what
the loss sees. No token id is ever searched for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from configs.errors import UserError
from leap.models.bounds import TEMPLATE_S, within
from leap.models.control_tokens import ControlTokens
from leap.models.image_budget import pixel_budget, visual_tokens
from leap.rows.chat import chat_messages, image_items, resolve_image
from leap.rows.images import image_size, load_image
from leap.rows.records import PlanningRow
from leap.rows.videos import load_video, video_files, video_items
from leap.training.lengths import RowLength
from leap.training.packing import Packer

IGNORED = -100  # the label that the loss skips
_VISUAL_INPUTS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")


def render(processor: Any, row: PlanningRow) -> tuple[str, str]:
    """The row as (prompt text, answer text), the answer with its end-of-turn token and nothing behind it.

    ValueError if the processor's chat template takes too long; UserError if it does not continue the prompt by the
    answer, or if its end of turn is not the token at which generation stops.
    """
    with within(TEMPLATE_S, "the chat template"):
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


class PlanningCollator:
    """Rows -> one right-padded batch on the CPU, or with a packer one sequence without padding.

    input_ids, attention_mask, labels, mm_token_type_ids  # (batch, seq); packed as Packer says
    pixel_values  # (patches of all images, channels x temporal_patch x patch x patch); pixel_values_videos likewise
    image_grid_thw  # (images, 3) t h w in patches; video_grid_thw likewise
    row_lengths  # list: tokens of each row that is no filler
    """

    def __init__(
        self,
        processor: Any,
        image_root: Path | None,
        workspace: Path,
        packer: Packer | None = None,
        video_tokens: int = 2048,
    ) -> None:
        """`video_tokens` is the most visual tokens of a video, all frames together."""
        self.processor = processor
        self.image_root = image_root
        self.workspace = workspace
        self.packer = packer
        self.video_tokens = video_tokens
        self.control_tokens = ControlTokens(processor)
        self._side = processor.image_processor.patch_size * processor.image_processor.merge_size  # pixels
        self._fewest_tokens = pixel_budget(processor)["shortest_edge"] // self._side**2

    def image_paths(self, row: PlanningRow) -> list[Path]:
        return [resolve_image(item, row, self.image_root, self.workspace) for item in image_items(row)]

    def media_paths(self, row: PlanningRow) -> list[Path]:
        """Every image, video and frame of a video that a row shows; UserError if one is not there."""
        frames = [self._video_path(file, row) for item in video_items(row) for file in video_files(item)]
        return self.image_paths(row) + frames

    def pictures(self, row: PlanningRow) -> list[Image.Image]:
        """The images of a row, decoded; shrunk where the row says so."""
        pictures = [load_image(path, row.where) for path in self.image_paths(row)]
        if row.image_tokens is None:
            return pictures
        return [self._shrunk(picture, row.image_tokens) for picture in pictures]

    def videos(self, row: PlanningRow) -> list[tuple[Any, dict]]:
        """The videos of a row: frames (frames, 3, height, width) and their metadata."""
        image, bounds = self.processor.image_processor, (self._fewest_tokens, self.video_tokens)
        resolve = functools.partial(self._video_path, row=row)
        return [load_video(item, row.where, resolve, image, *bounds) for item in video_items(row)]

    def length(self, row: PlanningRow) -> RowLength:
        """Lengths, without decoding a picture (a video is decoded). UserError for a missing or unreadable one."""
        if video_items(row):
            encoded = self.encode([row])
            kinds, answer = encoded["mm_token_type_ids"][0], encoded["answers"][0]
            visual = sum(kind > 0 for kind in kinds)
            return RowLength(visual, len(kinds) - visual, len(answer))
        return self.lengths([row], [self.image_paths(row)])[0]

    def lengths(self, rows: Sequence[PlanningRow], images: Sequence[Sequence[Path]]) -> list[RowLength]:
        """Lengths of rows without videos, whose texts are tokenised together, and whose image files are given. An error
        may be any row's."""
        visual = [
            sum(visual_tokens(self.processor, *size, row.image_tokens) for size in self._sizes(row, paths))
            for row, paths in zip(rows, images, strict=True)
        ]
        texts = [text for row in rows for text in render(self.processor, row)]
        counts = [len(ids) for ids in self.processor.tokenizer(texts, return_attention_mask=False).input_ids]
        # Each image token stands once in the text.
        prompts = [count - len(paths) for count, paths in zip(counts[::2], images, strict=True)]
        return list(map(RowLength, visual, prompts, counts[1::2]))

    def shrink_to_fit(self, row: PlanningRow, length: RowLength, max_length: int) -> PlanningRow | None:
        """The row with its images bound to the most visual tokens with which it is not over `max_length`; None if it
        does not fit with the processor's fewest, or shows a video."""
        sizes = [] if video_items(row) else self._sizes(row, self.image_paths(row))
        room = max_length - length.prompt - length.supervised

        def fits(most: int) -> bool:
            return sum(visual_tokens(self.processor, *size, most) for size in sizes) <= room

        fewest, most = self._fewest_tokens, length.visual
        if not sizes or not fits(fewest):
            return None
        while most - fewest > 1:
            middle = (fewest + most) // 2
            fewest, most = (middle, most) if fits(middle) else (fewest, middle)
        return replace(row, image_tokens=fewest)

    def encode(self, rows: Sequence[PlanningRow]) -> dict[str, Any]:
        """The processor's outputs for the prompts, unpadded lists where they are a row's, and `answers`, the token ids
        of the rows' plans."""
        texts = [render(self.processor, row) for row in rows]
        pictures = [picture for row in rows for picture in self.pictures(row)]
        videos = [video for row in rows for video in self.videos(row)]
        options: dict[str, Any] = {}
        if videos:  # sampled and resized already
            options["videos"] = [frames for frames, _ in videos]
            options["videos_kwargs"] = {
                "video_metadata": [metadata for _, metadata in videos],
                "do_resize": False,
                "do_sample_frames": False,
            }
        encoded = self.processor(
            text=[prompt for prompt, _ in texts],
            images=pictures or None,
            padding=False,
            return_tensors=None,
            **options,
        )
        return {**encoded, "answers": self.processor.tokenizer([answer for _, answer in texts]).input_ids}

    def __call__(self, rows: Sequence[PlanningRow]) -> dict[str, Any]:
        encoded = self.encode(rows)
        prompts, answers = encoded["input_ids"], encoded["answers"]
        ids = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        labels = [
            [IGNORED] * len(prompt) + (answer if row.supervised else [IGNORED] * len(answer))
            for row, prompt, answer in zip(rows, prompts, answers, strict=True)
        ]
        kinds: Any = encoded.get("mm_token_type_ids")  # of all families that can be packed
        if kinds is not None:
            kinds = [kind + [0] * len(answer) for kind, answer in zip(kinds, answers, strict=True)]
        lengths = {"row_lengths": [len(i) for row, i in zip(rows, ids, strict=True) if row.supervised]}
        visual = {name: torch.as_tensor(encoded[name]) for name in _VISUAL_INPUTS if name in encoded}
        if self.packer:
            media = [(len(image_items(row)), len(video_items(row))) for row in rows]
            return self.packer(ids, labels, kinds, media, visual) | visual | lengths
        batch = {
            "input_ids": _padded(ids, self.processor.tokenizer.pad_token_id),
            "attention_mask": _padded([[1] * len(row) for row in ids], 0),
            "labels": _padded(labels, IGNORED),
        }
        if kinds is not None:
            batch["mm_token_type_ids"] = _padded(kinds, 0)
        return batch | visual | lengths

    def _video_path(self, written: str, row: PlanningRow) -> Path:
        return resolve_image(written, row, self.image_root, self.workspace, "video")

    def _sizes(self, row: PlanningRow, images: Sequence[Path]) -> list[tuple[int, int]]:
        sizes = []
        for path in images:
            size = image_size(path, row.where)
            try:
                visual_tokens(self.processor, *size)
            except ValueError as error:
                raise UserError(f"{row.where}: {path}: {error}") from error
            sizes.append(size)
        return sizes

    def _shrunk(self, picture: Image.Image, tokens: int) -> Image.Image:
        fewest, most = (count * self._side**2 for count in (self._fewest_tokens, tokens))
        height, width = smart_resize(picture.height, picture.width, self._side, min_pixels=fewest, max_pixels=most)
        return picture.resize((width, height), Image.Resampling.BICUBIC)


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
