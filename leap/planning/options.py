"""The knobs of a plan for a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob
from leap.models.names import checked_name
from leap.planners.options import DrawingOptions
from leap.vlabench.prompts import LANGUAGES, STYLES

WORDINGS = ("auto", "steps", "skills", "verbatim")


@dataclass(frozen=True)
class PlanningOptions(DrawingOptions):
    """Who is asked for plans, and in which words."""

    checkpoint: list[Path] = knob(
        [], "folder of the model, full or adapter; none means the base model", flags=("--model_path",), repeated=True
    )
    wording: str = knob(
        "auto",
        "ask for numbered steps, for a list of skills over tagged objects, or in the very words of the instruction; "
        "auto takes skills where there are tags, else steps",
        choices=WORDINGS,
    )
    prompt: str = knob("auto", "wording of skills: VLABench's own, ours, or its own if it is there", choices=STYLES)
    language: str = knob("en", "language of the wording of skills", choices=LANGUAGES)


@dataclass(frozen=True)
class PlanOptions(PlanningOptions):
    """And what a plan is for, how many are drawn, and where they go. UserError for several of greedy decoding."""

    instruction: str = knob("", "what the robot should do", positional=True)
    image: list[Path] = knob([], "a picture; give the flag once a picture", repeated=True)
    tagged_image: Path | None = knob(None, "the picture again, with a number on every object")
    tag: list[str] = knob(
        [], "number an object of the picture at a pixel, as X,Y or NUMBER=X,Y; once an object", repeated=True
    )

    num_samples: int = knob(1, "plans drawn to each request, with --temperature", check="> 0")
    format: str = knob("text", "how plans are printed", choices=("text", "json"), free=True)
    drawing: Path | None = knob(None, "draw picture, tags and plan: a PNG file, a folder with --rows", free=True)

    rows: Path | None = knob(None, "ask for many: a JSONL of instructions with images, or of planning rows")
    image_root: Path | None = knob(None, "folder that the rows' image paths are below (default: looked for)")
    output_dir: Path = knob(Path("eva_results/plans"), "folder of the plans for --rows")
    suffix: str = knob("", "appended to the model's name in it")
    retry_failed: bool = knob(False, "with --rows: ask again where the machine failed before")
    overwrite: bool = knob(False, "with --rows: replace plans that were made under other settings")

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.suffix, "--suffix")
        if self.num_samples > 1 and not self.temperature:
            raise UserError("--num_samples draws the same plan each time without --temperature; give both")

    @property
    def name_suffix(self) -> str:
        """What is added to a model's name in --output_dir, as an evaluation adds it."""
        return (f"_T{self.temperature:g}" if self.temperature else "") + (f"_{self.suffix}" if self.suffix else "")
