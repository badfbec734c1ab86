"""The knobs of asking models for the plans of a blind review."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.cli import knob
from leap.planners import PLANNERS
from leap.planners.options import AnsweringOptions


@dataclass(frozen=True)
class OutputOptions(AnsweringOptions):
    planner: str = knob("huggingface", "who answers", choices=tuple(name for name in PLANNERS if name != "constant"))
    max_new_tokens: int = knob(256, "longest plan in tokens", check="> 0")
    stop_at_plan: bool = knob(False, "stop an answer behind a finished JSON plan")

    data_file: Path = knob(Path("data/blind_10.jsonl"), "planning rows to ask")
    image_root: Path | None = knob(None, "folder that the rows' image paths are below (default: looked for)")
    checkpoint: list[Path] = knob(
        [], "checkpoint folders to ask besides the base, in place of those found", flags=("--model_path",)
    )
    checkpoints_dir: Path = knob(Path("output"), "folder whose complete checkpoints are asked")
    max_checkpoints: int | None = knob(None, "only the first so many of these by step", check=">= 0")
    max_models: int = knob(1, "models in memory at once; they answer batch by batch in turn", check="> 0", free=True)
    save_dir: Path = knob(Path("eva_results/blind_10"), "folder of the review")

    temperature: float = knob(0.0, "logits are divided by this before a token is drawn; 0 is greedy", check=">= 0")
    top_p: float = knob(1.0, "draw among the fewest likeliest tokens that make up this probability", check="> 0")
    seed: int = knob(42, "decides what is drawn", check=">= 0")

    suffix: str = knob("", "appended to the models' names")
    retry_failed: bool = knob(False, "ask again where the machine or a model failed before")
    overwrite: bool = knob(False, "replace outputs of other settings or other rows")


def drawing(options: OutputOptions) -> dict[str, Any] | None:
    """How tokens are drawn, or None for greedy decoding; UserError for a probability above 1, or one that would be
    ignored."""
    if options.top_p > 1:
        raise UserError(f"--top_p is a probability, at most 1, found {options.top_p:g}")
    if not options.temperature and options.top_p < 1:
        raise UserError(f"--top_p {options.top_p:g} draws nothing without --temperature, such as 0.7; give both")
    if not options.temperature:
        return None
    return {"temperature": options.temperature, "top_p": options.top_p, "seed": options.seed}
