"""Keys and values of the text with which all prompts of a batch begin, computed once and kept for the next batch."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from leap.models.roomy_cache import roomy_cache

# A shorter common beginning costs about as much to copy as to compute.
_WORTHWHILE = 64  # tokens
# A dummy keeps nothing: such a layer uses the keys of another one (Gemma 4).
_KEEP_KEYS_ONLY = {"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"}

_LayerState = tuple[torch.Tensor, torch.Tensor] | None  # keys, values  # (1, heads, tokens, head size) each


class PrefixCache:
    """Keeps the keys and values of one text prefix, that of the last batch, for one model. Use it under no_grad.

    The batch stays left-padded as it is: a row with n pads gets the keys of the prefix moved by n places, without the
    last n, which it computes again where a shorter layout would compute pads. So all that holds for left padding holds
    here, windows of attention included. Only text before the first picture is shared.
    """

    def __init__(self, image_tokens: frozenset[int]) -> None:
        """`image_tokens` are the ids that stand for a picture in a prompt."""
        self._image_tokens = torch.tensor(sorted(image_tokens))
        self.tokens: list[int] = []  # that are kept
        self._states: list[_LayerState] = []

    def begin(self, model: Any, inputs: Any, room: int) -> dict[str, Any]:
        """What generate() needs to go on from the common prefix of left-padded `inputs`, with `room` for so many new
        tokens; {} if the prefix is too short to be worth it, or if the model keeps something else than keys and values
        of every token."""
        _forget_positions(model)
        mask = inputs["attention_mask"]  # (batch, seq)
        pads = mask.shape[1] - mask.sum(dim=1)  # (batch,)
        common = self._common(inputs["input_ids"], pads)
        if len(common) < _WORTHWHILE or not keeps_keys_only(model):
            return {}
        if common != self.tokens:  # what is reused depends on the batch alone, not on those before it
            self.tokens, self._states = [], []  # frees the old ones first
            self._states = _keys_and_values(model, torch.tensor([common], device=mask.device))
            self.tokens = common
        rest = mask.shape[1] - len(common)
        return {"past_key_values": _moved(self._states, pads, roomy_cache(model.config, rest + room))}

    def _common(self, ids: torch.Tensor, pads: torch.Tensor) -> list[int]:
        """The text tokens before any picture with which all rows of ids (batch, seq) begin; the last token of a prompt
        is never among them."""
        shortest = ids.shape[1] - int(pads.max())
        places = pads[:, None] + torch.arange(shortest - 1, device=ids.device)
        starts = ids.gather(1, places)  # (batch, shortest - 1), without pads
        picture = torch.isin(starts[0], self._image_tokens.to(ids.device))
        differs = (starts != starts[:1]).any(dim=0) | picture
        length = int(differs.int().argmax()) if bool(differs.any()) else shortest - 1
        return starts[0, :length].tolist()


def keeps_keys_only(model: Any) -> bool:
    """Not so for layers of linear attention or convolution (Qwen3.5, LFM2), whose state cannot be moved in a row, nor
    for attention to the picture beside the text (Llama 3.2 Vision)."""
    kinds = {type(layer).__name__ for layer in DynamicCache(config=model.config).layers}
    across = getattr(model.config.get_text_config(), "cross_attention_layers", None)
    return kinds <= _KEEP_KEYS_ONLY and not across


def _keys_and_values(model: Any, prefix: torch.Tensor) -> list[_LayerState]:
    """Of each layer, for one text of shape (1, tokens); None for a dummy."""
    cache = DynamicCache()  # without a config it keeps all tokens of sliding layers too, which moving them needs
    model(
        input_ids=prefix,
        attention_mask=torch.ones_like(prefix),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    _forget_positions(model)
    layers: list[Any] = cache.layers
    return [None if layer.keys is None else (layer.keys, layer.values) for layer in layers]


def _moved(states: list[_LayerState], pads: torch.Tensor, cache: DynamicCache) -> DynamicCache:
    """Fill `cache` with a row for each of pads (batch,): its pads, then as much of the prefix as fits."""
    length = next(layer for layer in states if layer is not None)[0].shape[2]
    source = (torch.arange(length, device=pads.device) - pads[:, None]).clamp(min=0)  # (batch, length); pads are masked
    for place, layer in enumerate(states):
        if layer is None:
            continue
        keys, values = (tensor[0, :, source].transpose(0, 1) for tensor in layer)  # (batch, heads, length, head size)
        cache.update(keys, values, place)
    return cache


def _forget_positions(model: Any) -> None:
    """Qwen-VL models remember how far the pictures of the last prompts moved their positions, and would apply it."""
    for module in model.modules():
        if "rope_deltas" in vars(module):
            module.rope_deltas = None
