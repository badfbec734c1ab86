"""Model cards: the README.md that says what a checkpoint is, how to use it and what is not known about it.

A card states what lies in the files and no more: a score is shown only if these very weights earned it, a licence only
if the base model's own card states one, and paths of this machine are cut to what means something elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from configs.config import DIMENSIONS, WorkspaceConfig
from configs.errors import UserError
from leap.files import read_json, write_text
from leap.models.checkpoints import CARD, MANIFEST, Manifest, read_manifest, weights_sha256
from leap.models.names import BASE_NAME, result_name
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS
from leap.rows.chat import planning_prompt
from leap.rows.data_sets import contents_sha256
from leap.rows.records import iter_rows
from leap.statistics import Estimate
from leap.text import markdown_table
from leap.vlabench.folder import Summary, models_in, summaries_of
from leap.vlabench.options import BLANK, CONTROLS
from leap.vlabench.tables import overalls_of, results_table

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# The one base that this project's own command downloads, by the name of its folder; any other is named by the user.
_HUB_IDS = {"Qwen3-VL-2B-Instruct": "Qwen/Qwen3-VL-2B-Instruct"}
_CURVE_POINTS = 12
# What a run logs along its way, and what the card calls it.
_LOSS_CURVES = {"loss": "training loss", "eval_loss": "validation loss"}
_REWARD_CURVES = {
    "reward": "reward",
    "eval_reward": "held-out reward",
    "eval_grounded_plan_success": "held-out plan success (of 100)",
}
_TOLD_ELSEWHERE = ("model_name_or_path", "train_file", "val_file", "output_dir")

_FULL_CODE = """\
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

checkpoint = "{checkpoint}"  # or the folder it lies in
processor = AutoProcessor.from_pretrained(checkpoint)  # brings the picture budget of training
model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="auto").eval()
"""
_ADAPTER_CODE = """\
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

checkpoint = "{checkpoint}"  # or the folder it lies in
processor = AutoProcessor.from_pretrained(checkpoint)  # not the base's: this one brings the picture budget of training
base = AutoModelForImageTextToText.from_pretrained("{base}", dtype="auto")  # or the folder it lies in
model = PeftModel.from_pretrained(base, checkpoint).eval()
"""
_ANSWER_CODE = """
picture = Image.new("RGB", (640, 480))  # yours: Image.open("scene.png").convert("RGB")
content = [
{items}
]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    tokenize=True,
    add_generation_prompt=True,
    return_dict=True,
    return_tensors="pt",
)
output = model.generate(**inputs, max_new_tokens=512, do_sample=False)
print(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def portable(value: Any, root: Path) -> Any:
    """A JSON value without paths of this machine: one inside the workspace `root` becomes relative to it, of another
    its last part stays."""
    if isinstance(value, dict):
        return {key: portable(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item, root) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        path = Path(value)
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return value


def base_name(manifest: Manifest, base_id: str | None = None) -> str:
    """How others find the base model: its id on the Hub if that is given or known, else the name of its folder."""
    name = Path(manifest.base_model).name
    return base_id or _HUB_IDS.get(name, name)


def write_model_card(folder: Path, workspace: WorkspaceConfig, **options: Any) -> Path:
    """Write `model_card(folder, workspace, **options)` to the checkpoint's README.md in one step."""
    write_text(folder / CARD, model_card(folder, workspace, **options))
    return folder / CARD


def model_card(
    folder: Path,
    workspace: WorkspaceConfig,
    repo_id: str | None = None,
    base_id: str | None = None,
    datasets: Sequence[str] = (),
) -> str:
    """The card of a checkpoint, as Markdown with the Hub's YAML front matter.

    `repo_id` is where it will be published (the loss curve then lies in the folder itself, else beside it); `base_id`
    and `datasets` are ids on the Hub of the base model and of the training data. UserError without a LEAP manifest.
    """
    from huggingface_hub import ModelCardData

    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{folder} has no {MANIFEST}, so nothing is known about it; LEAP's trainer writes one")
    base, adapter = base_name(manifest, base_id), manifest.kind == "adapter"
    result = result_name(folder, workspace.output)
    summaries = _summaries(folder, result, manifest, workspace.results)
    controls = _controls(result, manifest, workspace.results) if summaries else []
    title = repo_id.rpartition("/")[2] if repo_id else result
    front = ModelCardData(
        model_name=title,
        eval_results=_model_index(summaries, result, workspace.results) or None,
        # A local folder's name is no id: the Hub would link a model that somebody else may own.
        base_model=base if "/" in base else None,
        base_model_relation=("adapter" if adapter else "finetune") if "/" in base else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="image-text-to-text",
        language=["en"],
        tags=["robotics", "task-planning", "vlabench", "leap", *(["lora"] if adapter else [])],
        datasets=list(datasets) or None,
        **_licence(Path(manifest.base_model)),
    )
    parts = [
        f"# {title}",
        "A robot task planner: it looks at a scene, reads a task and answers with the steps. "
        f"{'A LoRA adapter for' if adapter else 'Fine-tuned from'} {_linked(base)} with LEAP (Logical Embodied Action "
        f"Planning), {manifest.steps:,} optimiser steps over {manifest.tokens_seen:,} tokens without padding.",
        "## Use\n\n" + _usage(manifest, base, repo_id),
        "## Base and data\n\n" + _origins(manifest, base),
        "## Training\n\n" + _training(folder, manifest, workspace.root, published=repo_id is not None),
        "## Scores\n\n" + _scores(summaries, result, controls, workspace.results),
        "## Limits\n\n" + _limits(manifest, summaries, result + BLANK in controls),
        "## How it was made\n\n" + _provenance(manifest),
    ]
    return card_text(front.to_yaml(), parts)


def card_text(front: str, parts: Sequence[str]) -> str:
    """A card of the Hub: YAML front matter, then Markdown parts."""
    return f"---\n{front}\n---\n\n" + "\n\n".join(parts) + "\n"


def _licence(base: Path) -> dict[str, Any]:
    """What the base model's own card states about its licence; nothing if it has none or none can be read there."""
    from huggingface_hub import ModelCard

    if not (base / CARD).is_file():
        return {}
    try:
        stated = ModelCard((base / CARD).read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    except (ValueError, yaml.YAMLError):
        return {}
    stated_fields = {key: stated.get(key) for key in ("license", "license_name", "license_link")}
    return {key: text for key, text in stated_fields.items() if text}


def _usage(manifest: Manifest, base: str, repo_id: str | None) -> str:
    """Code that loads the model and answers one prompt, worded as a training row is."""
    template = _ADAPTER_CODE if manifest.kind == "adapter" else _FULL_CODE
    prompt = _first_prompt(manifest)
    note = "The prompt is that of the first training row: keep to the wording of the rows."
    if prompt is None:
        prompt = [{"type": "image"}, {"type": "text", "text": planning_prompt("Put the cup on the plate")}]
        note = "The training rows were not at hand when this card was written: ask in the words of theirs."
    items = [
        '{"type": "image", "image": picture}'
        if item["type"] == "image"
        else f'{{"type": "text", "text": {json.dumps(item["text"], ensure_ascii=False)}}}'
        for item in prompt
    ]
    code = (template + _ANSWER_CODE).format(
        checkpoint=repo_id or ".", base=base, items="\n".join(f"    {item}," for item in items)
    )
    pixels = manifest.pixel_budget
    if "shortest_edge" not in pixels:
        return f"````python\n{code}````\n\nThe processor saved here sizes pictures as in training. {note}"
    tokens = [manifest.recipe.get(f"image_tokens_{end}") for end in ("min", "max")]
    return (
        f"````python\n{code}````\n\n"
        f"It was trained on pictures resized to between {pixels['shortest_edge']:,} and {pixels['longest_edge']:,} "
        f"pixels ({tokens[0]} to {tokens[1]} visual tokens); the processor saved here does the same, the base model's "
        f"own may not. {note}"
    )


def _first_prompt(manifest: Manifest) -> list[dict] | None:
    """The user turn of the first training row, if the data are still those of the run and it is a single turn."""
    train_file, val_file = manifest.recipe.get("train_file"), manifest.recipe.get("val_file")
    if not isinstance(train_file, str) or not train_file.endswith(".jsonl") or manifest.recipe.get("streaming"):
        return None  # rows that were streamed are not read whole for a card
    files = [Path(name) for name in (train_file, val_file) if name]
    if not all(path.is_file() for path in files):
        return None
    if contents_sha256(files) != manifest.data_sha256:
        return None
    turns = next(iter_rows(files[0])).messages
    single = len(turns) == 1 and all(item["type"] in ("image", "text") for item in turns[0]["content"])
    return turns[0]["content"] if single else None


def _file_names(names: str | list[str]) -> str:
    words = [names] if isinstance(names, str) else names
    return ", ".join(f"`{name if name.startswith('hf://') else Path(name).name}`" for name in words)


def _origins(manifest: Manifest, base: str) -> str:
    names = {"trained on": manifest.recipe.get("train_file"), "validated on": manifest.recipe.get("val_file")}
    hashed = "the contents of these files"
    if manifest.recipe.get("streaming"):
        hashed = "the names and sizes of the files that were streamed, or their commit on the Hub"
    start = ""
    if manifest.parent:
        weights = manifest.parent_weights_sha256
        start = f"- trained by rewards from `{Path(manifest.parent).name}`, weights SHA-256 `{weights}`"
    lines = [
        f"- base model: {_linked(base)}, weights SHA-256 `{manifest.base_weights_sha256}` (over the names and contents "
        "of its safetensors files)",
        *([start] if start else []),
        *(f"- {what}: {_file_names(name)}" for what, name in names.items() if name),
        f"- data SHA-256: `{manifest.data_sha256}` (over {hashed})",
    ]
    return "\n".join(lines)


def _linked(base: str) -> str:
    return f"[{base}](https://huggingface.co/{base})" if "/" in base else f"`{base}`"


def _training(folder: Path, manifest: Manifest, root: Path, published: bool) -> str:
    rows = [
        [f"`{key}`", ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for key, value in portable(manifest.recipe, root).items()
        if key not in _TOLD_ELSEWHERE and value not in (None, [])
    ]
    parts = [markdown_table([["knob", "value"], *rows])]
    columns = _REWARD_CURVES if manifest.parent else _LOSS_CURVES
    if curve := training_curve(folder):
        what = "reward and held-out success" if manifest.parent else "training and validation loss"
        parts.append(f"![{what}]({'' if published else '../'}{curve.name})")
    if points := _curve_points(folder, columns):
        rows = [[f"{step:,}", *(f"{p[k]:.4f}" if k in p else "-" for k in columns)] for step, p in points]
        parts.append(markdown_table([["step", *columns.values()], *rows]))
    if "loss" in manifest.validation:
        loss, step = manifest.validation["loss"], manifest.validation["step"]
        parts.append(f"Validation loss {loss:.4f} nats a supervised token at step {step:,}.")
    return "\n\n".join(parts)


def training_curve(folder: Path) -> Path | None:
    """The picture of the run's losses, or rewards, which the trainer leaves beside its checkpoints."""
    paths = (folder.parent / name for name in ("reward.png", "loss.png"))
    return next((path for path in paths if path.is_file()), None)


def _curve_points(folder: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, float]]]:
    """(step, what was logged there) from the trainer's history, thinned evenly; the last step stays."""
    path = folder / "trainer_state.json"
    history = read_json(path).get("log_history", []) if path.is_file() else []
    steps: dict[int, dict[str, float]] = {}
    for entry in history:
        if not entry.keys().isdisjoint(columns):
            steps.setdefault(entry["step"], {}).update(entry)
    stride = -(-len(steps) // _CURVE_POINTS) or 1
    return sorted(steps.items())[::-stride][::-1]


def _summaries(folder: Path, result: str, manifest: Manifest, results: Path) -> dict[str, Summary]:
    """Evaluation summaries by dimension that carry this checkpoint's name and were answered by its very weights."""
    summaries = summaries_of(results, result)
    if not summaries:  # hashing the weights takes seconds
        return {}
    base = manifest.base_weights_sha256 if manifest.kind == "adapter" else None
    weights = (weights_sha256(folder), base)
    return {dimension: summary for dimension, summary in summaries.items() if _weights_of(summary) == weights}


def _weights_of(summary: Summary) -> tuple[str | None, str | None]:
    planner = summary.settings["planner"]
    return planner.get("weights_sha256"), planner.get("base_weights_sha256")


def _controls(result: str, manifest: Manifest, results: Path) -> list[str]:
    """Names in results of the untouched base, this model with blank images and the constant plans, as far as run."""
    base = {_weights_of(summary)[0] for summary in summaries_of(results, BASE_NAME).values()}
    controls = {result + BLANK, *CONTROLS} | ({BASE_NAME} if base == {manifest.base_weights_sha256} else set())
    return [model for model in models_in(results) if model in controls]


def _means(summaries: dict[str, Summary], result: str, results: Path) -> dict[str, dict[str, Mapping[str, Estimate]]]:
    """{dimension: {scorer: estimates by metric}}, out of the scores, as everywhere; a folder without them has its
    summary alone."""
    overalls = overalls_of(results, [result])[result]
    return {
        dimension: {
            scorer: (means.dimensions if means else {dimension: summary.scores.get(scorer, {})}).get(dimension, {})
            for scorer, means in overalls.items()
        }
        for dimension, summary in summaries.items()
    }


def _model_index(summaries: dict[str, Summary], result: str, results: Path) -> list[EvalResult]:
    """The total scores as the Hub's `model-index` holds them; it has no field for intervals, which stand in the name
    of each metric and in its `args`."""
    from huggingface_hub import EvalResult

    index = []
    for dimension, by_scorer in _means(summaries, result, results).items():
        counts = summaries[dimension].examples
        for scorer, estimates in by_scorer.items():
            if (total := estimates.get("total_score")) is None:
                continue
            label = MEASURES[f"{scorer}.total_score"].label
            ends = None if total.low is None or total.high is None else {"low": total.low, "high": total.high}
            index.append(
                EvalResult(
                    task_type="image-text-to-text",
                    task_name="robot task planning",
                    # No id of the Hub: which benchmark of this format it was is not known.
                    dataset_type="vlabench-vlm",
                    dataset_name=f"{dimension}, in the format of VLABench's VLM track",
                    dataset_config=dimension,
                    dataset_args={"answered": counts.answered, "in_benchmark": counts.in_benchmark},
                    metric_type=f"{scorer}_total_score",
                    metric_name=f"{label}, 95 % {ends['low']:.1f} to {ends['high']:.1f}" if ends else label,
                    metric_value=round(total.mean, 4),
                    metric_args={end: round(value, 4) for end, value in ends.items()} if ends else None,
                )
            )
    return index


def _scores(summaries: dict[str, Summary], result: str, controls: list[str], results: Path) -> str:
    if not summaries:
        return "Not measured on a benchmark yet."
    rows = []
    for dimension, by_scorer in _means(summaries, result, results).items():
        counts = summaries[dimension].examples
        cells = [_total(estimates) for estimates in by_scorer.values()]
        rows.append([dimension, *cells, f"{counts.answered} of {counts.in_benchmark}"])
    means = list(overalls_of(results, [result])[result].values())
    if len(summaries) == len(DIMENSIONS) and all(each and each.complete for each in means):
        cells = [_total(each.macro) for each in means if each]
        rows.append(["mean of dimensions", *cells, str(sum(s.examples.answered for s in summaries.values()))])
    titles = [MEASURES[f"{scorer}.total_score"].label for scorer in METRICS]
    parts = [
        markdown_table([["dimension", *titles, "examples"], *rows]),
        "Means with 95 % intervals over examples; one example a task gives none. `official` is VLABench's scorer, "
        "whose total tops out at 80; `grounded` reads an answer by what it means. VLABench's VLM track has 500 to 900 "
        "examples a dimension: fewer are a part of it, or another benchmark in its format.",
    ]
    if controls:
        parts.append("Beside its controls:\n\n" + results_table(results, [result, *controls]))
    return "\n\n".join(parts)


def _limits(manifest: Manifest, summaries: dict[str, Summary], blank: bool) -> str:
    missing = [dimension for dimension in DIMENSIONS if dimension not in summaries]
    limits = [
        "No plan was executed on a robot or in a simulator, and none is checked to be safe or possible.",
        f"No benchmark score on: {', '.join(missing)}." if missing else "",
        "Not measured with blank images: how much of a score needs the picture is not known." if not blank else "",
        "No validation loss was measured." if not manifest.validation else "",
        "One run with one seed: no interval says how another run would differ.",
    ]
    return "\n".join(f"- {limit}" for limit in limits if limit)


def _provenance(manifest: Manifest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.library_versions.items())
    revision = f"`{manifest.code_revision}`" if manifest.code_revision else "not recorded"
    return (
        f"- LEAP revision: {revision}\n- libraries: {versions}\n"
        f"- chat template SHA-256: `{manifest.chat_template_sha256}`"
    )


def _total(means: Mapping[str, Estimate] | None) -> str:
    return means["total_score"].text() if means else "-"
