"""How large a processor makes a picture: bounds in visual tokens for Qwen-VL, a description for any other model."""

from __future__ import annotations

import json
from typing import Any

from configs.errors import UserError


def takes_image_tokens(processor: Any) -> bool:
    """Whether pictures can be bound by visual tokens: so it is for the image processor that Qwen2-VL, Qwen2.5-VL,
    Qwen3-VL and Qwen3.5 share."""
    return type(processor.image_processor).__name__.startswith("Qwen2VLImageProcessor")


def set_pixel_budget(processor: Any, image_tokens_min: int, image_tokens_max: int) -> None:
    """Bound every picture to this many visual tokens (after merging). UserError if the processor has another rule."""
    image = processor.image_processor
    if not takes_image_tokens(processor):
        raise UserError(
            f"image_tokens_min and image_tokens_max bound pictures by Qwen-VL's rule; the {type(image).__name__} of "
            "this model has another. An evaluation without them keeps its own; training by rewards is for Qwen-VL"
        )
    side = image.patch_size * image.merge_size  # pixels a merged token covers
    size = {"shortest_edge": image_tokens_min * side**2, "longest_edge": image_tokens_max * side**2}
    image.size = type(image.size)(**size) if not isinstance(image.size, dict) else size
    # Older processors read these two instead of `size`; both must say the same.
    for name in ("min_pixels", "max_pixels"):
        if getattr(image, name, None) is not None:
            setattr(image, name, size["shortest_edge" if name == "min_pixels" else "longest_edge"])


def bound_where_possible(processor: Any, image_tokens_min: int, image_tokens_max: int) -> str | None:
    """Bound pictures as `set_pixel_budget`, or say that this processor cannot."""
    if takes_image_tokens(processor):
        set_pixel_budget(processor, image_tokens_min, image_tokens_max)
        return None
    name = type(processor.image_processor).__name__
    return f"pictures have the size that this model's {name} gives them: image_tokens_min and _max do not count"


def pixel_budget(processor: Any) -> dict[str, Any]:
    """What decides the size of a picture, as JSON: for Qwen-VL its bounds in pixels, shortest_edge (fewest) and
    longest_edge (most); for any other, all settings of its image processor."""
    image = processor.image_processor
    if takes_image_tokens(processor):
        return {name: int(image.size[name]) for name in ("shortest_edge", "longest_edge")}
    return json.loads(image.to_json_string())


def visual_tokens(processor: Any, width: int, height: int, most: int | None = None) -> int:
    """Visual tokens of a picture of this size in pixels, by Qwen-VL's own resize rule; `most` bounds them in place of
    the processor's own bound."""
    image = processor.image_processor
    bound = {} if most is None else {"max_pixels": most * (image.patch_size * image.merge_size) ** 2}
    return image.get_number_of_image_patches(height, width, bound) // image.merge_size**2
