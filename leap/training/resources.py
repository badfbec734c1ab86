"""What a run will take and how well it uses it: memory and disk before it starts, model FLOPs while it runs."""

from __future__ import annotations

import importlib.util
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from configs.errors import UserError
from leap.files import free_bytes
from leap.models.batch_size import memory_of
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
from leap.training.lengths import RowLength, RowLengths
from leap.training.recipes import LoraRecipe, TrainingRecipe

_FRAGMENTED = 1.08  # what the allocator holds over what is used; one H100 peaked at 44 GB where 41 were estimated
_SPARE = 1.02  # tokenizer, logs, file system


def geometry_of(model: Path) -> Geometry | None:
    """The shapes of the model in a folder, or None for an architecture whose formulas are not known."""
    try:
        return Geometry.from_folder(model)
    except UserError:
        return None


@dataclass(frozen=True)
class LargestStep:
    """The shape of the forward pass that takes most memory, and words for it."""

    shape: BatchShape
    what: str


def largest_step(
    geometry: Geometry, recipe: TrainingRecipe, batches: Sequence[Sequence[int]], lengths: Sequence[RowLength]
) -> LargestStep:
    """The largest of the `batches`, whose rows are indices into `lengths`."""

    totals = RowLengths.from_rows(lengths).total

    def padded(batch: Sequence[int]) -> int:
        return len(batch) * totals[batch].max()

    if recipe.packing:
        batch = max(batches, key=lambda rows: totals[rows].sum())
        rows = [lengths[row] for row in batch]
        whole = BatchShape.from_lengths(rows, geometry)
        shape = BatchShape([sum(whole.text_lengths)], whole.image_patches, sum(row.supervised for row in rows))
        what = f"{sum(row.total for row in rows)} tokens in a pack"
    else:
        batch = max(batches, key=padded)
        shape = BatchShape.from_lengths([lengths[row] for row in batch], geometry)
        what = f"{len(batch)} rows of up to {max(shape.text_lengths)} tokens"
    return LargestStep(shape, what)


def gpu_bytes() -> int | None:
    """Memory of the first GPU, None without one."""
    return memory_of("cuda:0") if torch.cuda.is_available() else None


def describe_memory(geometry: Geometry, recipe: TrainingRecipe, largest: LargestStep, capacity: int | None) -> str:
    """A line on the memory of the largest step, by estimate, beside that of the GPU if there is one. What the recipe
    leaves open is taken as a run takes it."""
    recipe, _ = fitted_to_gpu(recipe, geometry, largest, capacity or 0, precision=False)
    memory = estimate_memory(geometry, largest.shape, recipe)
    line = f"estimated GPU memory of the largest step ({largest.what}): {memory}"
    if capacity is not None:
        line += f"; the GPU has {size_text(capacity)}"
        line += ", which is likely too little" if memory.total > capacity else ""
    return line


def fitted_to_gpu(
    recipe: TrainingRecipe, geometry: Geometry, largest: LargestStep, capacity: int, *, precision: bool
) -> tuple[TrainingRecipe, str | None]:
    """The recipe as its largest step fits the GPU by estimate, and what was picked and why, None where nothing was.

    First without recomputing activations, then with, where the recipe leaves that open; with `precision` then in
    bfloat16 weights, then with 8-bit optimiser states too. What fits nothing stays as it is, recomputing. UserError if
    what is picked needs a package that is not installed.
    """

    def need(choice: TrainingRecipe) -> float:
        return estimate_memory(geometry, largest.shape, choice).total * _FRAGMENTED

    ways = (False, True) if recipe.gradient_checkpointing is None else (recipe.gradient_checkpointing,)
    choices = [replace(recipe, gradient_checkpointing=way) for way in ways]
    last = choices[-1]
    if precision and recipe.bf16 and not isinstance(recipe, LoraRecipe):
        choices += [replace(last, pure_bf16=True), replace(last, pure_bf16=True, optim="adamw_8bit")]
    picked = next((choice for choice in choices if need(choice) <= capacity), last)
    if picked in (recipe, last):
        return picked, None
    if not picked.gradient_checkpointing:
        return picked, "activations are kept, not recomputed: the GPU has room for them"
    flags = "--pure_bf16" + (" --optim adamw_8bit" if picked.optim == "adamw_8bit" else "")
    why = (
        f"the largest step takes about {size_text(need(last))} of GPU memory as the recipe stands and the GPU has "
        f"{size_text(capacity)}; {flags} takes about {size_text(need(picked))}"
    )
    if importlib.util.find_spec("torchao") is None:
        raise UserError(f"{why}. It needs the package torchao: pip install torchao. --no-fit_to_gpu tries without")
    return picked, f"training with {flags}: {why}. --no-fit_to_gpu leaves the recipe as it is"


class DiskNeed:
    """How many bytes the checkpoints of a run take, and whether the disk has them."""

    def __init__(self, geometry: Geometry, recipe: TrainingRecipe) -> None:
        self.checkpoint, self.recipe = checkpoint_bytes(geometry, recipe), recipe

    def run_bytes(self, steps: int) -> int:
        """Bytes that lie on the disk at most, while the last checkpoint is written and before an old one goes; those
        that are kept for their step are counted as if none of the last ones were among them."""
        saves = -(-steps // self.recipe.save_steps)
        every = self.recipe.keep_weights_every
        spared = steps // every if every else 0
        checkpoints = min(saves, (self.recipe.save_total_limit or saves) + 1 + spared)
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
