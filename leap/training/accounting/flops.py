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

import yaml

from configs.config import REPOSITORY
from leap.training.accounting.geometry import Geometry, Linear
from leap.training.adapters import target_pattern
from leap.training.lengths import RowLength
from leap.training.parts import PARTS
from leap.training.recipes import LoraRecipe, TrainingRecipe


@dataclass(frozen=True)
class BatchShape:
    """What a forward pass computes on."""

    text_lengths: Sequence[int]  # tokens of each row, visual ones included, padding excluded
    image_patches: Sequence[int]  # patches of each picture (t x h x w of image_grid_thw; of a video, each frame)
    head_positions: int  # positions that the head is computed at, in all rows together

    @classmethod
    def from_lengths(cls, rows: Sequence[RowLength], geometry: Geometry) -> BatchShape:
        """From the lengths of rows; the head runs where any row is supervised.

        A RowLength does not tell pictures apart: those of a row count as one, whose attention costs more.
        """
        spans = [range(row.total - row.supervised - 1, row.total - 1) for row in rows]
        positions = len(set().union(*spans))
        patches = [row.visual * geometry.vision.merge**2 for row in rows if row.visual]
        return cls([row.total for row in rows], patches, positions * len(rows))


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
class PeakSpeed:
    """The most operations a second that a GPU can do; `label` is the entry of configs/gpus.yaml that matched."""

    label: str
    flops: float
    source: str


def forward_flops(geometry: Geometry, batch: BatchShape) -> PartFlops:
    """Operations of one forward pass."""
    return _count(geometry, batch, (), None)


def training_flops(geometry: Geometry, batch: BatchShape, recipe: TrainingRecipe) -> PartFlops:
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


def _count(geometry: Geometry, batch: BatchShape, parts: tuple[str, ...], adapter: LoraRecipe | None) -> PartFlops:
    """Walk through the model from the pixels to the head, and note whether gradients flow back to where we are.

    1 product forward, 1 for the gradient of the input if something in front trains, 1 for that of the weight if it
    trains: together the 2 N forward and 4 N backward of a dense model with N weights a token (arXiv 2001.08361,
    section 2.1).
    """
    rows = _rows(geometry, batch)
    attention = _attention(geometry, batch)
    carriers = {linear.name for linear in adapted(geometry, adapter)}
    rank = adapter.lora_r if adapter else 0
    sums = dict.fromkeys(("vision", "merger", "llm", "head"), 0)
    reached = False  # whether gradients flow back to the input of this group
    for group in geometry.groups:
        trains = group.linears[0].part in parts
        first = group.linears[0].name == "visual.patch_embed.proj"  # no gradient for the pixels
        reached = reached or (trains and not first)  # a trained norm or embedding lies before the layer
        for linear in group.linears:
            key = "head" if linear.rows == "head" else linear.part
            product = 2 * rows[linear.rows] * linear.inputs * linear.outputs
            sums[key] += product * (1 + reached + trains)
            if linear.name in carriers:
                down, up = (2 * rows[linear.rows] * rank * width for width in (linear.inputs, linear.outputs))
                sums[key] += down * (2 + reached) + up * 3  # both train, and `up` has `down` in front
        reached = reached or trains or any(linear.name in carriers for linear in group.linears)
        if group.attends:
            # Each of its two products has a gradient for either of its factors, and no weight.
            sums[group.linears[0].part] += attention[group.attends] * (1 + 2 * reached)
    return PartFlops(**sums)


def _rows(geometry: Geometry, batch: BatchShape) -> dict[str, int]:
    """How many rows the weights multiply, by kind."""
    patches = sum(batch.image_patches)
    return {
        "patch": patches,
        "merged": patches // geometry.vision.merge**2,
        "token": sum(batch.text_lengths),
        "head": batch.head_positions,
    }


def _attention(geometry: Geometry, batch: BatchShape) -> dict[str, int]:
    """Operations of one layer's attention, by kind. Windows at a picture's edge count as whole ones."""
    window, width = geometry.vision.window, geometry.vision.hidden
    return {
        "row": 2 * geometry.text.attention * sum(length**2 for length in batch.text_lengths),
        "image": 4 * width * sum(patches**2 for patches in batch.image_patches),
        "window": 4 * width * sum(patches * min(patches, window) for patches in batch.image_patches),
    }


# Other hardware under a name that a listed GPU's is a part of.
_VARIANTS = re.compile(r"\b(?:Laptop|Mobile|Max-Q|Ti|SUPER|D|MIG)\b", re.IGNORECASE)


def peak_flops(device_name: str, bf16: bool) -> PeakSpeed | None:
    """The dense peak of a GPU by the name that torch.cuda.get_device_name gives, in bfloat16 or float32 (without TF32).

    None if the GPU is not in configs/gpus.yaml or has no bfloat16: then there is no MFU to show.
    """
    if _VARIANTS.search(device_name):
        return None
    entries = yaml.safe_load((REPOSITORY / "configs" / "gpus.yaml").read_text(encoding="utf-8"))
    for entry in entries:
        if re.search(rf"\b(?:{entry['name']})\b", device_name, re.IGNORECASE):
            speed = entry.get("bf16" if bf16 else "fp32")
            return None if speed is None else PeakSpeed(entry["name"], speed * 1e12, entry["source"])
    return None
