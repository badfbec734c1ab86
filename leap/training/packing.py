"""Packing: several rows in one sequence without padding, each blind to the others.

A pack is a batch of one sequence. Every row keeps the positions it has alone (M-RoPE, arXiv 2409.12191: temporal,
height, width) and its attention ends at its own borders (a block-diagonal causal mask, as in arXiv 2107.02027), so
logits, loss and gradients are those of the padded batch of the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from configs.errors import UserError
from leap.models.attention import ISOLATED_SDPA, kernel_for_packs, longest_for_kernel
from leap.models.families import FAMILIES, families_with
from leap.models.launch_ahead import tower_inputs


class Packer:
    """Turns the tokens of rows into the inputs of one packed sequence, for one architecture and attention kernel."""

    def __init__(self, base_model: Any, attn_implementation: str) -> None:
        """`base_model` is a folder with a config.json; no weights are read. UserError if this architecture cannot
        be packed."""
        config = AutoConfig.from_pretrained(base_model, local_files_only=True, trust_remote_code=False)
        family = FAMILIES.get(config.model_type)
        if family is None or not family.packing:
            raise UserError(
                f"packing works with {families_with('packing')}, whose rows can be kept apart; {base_model} is "
                f"{config.model_type}. Leave --packing out"
            )
        with torch.device("meta"):
            skeleton: Any = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
        self._config, self._rope_index = config, skeleton.model.get_rope_index
        # Isolated SDPA goes by the rows' lengths; the other kernels find the borders in a row of text positions.
        self._isolated = kernel_for_packs(attn_implementation) == ISOLATED_SDPA

    def __call__(
        self,
        ids: list[list[int]],
        labels: list[list[int]],
        kinds: list[list[int]],
        media: Sequence[tuple[int, int]],
        visual: Mapping[str, torch.Tensor],
    ) -> dict[str, Any]:
        """One sequence out of rows: token ids, labels, modality (0 text, 1 image, 2 video), and the number of images
        and videos of each; `visual` holds image_grid_thw and video_grid_thw of all of them.

        Returns input_ids, labels  # (1, seq); position_ids  # (3, 1, seq) t h w, or (4, 1, seq) with a first row that
        counts tokens within their row; for isolated SDPA only, sample_borders  # (rows + 1,) int32, and longest_sample,
        no less than the longest row; and what `tower_inputs` makes of the images. There is no attention_mask.
        """
        if "second_per_grid_ts" in visual:
            raise UserError("packing videos is supported for Qwen3-VL only; leave --packing out")
        positions, image, video = [], 0, 0  # `image` and `video` count the grids of the rows so far
        for row, kind, (images, videos) in zip(ids, kinds, media, strict=True):
            grids = {
                "image_grid_thw": visual["image_grid_thw"][image : image + images] if images else None,
                "video_grid_thw": visual["video_grid_thw"][video : video + videos] if videos else None,
            }
            image, video = image + images, video + videos
            # A text token has t = h = w; a picture's tokens share t and differ in h and w; the text behind it goes on
            # from the largest of them. Row by row, all begin at 0.
            rope, _ = self._rope_index(torch.tensor([row]), torch.tensor([kind]), **grids)  # (3, 1, len(row))
            within_row = torch.arange(len(row)).view(1, 1, -1)  # starts at 0 anew where the next row begins
            positions.append(rope if self._isolated else torch.cat([within_row, rope]))
        packed: dict[str, Any] = {
            "input_ids": torch.tensor([[token for row in ids for token in row]]),
            "labels": torch.tensor([[label for row in labels for label in row]]),
            "position_ids": torch.cat(positions, dim=2),
        }
        if self._isolated:
            lengths = torch.tensor([0, *map(len, ids)])
            packed["sample_borders"] = lengths.cumsum(0, dtype=torch.int32)
            packed["longest_sample"] = longest_for_kernel(int(lengths.max()))
        if "image_grid_thw" in visual:
            packed |= tower_inputs(self._config, visual["image_grid_thw"])
        return packed
