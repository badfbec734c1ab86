"""Let the host launch work ahead of the GPU, by sparing it what it would have to wait for.

A step that asks the GPU for a number (how large is this picture, where do visual tokens stand) waits until all that was
launched is done, and the GPU then waits for the next launches. For Qwen3-VL what depends on pictures' sizes alone is
computed where a batch is made, and no place of a token is looked up on the host.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import torch

from leap.models.attention import longest_for_kernel

try:
    from transformers.vision_utils import (
        get_vision_cu_seqlens,
        get_vision_interpolation_indices_and_weights,
        get_vision_position_ids,
    )
except ImportError:  # of an older transformers, whose tower computes them itself
    get_vision_interpolation_indices_and_weights = None  # type: ignore[assignment]

_FAMILY = "qwen3_vl"


def tower_inputs(config: Any, grids: torch.Tensor) -> dict[str, Any]:
    """What the vision tower of a model of this config computes from the sizes of its pictures, as model inputs; {} for
    a family whose tower takes none.

    grids  # (images, 3) t h w in patches. image_position_ids (patches, 2), image_interp_indices and
    image_interp_weights (patches, 4), image_cu_seqlens (frames + 1,) int32, image_max_seqlen an int.
    """
    if config.model_type != _FAMILY or get_vision_interpolation_indices_and_weights is None:
        return {}
    vision = config.vision_config
    indices, weights = get_vision_interpolation_indices_and_weights(
        grids,
        num_grid_per_side=int(vision.num_position_embeddings**0.5),
        mode="bilinear",
        align_corners=True,
        spatial_merge_size=vision.spatial_merge_size,
    )
    borders = get_vision_cu_seqlens(grids)
    return {
        "image_position_ids": get_vision_position_ids(grids, vision.spatial_merge_size),
        "image_interp_indices": indices,
        "image_interp_weights": weights,
        "image_cu_seqlens": borders,
        "image_max_seqlen": longest_for_kernel(int(borders.diff().max())),
    }


def to_device(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Model inputs with their tensors on `device`, copied without waiting where they lie in pinned memory. The sizes of
    pictures stay on the host, which reads them, where `tower_inputs` are there in their place."""
    stays = {"image_grid_thw"} if "image_position_ids" in inputs else set()
    return {
        name: value.to(device, non_blocking=True) if torch.is_tensor(value) and name not in stays else value
        for name, value in inputs.items()
    }


def add_pictures_without_waiting(model: Any) -> bool:
    """Let the language model of Qwen3-VL add the tower's deeper features without looking up on the host where the
    visual tokens stand; whether this is one."""
    if getattr(getattr(model, "config", None), "model_type", None) != _FAMILY:
        return False
    language_model = model.model.language_model
    language_model._deepstack_process = types.MethodType(_add_at_mask, language_model)
    return True


def _add_at_mask(
    self: Any, hidden_states: torch.Tensor, visual_pos_masks: torch.Tensor, visual_embeds: torch.Tensor
) -> torch.Tensor:
    """hidden_states  # (batch, seq, hidden), to which visual_embeds (places, hidden) are added where visual_pos_masks
    (batch, seq) is true, in order."""
    count = torch.arange(1, len(visual_embeds) + 1, device=hidden_states.device)
    places = torch.searchsorted(visual_pos_masks.flatten().cumsum(0), count)  # of the first, second ... true
    flat = hidden_states.flatten(0, 1)
    return flat.index_add(0, places, visual_embeds.to(flat.dtype)).view_as(hidden_states)
