"""Video items of a row: frames sampled and resized by qwen-vl-utils, as their frame rate and count say.

    {"type": "video", "video": "clips/327.mp4", "fps": 1.0}             or "nframes": 8
    {"type": "video", "video": ["frames/0.png", "frames/1.png"], "sample_fps": 2.0}

Also honoured: min_frames, max_frames, video_start, video_end (seconds), min_pixels, max_pixels, total_pixels.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from configs.errors import UserError
from leap.rows.images import load_image
from leap.rows.records import PlanningRow
from leap.text import first_line

_FEWEST_FRAME_TOKENS = 128  # of a pair of frames, qwen-vl-utils' own default


def video_items(row: PlanningRow) -> list[dict]:
    """The video items of a row, in the order in which the conversation shows them."""
    return [item for turn in row.messages for item in turn["content"] if item["type"] == "video"]


def video_files(item: dict) -> list[str]:
    """The files that a video item names: the video, or its frames."""
    return [item["video"]] if isinstance(item["video"], str) else list(item["video"])


def load_video(
    item: dict, where: str, resolve: Callable[[str], Path], image_processor: Any, tokens_min: int, tokens_max: int
) -> tuple[Any, dict]:
    """Frames (frames, 3, height, width) with values 0 to 255, resized for the model, and their metadata.

    `resolve` turns a written path into a file; `tokens_min` bounds a pair of frames from below, `tokens_max` the whole
    video from above, unless the item has bounds of its own. UserError names `where`, file and reason.
    """
    files = [resolve(written) for written in video_files(item)]
    patch = image_processor.patch_size
    side = patch * image_processor.merge_size  # pixels of a token
    bounds = {"min_pixels": min(tokens_min, _FEWEST_FRAME_TOKENS) * side**2, "total_pixels": tokens_max * side**2}
    settings = bounds | item
    if isinstance(item["video"], str):
        return _from_file(settings | {"video": str(files[0])}, where, patch)
    return _from_frames([load_image(file, where) for file in files], settings, side)


def _from_file(settings: dict, where: str, patch: int) -> tuple[Any, dict]:
    if not any(map(importlib.util.find_spec, ("decord", "torchcodec"))):
        raise UserError(
            f"{where}: {settings['video']}: reading video files needs the package decord (pip install decord) or "
            "torchcodec; a list of frames needs neither"
        )
    from qwen_vl_utils.vision_process import fetch_video

    logging.getLogger("qwen_vl_utils.vision_process").setLevel(logging.ERROR)
    try:
        (frames, metadata), _ = fetch_video(
            settings, image_patch_size=patch, return_video_sample_fps=True, return_video_metadata=True
        )
    except Exception as error:  # decoders raise kinds of their own
        reason = first_line(error)
        raise UserError(f"{where}: cannot read the video {settings['video']}: {reason}", "unreadable video") from error
    return frames, metadata


def _from_frames(pictures: list[Image.Image], settings: dict, side: int) -> tuple[Any, dict]:
    """As qwen-vl-utils does with a file's frames; its own way with a list resizes each to a multiple of 64 first and
    fails on small bounds."""
    import torch
    from qwen_vl_utils.vision_process import FPS, FRAME_FACTOR, smart_resize
    from torchvision.transforms.functional import InterpolationMode, pil_to_tensor, resize

    pictures = pictures + pictures[-1:] * (-len(pictures) % FRAME_FACTOR)
    width, height = pictures[0].size
    fewest = settings["min_pixels"]
    most = max(settings["total_pixels"] / len(pictures) * FRAME_FACTOR, int(fewest * 1.05))
    most = min(settings.get("max_pixels", most), most)
    size = smart_resize(height, width, side, min_pixels=min(fewest, most), max_pixels=most)
    frames = torch.stack(
        [resize(pil_to_tensor(picture), size, InterpolationMode.BICUBIC, antialias=True) for picture in pictures]
    ).float()
    rate = settings.get("sample_fps", FPS)
    return frames, {"fps": rate, "frames_indices": list(range(len(frames))), "total_num_frames": len(frames)}
