"""The tiny planner with large random weights: untrained as it is, it repeats one token whatever it is shown."""

from __future__ import annotations

from pathlib import Path

import torch

from leap.models.loading import load_processor, load_weights


def write_lively(base: Path, folder: Path, **generation: object) -> Path:
    """Write it to `folder`, with these settings of its own for generation."""
    model = load_weights(base, "float32")
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.update(**generation)
    model.save_pretrained(folder)
    load_processor(base).save_pretrained(folder)
    return folder
