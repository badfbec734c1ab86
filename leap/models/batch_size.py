"""How many prompts a model answers at once: as many as the memory of its device is worth."""

from __future__ import annotations

import os
from typing import Any

import torch

MOST = 64  # beyond, a step of decoding takes longer for every prompt that joins
_FALLBACK = 8
# Of what the weights leave, keys and values get this share; the pictures' features and a layer's work want the rest.
# On one H100 64 prompts of 2,650 tokens took 37 GB besides the weights of Qwen3-VL-2B, 20 of them keys and values.
_SHARE = 0.5


def memory_of(device: str) -> int | None:
    """Bytes of memory that a device has in all, whoever uses them now; None where that cannot be told."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def bytes_a_token(config: Any, itemsize: int) -> int | None:
    """Bytes of the keys and values of one token in all layers, numbers of `itemsize` bytes each; None for a config
    that does not say how many heads and layers there are."""
    text = config.get_text_config()
    layers, heads = getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)
    if not layers or not heads:
        return None
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * layers * (getattr(text, "num_key_value_heads", None) or heads) * head_dim * itemsize


def prompts_at_once(config: Any, itemsize: int, longest: int, weights: int, memory: int | None) -> int:
    """The prompts of up to `longest` tokens, answer included, whose keys and values fit into the `memory` in bytes that
    the `weights` leave: a power of two from 1 to MOST. It follows from its arguments, not from what is free now, so
    that processes on devices alike make the same batches."""
    token = bytes_a_token(config, itemsize)
    if memory is None or token is None:
        return _FALLBACK
    room = _SHARE * max(0, memory - weights) / (token * max(1, longest))
    return 1 << min(MOST, max(1, int(room))).bit_length() - 1
