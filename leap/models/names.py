"""What a model's name in results says: which run and step it is, and under which other settings it was asked.

    <run>-checkpoint-<step><suffix>    a checkpoint of a run
    checkpoint-<step><suffix>          one directly in output/
    baseline<suffix>                   the untouched base
    anything else                      a control (constant), a model of another kind

The suffix names settings other than the usual ones, as in _1shot_CoT or _blank (leap.vlabench.options.name_suffix).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.models.checkpoints import step_of

BASE_NAME = "baseline"

_CHECKPOINT = re.compile(r"(?:(?P<run>.+)-)?checkpoint-(?P<step>\d+)(?P<suffix>_.*)?")
_BASE = re.compile(rf"{BASE_NAME}(?P<suffix>_.*)?")


def result_name(checkpoint: Path, output: Path) -> str:
    """The model's name in results: `checkpoint-200`, or `<run>-checkpoint-200` for a run of its own folder."""
    checkpoint = checkpoint.resolve()
    if step_of(checkpoint) is None or checkpoint.parent == output.resolve():
        return checkpoint.name
    return f"{checkpoint.parent.name}-{checkpoint.name}"


def checked_name(name: str, flag: str) -> str:
    """`name` itself; UserError, which names the `flag` that gave it, unless it can be a part of a folder's name."""
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable() or len(os.fsencode(name)) > 200:
        raise UserError(f"{flag} {name!r:.80} would be a part of a folder's name: leave out / and \\, as in my-model_2")
    return name


@dataclass(frozen=True)
class Curve:
    """The checkpoints of one run that were asked in one way. `run` is empty for those directly in output/."""

    run: str
    suffix: str

    @property
    def title(self) -> str:
        """The run and, in brackets, the settings: "lora_light (1shot, CoT)"."""
        words = ", ".join(self.suffix.strip("_").split("_"))
        return (self.run or "checkpoint") + (f" ({words})" if words else "")


def curve_and_step(name: str) -> tuple[Curve, int] | None:
    """The curve that a model belongs to and its optimiser step; None if it is no checkpoint."""
    match = _CHECKPOINT.fullmatch(name)
    return (Curve(match["run"] or "", match["suffix"] or ""), int(match["step"])) if match else None


def base_suffix(name: str) -> str | None:
    """The suffix of the base model's name ("" under the usual settings), or None if the model is not the base."""
    match = _BASE.fullmatch(name)
    return (match["suffix"] or "") if match else None


def order_of(name: str) -> tuple:
    """A sort key: the base, then checkpoints by run, way of asking and step, then all others by name."""
    if (suffix := base_suffix(name)) is not None:
        return 0, suffix
    if placed := curve_and_step(name):
        return 1, placed[0].run, placed[0].suffix, placed[1]
    return 2, name


def curves_in(names: Iterable[str]) -> dict[Curve, dict[int, str]]:
    """The checkpoints among `names` by curve and step, steps ascending; curves in order of appearance."""
    curves: dict[Curve, dict[int, str]] = {}
    for name in names:
        placed = curve_and_step(name)
        if placed:
            curves.setdefault(placed[0], {})[placed[1]] = name
    return {curve: dict(sorted(steps.items())) for curve, steps in curves.items()}
