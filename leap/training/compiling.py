"""Compile a model layer by layer: one graph serves all layers alike, whatever the lengths of a batch."""

from __future__ import annotations

from typing import Any

from transformers.modeling_layers import GradientCheckpointingLayer


def compile_layers(model: Any, backend: str = "inductor") -> int:
    """Compile every layer of the language model and every block of the vision tower by torch.compile, for changing
    shapes; how many there are. `backend` is one of torch.compile's.

    Parameters keep their names. What lies between layers, gradient checkpointing included, stays as it is: a graph of
    the whole model would be made anew for every number of pictures.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
    return len(layers)
