"""A Hugging Face image-text-to-text model as planner: batched greedy decoding with left padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from configs.errors import UserError
from leap.checkpoints import kind_of, weights_sha256, why_incomplete
from leap.files import sha256_json
from leap.generation import greedy
from leap.images import decode_image
from leap.models import base_of, is_out_of_memory, load_for_planning, load_processor, pick_device
from leap.planners import Answer, MachineFailure, Query
from leap.supervision import pixel_budget, set_pixel_budget


class HuggingFacePlanner:
    """A model folder that answers prompts. With `blank_images` every picture is a grey one of the same size."""

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        base_model: Path | None = None,
        max_new_tokens: int = 512,
        blank_images: bool = False,
        image_tokens: tuple[int, int] | None = None,
    ) -> None:
        """`image_tokens` are the fewest and most visual tokens of a picture; None leaves the processor's own budget."""
        problem = why_incomplete(folder)
        if problem:
            raise UserError(f"cannot use {folder}: {problem}")
        self.folder, self.device = folder, pick_device(device)
        self.base, base_weights = base_of(folder, base_model) if kind_of(folder) == "adapter" else (None, None)
        self.dtype = "bfloat16" if self.device.startswith("cuda") else "float32"
        self.max_new_tokens, self.blank_images = max_new_tokens, blank_images
        self.processor = load_processor(folder)
        if image_tokens:
            set_pixel_budget(self.processor, *image_tokens)
        self._identity = {
            "planner": "huggingface",
            "weights_sha256": weights_sha256(folder),
            "base_weights_sha256": base_weights,
            "chat_template_sha256": sha256_json(self.processor.chat_template),
            "pixel_budget": pixel_budget(self.processor),
            "dtype": self.dtype,
            "decoding": {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": max_new_tokens},
            "blank_images": blank_images,
        }

    @cached_property
    def model(self) -> Any:
        """Loaded at the first prompt, so that a finished evaluation is seen to be finished at once."""
        try:
            return load_for_planning(self.folder, self.device, self.dtype, self.base)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"not enough memory on {self.device} to load {self.folder}; free some or use --device"
            ) from None

    def identity(self) -> dict[str, Any]:
        return self._identity

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Greedy answers. MachineFailure on running out of memory (the caller tries fewer) or a broken picture."""
        texts, pictures = [], []
        for query in queries:
            messages = [{"role": "user", "content": query.items}]
            texts.append(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
            pictures += [self._picture(item["image"]) for item in query.items if item["type"] == "image"]
        model = self.model  # loads on first use, outside the guard below
        try:
            return greedy(model, self.processor, texts, pictures, self.max_new_tokens)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except block, so that the failed attempt's tensors are free already.
        torch.cuda.empty_cache()
        raise MachineFailure(f"out of memory with {len(queries)} prompts at once")

    def _picture(self, content: bytes) -> Image.Image:
        try:
            picture = decode_image(content)
        except ValueError as error:
            raise MachineFailure(f"unreadable image ({error})") from error
        return Image.new("RGB", picture.size, "grey") if self.blank_images else picture
