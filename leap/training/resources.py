"""What a run will take and how well it uses it: memory and disk before it starts, model FLOPs while it runs."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from configs.errors import UserError
from leap.files import free_bytes
from leap.models.checkpoints import find_checkpoints
from leap.text import size_text
from leap.training.accounting import (
    BatchShape,
    Geometry,
    PeakSpeed,
    checkpoint_bytes,
    estimate_memory,
    peak_flops,
    training_flops,
)
from leap.training.lengths import RowLength
from leap.training.recipes import TrainingRecipe

_SPARE = 1.02  # tokenizer, logs, file system


def geometry_of(model: Path) -> Geometry | None:
    """The shapes of the model in a folder, or None for an architecture whose formulas are not known."""
    try:
        return Geometry.from_folder(model)
    except UserError:
        return None


def largest_step(
    geometry: Geometry, recipe: TrainingRecipe, batches: Sequence[Sequence[int]], lengths: Sequence[RowLength]
) -> str:
    """A line on the memory of the largest of the `batches` (rows as indices into `lengths`), by estimate."""

    def padded(batch: Sequence[int]) -> int:
        return len(batch) * max(lengths[row].total for row in batch)

    if recipe.packing:
        batch = max(batches, key=lambda rows: sum(lengths[row].total for row in rows))
        rows = [lengths[row] for row in batch]
        whole = BatchShape.from_lengths(rows, geometry)
        shape = BatchShape([sum(whole.text_lengths)], whole.image_patches, sum(row.supervised for row in rows))
        what = f"{sum(row.total for row in rows)} tokens in a pack"
    else:
        batch = max(batches, key=padded)
        shape = BatchShape.from_lengths([lengths[row] for row in batch], geometry)
        what = f"{len(batch)} rows of up to {max(shape.text_lengths)} tokens"
    memory = estimate_memory(geometry, shape, recipe)
    line = f"estimated GPU memory of the largest step ({what}): {memory}"
    if torch.cuda.is_available():
        capacity = torch.cuda.get_device_properties(0).total_memory
        line += f"; the GPU has {size_text(capacity)}"
        line += ", which is likely too little" if memory.total > capacity else ""
    return line


class DiskNeed:
    """How many bytes the checkpoints of a run take, and whether the disk has them."""

    def __init__(self, geometry: Geometry, recipe: TrainingRecipe) -> None:
        self.checkpoint, self.recipe = checkpoint_bytes(geometry, recipe), recipe

    def run_bytes(self, steps: int) -> int:
        """Bytes that lie on the disk at most, while the last checkpoint is written and before an old one goes."""
        saves = -(-steps // self.recipe.save_steps)
        checkpoints = min(saves, (self.recipe.save_total_limit or saves) + 1)
        states = min(saves, self.recipe.keep_optimizer_of_last + 1)
        return round(_SPARE * (checkpoints * self.checkpoint.weights + states * self.checkpoint.optimiser))

    def text(self, steps: int) -> str:
        """A line on the disk that the run takes."""
        need, free = self.run_bytes(steps), free_bytes(self.recipe.output_dir)
        weights, optimiser = size_text(self.checkpoint.weights), size_text(self.checkpoint.optimiser)
        return (
            f"a checkpoint takes {weights} and {optimiser} of optimiser state, "
            f"the run up to {size_text(need)} of disk ({size_text(free)} free)"
        )

    def check_run(self, steps: int) -> None:
        """UserError if the disk has too little for the checkpoints of the run."""
        run = self.recipe.output_dir
        need, free = self.run_bytes(steps), free_bytes(run)
        files = (file for folder in find_checkpoints(run) for file in folder.rglob("*") if file.is_file())
        if free + sum(file.stat().st_size for file in files) < need:  # a resumed run replaces what it has saved
            raise UserError(
                f"the checkpoints of this run take up to {size_text(need)} and {run} has {size_text(free)} free: "
                "free some, lower save_total_limit or keep_optimizer_of_last, or name another --output_dir"
            )

    def check_one(self, folder: Path) -> None:
        """UserError if there is no room for the checkpoint `folder`."""
        need, free = round(_SPARE * self.checkpoint.total), free_bytes(folder.parent)
        if free < need:
            raise UserError(
                f"no room for {folder}: it takes {size_text(need)} and {size_text(free)} are free. The last "
                "complete checkpoint is intact; free some and run the same command again"
            )


def flops_counter(geometry: Geometry, recipe: TrainingRecipe) -> Callable[[Mapping[str, Any]], float]:
    """A function from a collated batch to the model FLOPs of training on it."""

    def flops_of(batch: Mapping[str, Any]) -> float:
        grids = [batch[name] for name in ("image_grid_thw", "video_grid_thw") if name in batch]
        patches = [h * w for grid in grids for t, h, w in grid.tolist() for _ in range(t)]  # frames see only themselves
        labels = batch["labels"]
        positions = int((labels[:, 1:] >= 0).any(dim=0).sum())
        shape = BatchShape(batch["row_lengths"], patches, labels.shape[0] * positions)
        return training_flops(geometry, shape, recipe).total

    return flops_of


def peak_of_devices(recipe: TrainingRecipe, devices: int) -> tuple[float | None, str]:
    """FLOP/s of all devices together at best, and a line that says what the MFU divides by or why there is none."""
    if not torch.cuda.is_available():
        return None, "MFU is off: no GPU"
    name = torch.cuda.get_device_name()
    bf16 = recipe.bf16 or recipe.pure_bf16
    peak: PeakSpeed | None = peak_flops(name, bf16)
    if peak is None:
        return (
            None,
            f"MFU is off: the peak of {name} in {'bfloat16' if bf16 else 'float32'} is not in configs/gpus.yaml",
        )
    return peak.flops * devices, f"MFU divides by {peak.flops / 1e12:.0f} TFLOP/s a GPU ({peak.label}, {peak.source})"


def peak_memory_bytes() -> int:
    """The most memory that this process's GPU, or without one the process itself, has held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
