"""The knobs of an evaluation, and what of them shows in a model's name in results."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob
from leap.models.names import checked_name
from leap.planners import PLANNERS
from leap.planners.options import DrawingOptions
from leap.runs.jobs import JobKnobs
from leap.vlabench.prompts import LANGUAGES, SHOT_FORMATS, STYLES

# The controls that never look, which only this benchmark has: they need the ground truth.
CONTROLS = {"constant": "leap.vlabench.constant", "everything": "leap.vlabench.everything"}
BLANK = "_blank"  # what `name_suffix` adds to the name of a model that is shown blank pictures
EVALUATION_PLANNERS = ChainMap(CONTROLS, PLANNERS)


@dataclass(frozen=True)
class EvaluationOptions(JobKnobs, DrawingOptions):
    """UserError for both controls of the pictures at once, or several answers of greedy decoding."""

    planner: str = knob("huggingface", "who answers", choices=tuple(EVALUATION_PLANNERS))

    checkpoint: list[Path] = knob(
        [],
        "checkpoints to evaluate; none means the base model, a run's folder its best (else last) checkpoint",
    )
    all_checkpoints: bool = knob(False, "evaluate the base and every complete checkpoint in --checkpoints_dir")
    checkpoints_dir: Path = knob(Path("output"), "folder whose checkpoints --all_checkpoints evaluates")
    max_checkpoints: int | None = knob(None, "only the newest so many of these, adapters last", check=">= 0")
    skip_baseline: bool = knob(False, "--all_checkpoints leaves the base out")
    blank_images: bool = knob(False, "control: every picture becomes a grey one of its size")
    shuffle_images: bool = knob(False, "control: every example shows the pictures of another one of its dimension")

    dimension: list[str] = knob(["all"], "dimensions to evaluate, or all")
    data_path: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the benchmark")
    tasks: list[str] = knob([], "only these tasks")
    max_tasks: int | None = knob(None, "at most so many tasks a dimension", check="> 0")
    num_episodes: int | None = knob(None, "at most so many examples a task", check="> 0")

    prompt: str = knob("auto", "wording: VLABench's own, ours, or its own if the submodule is there", choices=STYLES)
    language: str = knob("en", "language of the prompt", choices=LANGUAGES)
    few_shot_num: int = knob(0, "solved examples in the prompt", check=">= 0")
    shots_from: Path | None = knob(None, "benchmark folder to take the shots from (default: the benchmark itself)")
    shot_format: str = knob(
        "auto", "how shots show their answer: as VLABench does, or fenced as it wants it", choices=SHOT_FORMATS
    )
    with_cot: bool = knob(False, "ask for a chain of thought before the plan")
    num_samples: int = knob(
        1, "answers drawn to each example: scores are their means, with pass@k and the majority's beside", check="> 0"
    )
    seed: int = knob(42, "seed of the choice of shots, of shuffled pictures and of what is drawn", check=">= 0")

    output_dir: Path = knob(Path("eva_results"), "folder of the results", flags=("--results",))
    report_to: list[str] = knob([], "where the table and these settings go besides", choices=("tensorboard", "wandb"))
    suffix: str = knob("", "appended to the model's name in results")
    list_jobs: Path | None = knob(
        None, "write the commands of all jobs, a model and a dimension each, to this file, a line each, and run none"
    )
    retry_failed: bool = knob(False, "ask again where the machine failed before")
    overwrite: bool = knob(False, "replace earlier results of these models that were made under other settings")

    planner_modules = EVALUATION_PLANNERS

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.suffix, "--suffix")
        if self.blank_images and self.shuffle_images:
            raise UserError("give --blank-images or --shuffle-images, not both")
        if self.num_samples > 1 and not self.temperature:
            raise UserError("--num_samples draws the same answer each time without --temperature; give both")
        if self.temperature and self.planner in CONTROLS:
            raise UserError(f"--planner {self.planner} answers by a rule and draws nothing; leave out --temperature")

    @property
    def pictures(self) -> str:
        """Which pictures prompts show: own, blank or shuffled."""
        return "blank" if self.blank_images else "shuffled" if self.shuffle_images else "own"

    @property
    def drawing(self) -> dict[str, int] | None:
        """What besides the planner's own settings decides what is drawn; None for greedy decoding."""
        return {"seed": self.seed} if self.temperature else None

    @property
    def stops_at_plan(self) -> bool:
        """A chain of thought may hold a plan before the one that counts."""
        return self.stop_at_plan and not self.with_cot


def name_suffix(options: EvaluationOptions) -> str:
    """What settings other than the usual ones add to a model's name in results."""
    return (
        (f"_{options.few_shot_num}shot" if options.few_shot_num else "")
        + ("_CoT" if options.with_cot else "")
        + (f"_{options.language}" if options.language != "en" else "")
        + ("" if options.pictures == "own" else f"_{options.pictures}")
        + (f"_T{options.temperature:g}" if options.temperature else "")
        + (f"_{options.suffix}" if options.suffix else "")
    )
