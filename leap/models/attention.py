"""Attention within the segments of one long sequence: rows of a pack, pictures of a batch.

On CUDA in half precision all segments go through one variable-length kernel (torch.nn.attention.varlen, part of torch);
elsewhere SDPA runs over one segment after the other, which is also the reference that the kernel must equal. Either way
the work is sum(length**2); one call with a block-diagonal mask would compute sum(length)**2 pairs and drop most.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None  # type: ignore[assignment]

ISOLATED_SDPA = "leap_isolated_sdpa"
# Qwen's vision towers hand all pictures over at once, with their borders, to kernels with "flash" in their name only.
PICTURES_AT_ONCE = "leap_flash_pictures"

_LENGTH_STEP = 256  # tokens
_HALF = (torch.bfloat16, torch.float16)
_FULL, _CAUSAL = (-1, -1), (-1, 0)  # windows: tokens seen to the left and to the right, -1 for all


def varlen_kernel(query: torch.Tensor) -> Callable[..., Any] | None:
    """torch's variable-length kernel where it can take `query`, else None."""
    return varlen_attn if query.is_cuda and query.dtype in _HALF else None


def within_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    *,
    causal: bool,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of each segment to itself.

    query  # (1, heads, tokens, head_dim); key, value  # the same, with as many heads or a divisor of them; borders
    # (segments + 1,) int32, from 0 to tokens; `longest` is at least the tokens of the longest segment. The result
    # (1, tokens, heads, head_dim). Under autocast in its type, as SDPA.
    """
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    kernel = varlen_kernel(query)
    if kernel is not None:
        return _by_kernel(kernel, query, key, value, borders, longest, _CAUSAL if causal else _FULL, scale)
    lengths = borders.diff().tolist()
    grouped = key.shape[1] != query.shape[1]
    parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = [
        scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped) for q, k, v in parts
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _by_kernel(
    kernel: Callable[..., Any],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    window: tuple[int, int],
    scale: float | None,
) -> torch.Tensor:
    options: dict[str, Any] = {"scale": scale}
    knobs = _knobs(kernel)
    if "window_size" in knobs:
        options["window_size"] = window
    else:
        options["is_causal"] = window == _CAUSAL
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" in knobs:
        options["enable_gqa"] = True
    elif groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    tokens_first = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))  # (tokens, heads, size)
    return kernel(*tokens_first, borders, borders, longest, longest, **options).unsqueeze(0)


def _signature(kernel: Callable[..., Any] | None) -> frozenset[str]:
    return frozenset(inspect.signature(kernel).parameters) if kernel else frozenset()


# What can be said to torch's kernel, which grew from one version to the next. Read here, where torch.compile does not
# look.
_KNOBS = _signature(varlen_attn)


def _knobs(kernel: Callable[..., Any]) -> frozenset[str]:
    return _KNOBS if kernel is varlen_attn else _signature(kernel)


def isolated_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sample_borders: torch.Tensor | None = None,
    longest_sample: int | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each row of a pack to itself; plain SDPA without `sample_borders`, which only packs have, and
    in a vision tower. Arguments and result as `within_segments`."""
    if sample_borders is None or not module.is_causal:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    longest = query.shape[2] if longest_sample is None else longest_sample
    return within_segments(query, key, value, sample_borders, longest, causal=True, scale=scaling), None


def pictures_at_once(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each picture, or frame, to itself. Arguments and result as `within_segments`."""
    return within_segments(query, key, value, cu_seq_lens_q, max_length_q, causal=False, scale=scaling), None


AttentionInterface.register(ISOLATED_SDPA, isolated_sdpa)
AttentionMaskInterface.register(ISOLATED_SDPA, sdpa_mask)
AttentionInterface.register(PICTURES_AT_ONCE, pictures_at_once)


def longest_for_kernel(longest: int) -> int:
    """The length of the longest segment in tokens as kernels are told it: rounded up to a multiple of _LENGTH_STEP, so
    that one compiled for it fits the next batch too."""
    return math.ceil(longest / _LENGTH_STEP) * _LENGTH_STEP


def kernel_for_packs(attn_implementation: str) -> str:
    """The attention that a model must be loaded with for packs, where this one is wished for."""
    return ISOLATED_SDPA if attn_implementation == "sdpa" else attn_implementation


def attend_to_pictures_at_once(model: Any) -> bool:
    """Let the vision tower of a Qwen-VL model that runs SDPA attend to all pictures in one call instead of one by one;
    whether this model's does."""
    tower = getattr(getattr(model, "model", None), "visual", None)
    if tower is None or tower.config._attn_implementation not in ("sdpa", ISOLATED_SDPA):
        return False
    tower.config._attn_implementation = PICTURES_AT_ONCE
    return True
