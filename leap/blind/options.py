"""The knobs of asking models for the plans of a blind review."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leap.cli import knob
from leap.models.names import checked_name
from leap.planners.options import DrawingOptions


@dataclass(frozen=True)
class OutputOptions(DrawingOptions):
    max_new_tokens: int = knob(256, "longest plan in tokens", check="> 0")
    stop_at_plan: bool = knob(False, "stop an answer behind a finished JSON plan")

    data_file: Path = knob(Path("data/blind_10.jsonl"), "planning rows to ask")
    image_root: Path | None = knob(None, "folder that the rows' image paths are below (default: looked for)")
    checkpoint: list[Path] = knob([], "checkpoint folders to ask besides the base, in place of those found")
    checkpoints_dir: Path = knob(Path("output"), "folder whose complete checkpoints are asked")
    max_checkpoints: int | None = knob(None, "only the newest so many of these, adapters last", check=">= 0")
    max_models: int = knob(1, "models in memory at once; they answer batch by batch in turn", check="> 0", free=True)
    save_dir: Path = knob(Path("eva_results/blind_10"), "folder of the review")

    suffix: str = knob("", "appended to the models' names")
    retry_failed: bool = knob(False, "ask again where the machine or a model failed before")
    overwrite: bool = knob(False, "replace outputs of other settings or other rows")

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.suffix, "--suffix")

    @property
    def drawing(self) -> dict[str, Any] | None:
        """How tokens are drawn, or None for greedy decoding."""
        return {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed} if self.temperature else None
