"""A cache of keys and values with room for the tokens to come: a step writes its own and copies none of the others.

transformers' DynamicCache makes a longer tensor at every step, which for a batch of long prompts moves more memory than
the step itself reads.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """A DynamicLayer whose `keys` and `values` are the beginnings of longer tensors. Only for inference: what is
    written into them in place has no gradient."""

    def __init__(self, room: int) -> None:
        """`room` is the tokens to make place for behind those that come first."""
        super().__init__()
        self._room = room
        self._stores: list[torch.Tensor] = []  # of keys and of values  # (batch, heads, capacity, head_dim)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """key_states, value_states  # (batch, heads, new tokens, head_dim); returns all there are, these last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        length = held + key_states.shape[2]
        if not self._fits(length):
            pairs = ((self.keys, key_states), (self.values, value_states))
            self._stores = [self._longer(old, new, held) for old, new in pairs]
        self._stores[0][:, :, held:length] = key_states
        self._stores[1][:, :, held:length] = value_states
        self.keys, self.values = (store[:, :, :length] for store in self._stores)
        return self.keys, self.values

    def _fits(self, length: int) -> bool:
        """Not so if another method has replaced `keys`: fewer rows of a batch, say."""
        if not self._stores:
            return False
        store = self._stores[0]
        same = self.keys.data_ptr() == store.data_ptr() and self.keys.shape[:2] == store.shape[:2]
        return same and length <= store.shape[2]

    def _longer(self, old: torch.Tensor, new: torch.Tensor, held: int) -> torch.Tensor:
        batch, heads, tokens, size = new.shape
        store = new.new_empty(batch, heads, held + tokens + self._room, size)
        if held:
            store[:, :, :held] = old
        return store


def roomy_cache(config: Any, room: int) -> DynamicCache:
    """An empty cache for a model of this config; layers that keep all tokens have `room` for so many more than come
    first, the others are as transformers makes them."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
