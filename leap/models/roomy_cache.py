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

    keys: torch.Tensor  # (batch, heads, tokens, head_dim), from the first update on
    values: torch.Tensor

    def __init__(self, room: int) -> None:
        """`room` is the tokens to make place for behind those that come first."""
        super().__init__()
        self._room = room
        self._stores: list[torch.Tensor] = []  # of keys and of values  # (batch, heads, capacity, head_dim)
        self.place: torch.Tensor | None = None  # (1,): see write_at

    @property
    def capacity(self) -> int:
        """Tokens that there is room for, those held included."""
        return self._stores[0].shape[2]

    def write_at(self, place: torch.Tensor) -> None:
        """From now on `update` writes one token at `place` (1,), wherever that tensor says, and returns all there is
        room for: the same work on the same memory in every step, as a CUDA graph must have it. `hold` tells how many
        tokens there are."""
        self.place = place

    def hold(self, length: int) -> None:
        self.keys, self.values = (store[:, :, :length] for store in self._stores)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """key_states, value_states  # (batch, heads, new tokens, head_dim); returns all there are, these last."""
        if self.place is not None:
            for store, new in zip(self._stores, (key_states, value_states), strict=True):
                store.index_copy_(2, self.place, new)
            return self._stores[0], self._stores[1]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        length = held + key_states.shape[2]
        if not self._fits(length):
            pairs = ((self.keys, key_states), (self.values, value_states))
            self._stores = [self._longer(old, new, held) for old, new in pairs]
        self._stores[0][:, :, held:length] = key_states
        self._stores[1][:, :, held:length] = value_states
        self.hold(length)
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
        # Zeros: a mask hides what is not there yet, but makes no number of memory that holds none.
        store = new.new_zeros(batch, heads, held + tokens + self._room, size)
        if held:
            store[:, :, :held] = old
        return store


def roomy_cache(config: Any, room: int) -> DynamicCache:
    """An empty cache for a model of this config; layers that keep all tokens have `room` for so many more than come
    first, the others are as transformers makes them."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
