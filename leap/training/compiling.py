"""Compile a model layer by layer: one graph serves all layers alike, whatever the lengths of a batch."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


def compiler_problem() -> str | None:
    """Why torch.compile would not pay or work here, None if it would."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is missing"
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):  # triton builds the launchers of its kernels with it
        return "there is no C compiler"
    return None


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
