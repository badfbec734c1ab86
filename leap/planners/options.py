"""The knobs of who answers and how, which every script shares that asks a planner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from configs.errors import UserError
from leap.cli import knob
from leap.models.loading import QUANTISATIONS
from leap.planners import PLANNERS


@dataclass(frozen=True)
class AnsweringOptions:
    """What a planner is opened with. UserError for half a range of image tokens."""

    base_model: Path | None = knob(None, "the base model, also an adapter's (default: models/Qwen3-VL-2B-Instruct)")
    planner: str = knob("huggingface", "who answers", choices=tuple(PLANNERS))

    batch_size: int | None = knob(
        None, "prompts answered at once (default, or auto: what the device's memory is worth)", check="> 0", free=True
    )
    max_new_tokens: int = knob(512, "longest answer in tokens", check="> 0")
    image_tokens_min: int | None = knob(None, "fewest visual tokens a picture (default: the processor's)", check="> 0")
    image_tokens_max: int | None = knob(None, "most visual tokens a picture (default: the processor's)", check="> 0")
    load_in: str | None = knob(
        None, "hold the language model in 8 or 4 bits (bitsandbytes, on a GPU)", choices=QUANTISATIONS
    )
    stop_at_plan: bool = knob(
        True, "stop an answer where it has finished a plan, which is then the one that counts (never with --with-cot)"
    )
    reuse_prefix: bool = knob(True, "compute the text that all prompts begin with once", free=True)
    workers: int = knob(2, "threads that decode pictures ahead", check="> 0", free=True)
    device: str = knob("auto", "auto, cpu or cuda:0", free=True)

    base_url: str = knob("", "address of an OpenAI-compatible endpoint (default: OPENAI_BASE_URL)")
    model: str = knob("", "name under which the endpoint serves the model")
    endpoint_id: str = knob("", "names what the endpoint serves in the results' settings, in place of its address")
    concurrency: int = knob(8, "requests in flight at the endpoint", check="> 0", free=True)
    request_timeout_s: float = knob(300.0, "longest wait for an answer in seconds", check="> 0", free=True)
    max_retries: int = knob(6, "tries of a request after the first", check=">= 0", free=True)

    # Not fields: constants here, knobs only in those scripts whose options make them fields.
    planner_modules: ClassVar[Mapping[str, str]] = PLANNERS
    all_checkpoints = False
    temperature = 0.0
    top_p = 1.0
    backoff_s = 1.0

    def __post_init__(self) -> None:
        fewest, most = self.image_tokens_min, self.image_tokens_max
        if (fewest, most) != (None, None) and (fewest is None or most is None or fewest > most):
            raise UserError("give --image_tokens_min and --image_tokens_max together, the first not above the second")

    @property
    def stops_at_plan(self) -> bool:
        return self.stop_at_plan


@dataclass(frozen=True)
class DrawingOptions(AnsweringOptions):
    """Of answers that may be drawn. UserError for a probability above 1, or one that greedy decoding would ignore."""

    temperature: float = knob(0.0, "logits are divided by this before a token is drawn; 0 is greedy", check=">= 0")
    top_p: float = knob(1.0, "draw among the fewest likeliest tokens that make up this probability", check="> 0")
    seed: int = knob(42, "decides what is drawn", check=">= 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_p > 1:
            raise UserError(f"--top_p is a probability, at most 1, found {self.top_p:g}")
        if not self.temperature and self.top_p < 1:
            raise UserError(f"--top_p {self.top_p:g} draws nothing without --temperature, such as 0.7; give both")
