"""Pictures that several prompts of a batch show, as shots do, go through the vision tower once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def encode_shared_pictures(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What generate() needs of a batch that Qwen-VL's processor made: where pictures repeat, their features in place of
    pixel_values, each picture encoded once; else `inputs` as they are.

    pixel_values  # (patches of all pictures, values of a patch); image_grid_thw  # (pictures, 3) t h w in patches
    """
    grids = inputs.get("image_grid_thw")
    if grids is None or "pixel_values" not in inputs or not _takes_features(model):
        return dict(inputs)
    pictures = inputs["pixel_values"].split(grids.prod(dim=1).tolist())
    places = _places(pictures, grids)  # of each picture, that of its first appearance among the distinct ones
    distinct = [places.index(place) for place in range(max(places) + 1)]
    if len(distinct) == len(places):
        return dict(inputs)
    features = model.get_image_features(torch.cat([pictures[i] for i in distinct]), grids[distinct], return_dict=True)
    features.pooler_output = tuple(features.pooler_output[place] for place in places)
    if features.get("deepstack_features") is not None:
        features.deepstack_features = [tuple(layer[place] for place in places) for layer in features.deepstack_features]
    rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
    return rest | {"mm_encoder_outputs": {"image": features}}


def _takes_features(model: Any) -> bool:
    """Whether generate() of this model, in this version of transformers, goes on from features of pictures."""
    supports = getattr(model, "_supports_mm_encoder_outputs", None)
    return supports is not None and supports() and hasattr(model, "get_image_features")


def _places(pictures: Sequence[torch.Tensor], grids: torch.Tensor) -> list[int]:
    """A number for each picture, the same for equal ones, counted from 0 as they appear. Sums tell most apart at once;
    where they agree, all values are compared."""
    sums = torch.stack([picture.sum(dtype=torch.float64) for picture in pictures]).tolist()
    alike: dict[tuple, list[int]] = {}  # grid and sum -> the first appearance of each content
    places: list[int] = []
    for index, (*grid, total) in enumerate(zip(*grids.T.tolist(), sums, strict=True)):
        candidates = alike.setdefault((*grid, total), [])
        same = next((other for other in candidates if torch.equal(pictures[other], pictures[index])), None)
        if same is None:
            candidates.append(index)
            places.append(max(places, default=-1) + 1)
        else:
            places.append(places[same])
    return places
