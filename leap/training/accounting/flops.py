"""Floating-point operations of a forward pass and of a training step, and what a GPU can do at best.

Counted are matrix products, two operations for each multiply-add: linear layers 2 x rows x inputs x outputs, attention
4 x pairs x width (scores and values). Causal attention counts half of its square, each row by itself, whether rows are
padded or packed. Norms, activations, the loss and the optimiser are left out (below 1 %).

Gradient checkpointing computes the forward pass twice; that is not counted. A share of the peak made from these numbers
is model FLOPs utilisation (MFU) as in PaLM (arXiv 2204.02311, appendix B), not hardware utilisation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from configs.config import REPOSITORY
from leap.training.accounting.geometry import Geometry, Linear
from leap.training.adapters import target_pattern
from leap.training.parts import PARTS
from leap.training.recipes import LoraRecipe, TrainingRecipe


@dataclass(frozen=True)
class Batch:
    """What a forward pass computes on."""

    text_lengths: Sequence[int]  # tokens of each row, visual ones included, padding excluded
    image_patches: Sequence[int]  # patches of each picture (t x h x w of image_grid_thw; of a video, each frame)
    head_positions: int  # positions that the head is computed at, in all rows together

    @classmethod
    def of_rows(cls, rows: Sequence[Any], geometry: Geometry) -> Batch:
        """From leap.training.supervision.RowLength; the head runs where any row is supervised.

        A RowLength does not tell pictures apart: those of a row count as one, whose attention costs more.
        """
        spans = [range(row.total - row.supervised - 1, row.total - 1) for row in rows]
        kept = len(set().union(*spans))
        patches = [row.visual * geometry.vision.merge**2 for row in rows if row.visual]
        return cls([row.total for row in rows], patches, kept * len(rows))


@dataclass(frozen=True)
class PartFlops:
    """Operations by part of the model; `head` is the language model's output layer."""

    vision: int = 0
    merger: int = 0
    llm: int = 0
    head: int = 0

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Peak:
    """The most operations a second that a GPU can do; `label` is the entry of configs/gpus.yaml that matched."""

    label: str
    flops: float
    source: str


def forward_flops(geometry: Geometry, batch: Batch) -> PartFlops:
    """Operations of one forward pass."""
    return _count(geometry, batch, (), None)


def training_flops(geometry: Geometry, batch: Batch, recipe: TrainingRecipe) -> PartFlops:
    """Operations of one forward and backward pass under a recipe's `freeze`, or its adapters.

    The forward pass once, once more for the gradient of a layer's input wherever something that trains lies before it,
    once more for the gradient of its weight if that trains. So a trained part counts three times; a frozen one in front
    of all that trains once, behind it twice; an adapter adds its own two small products. DoRA's norms are left out.
    """
    adapter = recipe if isinstance(recipe, LoraRecipe) else None
    return _count(geometry, batch, trained_parts(recipe), adapter)


def trained_parts(recipe: TrainingRecipe) -> tuple[str, ...]:
    """The parts whose own weights train: none with an adapter."""
    return () if isinstance(recipe, LoraRecipe) else tuple(part for part in PARTS if part not in recipe.freeze)


def adapted(geometry: Geometry, recipe: TrainingRecipe | None) -> list[Linear]:
    """The linear layers that carry an adapter, by the pattern that leap.training.adapters puts them on with."""
    if not isinstance(recipe, LoraRecipe):
        return []
    pattern = re.compile(target_pattern(recipe))
    return [linear for linear in geometry.linears if pattern.fullmatch(linear.name)]


def _count(geometry: Geometry, batch: Batch, parts: tuple[str, ...], adapter: LoraRecipe | None) -> PartFlops:
    rows = _rows(geometry, batch)
    attention = _attention(geometry, batch)
    carriers = {linear.name for linear in adapted(geometry, adapter)}
    rank = adapter.lora_r if adapter else 0
    sums = dict.fromkeys(("vision", "merger", "llm", "head"), 0)
    reached = False  # gradients flow back to the input of this step
    for step in geometry.steps:
        trains = step.linears[0].part in parts
        first = step.linears[0].name == "visual.patch_embed.proj"  # no gradient for the pixels
        reached = reached or (trains and not first)  # a trained norm or embedding lies before the layer
        for linear in step.linears:
            key = "head" if linear.rows == "head" else linear.part
            product = 2 * rows[linear.rows] * linear.inputs * linear.outputs
            sums[key] += product * (1 + reached + trains)
            if linear.name in carriers:
                down, up = (2 * rows[linear.rows] * rank * width for width in (linear.inputs, linear.outputs))
                sums[key] += down * (2 + reached) + up * 3
        reached = reached or trains or any(linear.name in carriers for linear in step.linears)
        if step.attends:
            sums[step.linears[0].part] += attention[step.attends] * (1 + 2 * reached)
    return PartFlops(**sums)


def _rows(geometry: Geometry, batch: Batch) -> dict[str, int]:
    """How many rows the weights multiply, by kind."""
    patches = sum(batch.image_patches)
    return {
        "patch": patches,
        "merged": patches // geometry.vision.merge**2,
        "token": sum(batch.text_lengths),
        "head": batch.head_positions,
    }


def _attention(geometry: Geometry, batch: Batch) -> dict[str, int]:
    """Operations of one layer's attention, by kind. Windows at a picture's edge count as whole ones."""
    window, width = geometry.vision.window, geometry.vision.hidden
    return {
        "row": 2 * geometry.text.attention * sum(length**2 for length in batch.text_lengths),
        "image": 4 * width * sum(patches**2 for patches in batch.image_patches),
        "window": 4 * width * sum(patches * min(patches, window) for patches in batch.image_patches),
    }


# Other hardware under a name that a listed GPU's is a part of.
_VARIANTS = re.compile(r"\b(?:Laptop|Mobile|Max-Q|Ti|SUPER|D|MIG)\b", re.IGNORECASE)


def peak_flops(device_name: str, bf16: bool) -> Peak | None:
    """The dense peak of a GPU by the name that torch.cuda.get_device_name gives, in bfloat16 or float32 (without TF32).

    None if the GPU is not in configs/gpus.yaml or has no bfloat16: then there is no MFU to show.
    """
    if _VARIANTS.search(device_name):
        return None
    entries = yaml.safe_load((REPOSITORY / "configs" / "gpus.yaml").read_text(encoding="utf-8"))
    for entry in entries:
        if re.search(rf"\b(?:{entry['name']})\b", device_name, re.IGNORECASE):
            speed = entry.get("bf16" if bf16 else "fp32")
            return None if speed is None else Peak(entry["name"], speed * 1e12, entry["source"])
    return None
