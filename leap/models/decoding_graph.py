"""A decoding step as one CUDA graph: its thousand launches become one, and the host no longer holds the GPU up.

Every step of a batch works on the same memory: a cache with room for all tokens to come, of which a mask hides those
that are not there yet. Without a GPU the same step runs without a graph.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from transformers import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from leap.models.roomy_cache import RoomyLayer

_FAMILIES = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}  # whose positions come with every step, and whose mask may be given
_WARM_UPS = 2  # steps before a capture, in which libraries take their workspace


@contextlib.contextmanager
def graphed_decoding(model: Any, cache: DynamicCache) -> Iterator[None]:
    """While this is open, steps of generate() that add one token to every row of `cache` are replayed from a graph.

    Does nothing for models and caches of which it is not known that a step can be captured.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = [layer for layer in cache.layers if type(layer) is RoomyLayer]
    if layers != cache.layers or inner.config.model_type not in _FAMILIES or getattr(inner, "is_quantized", False):
        yield
        return
    steps = _Steps(inner, cache, layers)

    @functools.wraps(inner.forward)  # generate() reads its signature
    def forward(*arguments: Any, **inputs: Any) -> Any:
        return steps.forward(*arguments, **inputs)

    inner.forward = forward  # hides the method of the class
    try:
        yield
    finally:
        del inner.forward


class _Steps:
    """The forward passes of one call of generate(): that over the prompts as ever, the steps after it by a graph."""

    def __init__(self, model: Any, cache: DynamicCache, layers: list[RoomyLayer]) -> None:
        """`layers` are those of `cache`."""
        self._plain, self._cache, self._layers = model.forward, cache, layers
        self._graph: torch.cuda.CUDAGraph | None = None
        self._length = 0  # of what the cache holds

    def forward(self, *arguments: Any, **inputs: Any) -> Any:
        ids = inputs.get("input_ids")
        same_cache = inputs.get("past_key_values") is self._cache
        if ids is None or ids.shape[1] != 1 or not same_cache or inputs.get("position_ids") is None:
            return self._plain(*arguments, **inputs)
        if not self._length:
            self._begin(inputs)
        self._ids.copy_(ids)
        self._positions.copy_(inputs["position_ids"])
        self._place.fill_(self._length)
        if self._graph is not None:
            self._graph.replay()
        else:
            self._step()
        self._length += 1
        for layer in self._layers:
            layer.hold(self._length)
        return CausalLMOutputWithPast(logits=self._logits, past_key_values=self._cache)

    def _begin(self, inputs: dict[str, Any]) -> None:
        """Memory that all steps share, and their graph."""
        self._length = self._cache.get_seq_length()
        ids, prompt_mask = inputs["input_ids"], inputs["attention_mask"]  # (batch, 1), (batch, length + 1)
        self._ids, self._positions = ids.clone(), inputs["position_ids"].clone()
        self._place = torch.full((1,), self._length, device=ids.device)
        self._mask = torch.zeros(len(ids), 1, 1, self._layers[0].capacity, dtype=torch.bool, device=ids.device)
        self._mask[:, 0, 0, : prompt_mask.shape[1]] = prompt_mask.bool()
        for layer in self._layers:
            layer.write_at(self._place)
        if ids.is_cuda:
            self._capture()

    def _capture(self) -> None:
        """A step changes nothing but what it writes, so that it may run several times."""
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                self._step()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # Other threads prepare the next prompts meanwhile, and take pinned memory for them.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._step()
        self._graph = graph

    def _step(self) -> None:
        self._mask.index_fill_(3, self._place, True)
        output = self._plain(
            input_ids=self._ids,
            position_ids=self._positions,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._logits = output.logits
