"""Rows to tensors: answer-only labels, length accounting, the collator.

The prompt is tokenised exactly as it is for generation; what follows it (the answer and its end-of-turn token, as
leap/training/turns.py tells them apart) is what the loss sees.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from configs.errors import UserError
from leap.models.control_tokens import ControlTokens
from leap.models.generation import begins_itself
from leap.models.image_budget import pixel_budget, takes_image_tokens, visual_tokens
from leap.rows.chat import image_items, resolve_image
from leap.rows.images import image_size, load_image
from leap.rows.records import PlanningRow
from leap.rows.videos import load_video, video_files, video_items
from leap.training.lengths import RowLength, measured_tokens, text_tokens
from leap.training.packing import Packer
from leap.training.turns import earlier_answers, render_all

IGNORED = -100  # the label that the loss skips
# What processors make of pictures and videos, for all rows together; and of which kind each token is.
_VISUAL_INPUTS: tuple[str, ...] = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")
_VISUAL_INPUTS += ("second_per_grid_ts", "pixel_attention_mask", "image_sizes", "batch_num_images")
_VISUAL_INPUTS += ("image_position_ids",)
_TOKEN_KINDS = ("mm_token_type_ids", "token_type_ids")
_TEXT_INPUTS = ("input_ids", "attention_mask")


class PlanningCollator:
    """Rows -> one right-padded batch on the CPU, or with a packer one sequence without padding.

    input_ids, attention_mask, labels, mm_token_type_ids (or token_type_ids)  # (batch, seq); packed as Packer says
    weights  # like labels, float: what each token counts in the loss; only where a row's weight is not 1
    pixel_values  # of Qwen-VL (patches of all images, channels x temporal_patch x patch x patch), pixel_values_videos
    likewise; of others as their processor makes it, with what belongs to it
    image_grid_thw  # of Qwen-VL, (images, 3) t h w in patches; video_grid_thw likewise
    row_lengths  # list: tokens of each row that is no filler
    """

    def __init__(
        self,
        processor: Any,
        image_root: Path | None,
        workspace: Path,
        packer: Packer | None = None,
        video_tokens: int = 2048,
        supervise: str = "last",
    ) -> None:
        """`video_tokens` is the most visual tokens of a video, all frames together; `supervise`, one of
        SUPERVISED_TURNS, is for rows that leave it open."""
        self.processor = processor
        self.image_root = image_root
        self.workspace = workspace
        self.packer = packer
        self.video_tokens = video_tokens
        self.supervise = supervise
        self.control_tokens = ControlTokens(processor)
        self._budgeted = takes_image_tokens(processor)
        if self._budgeted:
            self._side = processor.image_processor.patch_size * processor.image_processor.merge_size  # pixels
            self._fewest_tokens = pixel_budget(processor)["shortest_edge"] // self._side**2
        self._measured: dict[tuple[tuple[int, int], ...], int] = {}  # tokens of the pictures of a row, by their sizes

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
        """The videos of a row: frames (frames, 3, height, width) and their metadata. UserError if the processor is not
        Qwen-VL's."""
        items = video_items(row)
        if not items:
            return []
        if not self._budgeted:
            raise UserError(f"{row.where}: videos are for Qwen-VL models; give some of its frames as images")
        image, bounds = self.processor.image_processor, (self._fewest_tokens, self.video_tokens)
        resolve = functools.partial(self._video_path, row=row)
        return [load_video(item, row.where, resolve, image, *bounds) for item in items]

    def length(self, row: PlanningRow) -> RowLength:
        """Lengths, without decoding a picture (a video is decoded). UserError for a missing or unreadable one."""
        if video_items(row):
            encoded = self.encode([row])
            kinds, taught, answer = (encoded[name][0] for name in ("mm_token_type_ids", "taught", "answers"))
            visual, earlier = sum(kind > 0 for kind in kinds), sum(taught)
            return RowLength(visual, len(kinds) - visual - earlier, earlier + len(answer))
        return self.lengths([row], [self.image_paths(row)])[0]

    def lengths(self, rows: Sequence[PlanningRow], images: Sequence[Sequence[Path]]) -> list[RowLength]:
        """Lengths of rows without videos, whose texts are tokenised together, and whose image files are given. An error
        may be any row's."""
        visual = [
            self._visual_tokens(self._sizes(row, paths), row.image_tokens)
            for row, paths in zip(rows, images, strict=True)
        ]
        rendered = render_all(self.processor, rows)
        tokenizer = self.processor.tokenizer
        prompts = text_tokens(tokenizer, [prompt for prompt, _ in rendered], list(map(len, images)))
        answers = tokenizer([answer for _, answer in rendered], add_special_tokens=False).input_ids
        earlier = [
            sum(len(self._tokens(prompt[begin:end])) for begin, end in self._earlier_answers(row))
            for row, (prompt, _) in zip(rows, rendered, strict=True)
        ]
        return [
            RowLength(pictures, text - taught, taught + len(answer))
            for pictures, text, taught, answer in zip(visual, prompts, earlier, answers, strict=True)
        ]

    def shrink_to_fit(self, row: PlanningRow, length: RowLength, max_length: int) -> PlanningRow | None:
        """The row with its images bound to the most visual tokens with which it is not over `max_length`; None if it
        does not fit with the processor's fewest, shows a video, or the processor cannot bind images so."""
        images = [] if video_items(row) or not self._budgeted else self.image_paths(row)
        sizes = self._sizes(row, images)
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
        """The processor's outputs for the prompts, unpadded lists where they are a row's, with `answers`, the token ids
        of the rows' plans, and `taught`, whether each token of a prompt is of an earlier answer that the loss sees.
        UserError for a processor whose outputs cannot be extended by the answers."""
        texts = render_all(self.processor, rows)
        spans = [self._earlier_answers(row) for row in rows]
        prompts = [
            self._marked(prompt, of_row, row) for row, (prompt, _), of_row in zip(rows, texts, spans, strict=True)
        ]
        pictures = [self.pictures(row) for row in rows]
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
            text=prompts,
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side="right",
            return_tensors="pt",
            add_special_tokens=not begins_itself(self.processor.tokenizer, prompts),
            **options,
        )
        unknown = sorted(encoded.keys() - {*_TEXT_INPUTS, *_TOKEN_KINDS, *_VISUAL_INPUTS})
        if unknown:
            raise UserError(
                f"{type(self.processor).__name__} makes {unknown[0]}, which training cannot extend by the plan: "
                "models of this type can be evaluated, not trained",
                "malformed",
            )
        marked = torch.tensor([bool(of_row) for of_row in spans])
        return self._by_row(encoded, marked) | {"answers": [self._tokens(answer) for _, answer in texts]}

    def _by_row(self, encoded: Any, marked: torch.Tensor) -> dict[str, Any]:
        """What belongs to tokens as a list a row, without padding and the marks of rows that are `marked` (batch,);
        `taught` is what stands between marks."""
        mask = encoded["attention_mask"].bool()  # (batch, seq)
        marks = (encoded["input_ids"] == self.processor.tokenizer.pad_token_id) & mask & marked[:, None]
        taught = marks.cumsum(dim=1) % 2 == 1
        tokens = mask & ~marks
        per_token = {name: encoded[name] for name in ("input_ids", *_TOKEN_KINDS) if name in encoded} | {
            "taught": taught
        }
        lists = {
            name: [values[row_tokens].tolist() for values, row_tokens in zip(tensor, tokens, strict=True)]
            for name, tensor in per_token.items()
        }
        return {name: encoded[name] for name in _VISUAL_INPUTS if name in encoded} | lists

    def _earlier_answers(self, row: PlanningRow) -> list[tuple[int, int]]:
        return earlier_answers(self.processor, row) if (row.supervise or self.supervise) == "all" else []

    def _marked(self, prompt: str, spans: Sequence[tuple[int, int]], row: PlanningRow) -> str:
        """The prompt with a padding token, which no prompt has, at each border of a span: the processor puts the tokens
        of pictures between those of words, and the borders are found again among them."""
        mark = self.processor.tokenizer.pad_token
        if not spans:
            return prompt
        if mark is None or mark in prompt:
            raise UserError(f"{row.where}: the prompts of this model hold its padding token; leave supervise: all out")
        for begin, end in reversed(spans):
            prompt = f"{prompt[:begin]}{mark}{prompt[begin:end]}{mark}{prompt[end:]}"
        return prompt

    def _tokens(self, text: str) -> list[int]:
        """Token ids of an answer: a text's begin is the prompt's."""
        return self.processor.tokenizer(text, add_special_tokens=False).input_ids

    def __call__(self, rows: Sequence[PlanningRow]) -> dict[str, Any]:
        encoded = self.encode(rows)
        prompts, answers = encoded["input_ids"], encoded["answers"]
        ids = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        labels = [
            [token if learned and row.supervised else IGNORED for token, learned in zip(tokens, taught, strict=True)]
            + (answer if row.supervised else [IGNORED] * len(answer))
            for row, tokens, taught, answer in zip(rows, prompts, encoded["taught"], answers, strict=True)
        ]
        kinds = {
            name: [kind + [0] * len(answer) for kind, answer in zip(encoded[name], answers, strict=True)]
            for name in _TOKEN_KINDS
            if name in encoded
        }
        others: dict[str, Any] = {"row_lengths": [len(i) for row, i in zip(rows, ids, strict=True) if row.supervised]}
        others |= {name: encoded[name] for name in _VISUAL_INPUTS if name in encoded}
        weights = [[row.weight] * len(tokens) for row, tokens in zip(rows, ids, strict=True)]
        weighted = any(row.weight != 1 for row in rows)
        if self.packer:
            media = [(len(image_items(row)), len(video_items(row))) for row in rows]
            packed = self.packer(ids, labels, kinds["mm_token_type_ids"], media, others)
            return packed | others | ({"weights": torch.tensor([list(itertools.chain(*weights))])} if weighted else {})
        batch = {
            "input_ids": _padded(ids, self.processor.tokenizer.pad_token_id),
            "attention_mask": _padded([[1] * len(row) for row in ids], 0),
            "labels": _padded(labels, IGNORED),
            **{name: _padded(rows_kinds, 0) for name, rows_kinds in kinds.items()},
        }
        return batch | others | ({"weights": _padded(weights, 0.0)} if weighted else {})

    def _video_path(self, written: str, row: PlanningRow) -> Path:
        return resolve_image(written, row, self.image_root, self.workspace, "video")

    def _sizes(self, row: PlanningRow, images: Sequence[Path]) -> list[tuple[int, int]]:
        sizes = []
        for path in images:
            size = image_size(path, row.where)
            try:
                if self._budgeted:
                    visual_tokens(self.processor, *size)
            except ValueError as error:
                raise UserError(f"{row.where}: {path}: {error}") from error
            sizes.append(size)
        return sizes

    def _visual_tokens(self, sizes: Sequence[tuple[int, int]], most: int | None) -> int:
        """Tokens of the pictures of a row, each of which `most` bounds where that can be."""
        if self._budgeted:
            return sum(visual_tokens(self.processor, *size, most) for size in sizes)
        key = tuple(sizes)
        if key and key not in self._measured:
            self._measured[key] = measured_tokens(self.processor, key)
        return self._measured.get(key, 0)

    def _shrunk(self, picture: Image.Image, tokens: int) -> Image.Image:
        fewest, most = (count * self._side**2 for count in (self._fewest_tokens, tokens))
        height, width = smart_resize(picture.height, picture.width, self._side, min_pixels=fewest, max_pixels=most)
        return picture.resize((width, height), Image.Resampling.BICUBIC)


def _padded(rows: Sequence[list[Any]], value: float) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
