"""The knobs of an evaluation, and what of them shows in a model's name in results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob
from leap.models import QUANTISATIONS
from leap.planners import PLANNERS
from leap.vlabench.prompts import LANGUAGES, SHOT_FORMATS, STYLES


@dataclass(frozen=True)
class EvaluationOptions:
    checkpoint: list[Path] = knob(
        [], "checkpoint folders to evaluate; none means the base model", flags=("--model_path",)
    )
    all_checkpoints: bool = knob(
        False, "evaluate the base and every complete checkpoint in output/", flags=("--batch_mode",)
    )
    base_model: Path | None = knob(
        None, "the base model, also an adapter's (default: models/Qwen3-VL-2B-Instruct)", flags=("--baseline_model",)
    )
    planner: str = knob("huggingface", "who answers", choices=tuple(PLANNERS))
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
    seed: int = knob(42, "seed of the choice of shots and of shuffled pictures", check=">= 0")

    batch_size: int = knob(8, "prompts answered at once", check="> 0", free=True)
    max_new_tokens: int = knob(512, "longest answer in tokens", check="> 0")
    image_tokens_min: int | None = knob(None, "fewest visual tokens a picture (default: the processor's)", check="> 0")
    image_tokens_max: int | None = knob(None, "most visual tokens a picture (default: the processor's)", check="> 0")
    load_in: str | None = knob(
        None, "hold the language model in 8 or 4 bits (bitsandbytes, on a GPU)", choices=QUANTISATIONS
    )
    stop_at_plan: bool = knob(
        True, "stop an answer where it has finished a plan, behind which no score can change (never with --with-cot)"
    )
    reuse_prefix: bool = knob(True, "compute the text that all prompts begin with once", free=True)
    workers: int = knob(2, "threads that decode pictures ahead", check="> 0", free=True)
    device: str = knob("auto", "auto, cpu or cuda:0", free=True)
    output_dir: Path = knob(Path("eva_results"), "folder of the results")
    suffix: str = knob("", "appended to the model's name in results")
    retry_failed: bool = knob(False, "ask again where the machine failed before")
    overwrite: bool = knob(False, "replace earlier results of these models that were made under other settings")

    base_url: str = knob("", "address of an OpenAI-compatible endpoint (default: OPENAI_BASE_URL)")
    model: str = knob("", "name under which the endpoint serves the model")
    endpoint_id: str = knob("", "names what the endpoint serves in the results' settings, in place of its address")
    concurrency: int = knob(8, "requests in flight at the endpoint", check="> 0", free=True)
    request_timeout_s: float = knob(300.0, "longest wait for an answer in seconds", check="> 0", free=True)
    max_retries: int = knob(6, "tries of a request after the first", check=">= 0", free=True)
    trust_remote_code: bool = knob(False, "run the Python files in the model's folder (the chat planners need it)")


def name_suffix(options: EvaluationOptions) -> str:
    """What settings other than the usual ones add to a model's name in results."""
    return (
        (f"_{options.few_shot_num}shot" if options.few_shot_num else "")
        + ("_CoT" if options.with_cot else "")
        + (f"_{options.language}" if options.language != "en" else "")
        + ("" if pictures(options) == "own" else f"_{pictures(options)}")
        + (f"_{options.suffix}" if options.suffix else "")
    )


def pictures(options: EvaluationOptions) -> str:
    """Which pictures prompts show: own, blank or shuffled. UserError for both controls at once."""
    if options.blank_images and options.shuffle_images:
        raise UserError("give --blank-images or --shuffle-images, not both")
    return "blank" if options.blank_images else "shuffled" if options.shuffle_images else "own"


def image_tokens(options: EvaluationOptions) -> tuple[int, int] | None:
    """The fewest and most visual tokens a picture, or None for the processor's own; UserError for half a range."""
    fewest, most = options.image_tokens_min, options.image_tokens_max
    if fewest is None and most is None:
        return None
    if fewest is None or most is None or fewest > most:
        raise UserError("give --image_tokens_min and --image_tokens_max together, the first not above the second")
    return fewest, most
