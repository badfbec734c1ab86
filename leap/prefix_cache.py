"""Keys and values of the text with which all prompts of a batch begin, computed once and kept for the next batch."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import DynamicCache

# A shorter common beginning costs about as much to copy as to compute.
_WORTHWHILE = 64  # tokens


class PrefixCache:
    """Keeps the keys and values of one text prefix, that of the last batch, for one model.

    A batch is laid out as [prefix][pads][rest]: the positions of a model count unmasked tokens only, so that pads in
    the middle change nothing. Only text before the first picture is shared.
    """

    def __init__(self, image_token_id: int) -> None:
        """`image_token_id` stands for a picture's tokens in a prompt. `tokens` are those kept."""
        self._image_token_id = image_token_id
        self.tokens: list[int] = []
        self._kept: DynamicCache | None = None

    def split(self, model: Any, inputs: Any) -> dict[str, Any]:
        """Move the pads of left-padded `inputs` behind their common prefix and return what generate() needs to go on
        from it; {} and `inputs` as they were if the prefix is too short to be worth it."""
        mask = inputs["attention_mask"]  # (batch, seq)
        pads = mask.shape[1] - mask.sum(dim=1)  # (batch,)
        common = self._common(inputs["input_ids"], pads)
        if len(common) < _WORTHWHILE:
            return {}
        _roll_pads(inputs, pads, len(common))
        if common != self.tokens or self._kept is None:
            self._kept, self.tokens = None, []
            self._kept = _keys_and_values(model, inputs["input_ids"][:1, : len(common)])
            self.tokens = common
        cache = copy.deepcopy(self._kept)
        cache.batch_repeat_interleave(len(pads))
        _forget_positions(model)
        return {"past_key_values": cache}

    def _common(self, ids: torch.Tensor, pads: torch.Tensor) -> list[int]:
        """The text tokens before any picture with which all rows of ids (batch, seq) begin; the last token of a prompt
        is never among them."""
        shortest = ids.shape[1] - int(pads.max())
        places = pads[:, None] + torch.arange(shortest - 1, device=ids.device)
        starts = ids.gather(1, places)  # (batch, shortest - 1), without pads
        differs = (starts != starts[:1]).any(dim=0) | (starts[0] == self._image_token_id)
        length = int(differs.int().argmax()) if bool(differs.any()) else shortest - 1
        return starts[0, :length].tolist()


def _roll_pads(inputs: Any, pads: torch.Tensor, prefix: int) -> None:
    """[pads][prefix][rest] -> [prefix][pads][rest] in everything of shape (batch, seq)."""
    shape = inputs["input_ids"].shape
    place = torch.arange(shape[1], device=pads.device).expand(shape)
    pad = pads[:, None]
    source = torch.where(place < prefix, place + pad, torch.where(place < prefix + pad, place - prefix, place))
    for name, values in inputs.items():
        if isinstance(values, torch.Tensor) and values.shape == shape:
            inputs[name] = values.gather(1, source)


def _keys_and_values(model: Any, prefix: torch.Tensor) -> DynamicCache:
    """The cache of one text of shape (1, tokens)."""
    _forget_positions(model)
    cache = DynamicCache(config=model.config.get_text_config())
    model(
        input_ids=prefix,
        attention_mask=torch.ones_like(prefix),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cache


def _forget_positions(model: Any) -> None:
    """Qwen-VL models remember how far the pictures of the last prompts moved their positions, and would apply it."""
    for module in model.modules():
        if "rope_deltas" in vars(module):
            module.rope_deltas = None
