"""A review's folder as its scripts leave it: outputs of several models over drawn rows, judgements, a summary."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from leap.blind.outputs import OUTPUTS_FILE, Item, Output, items_of, read_outputs
from leap.demo.tabletop import KINDS, draw, random_scene
from leap.files import write_json, write_text
from leap.judge.judged import judged_hash
from leap.judge.judgements import (
    CONTROLS,
    FINAL,
    INSTRUCTIONS_CONTROL,
    JUDGEMENTS_FILE,
    JUDGES_FOLDER,
    PAIRWISE,
    PEOPLE,
    REFERENCE_JUDGE,
    RUBRIC,
    SCALES,
    Judgement,
)

BASE = "baseline"
MODELS = (BASE, "checkpoint-200", "checkpoint-400", "lora_standard-checkpoint-400", "constant")
LLM_JUDGE = "gpt-4o-mini"
HOSTILE = '</script><img src=x onerror="window.hacked = 1"><!-- <script>window.hacked = 1</script> \'\\u0000'

TASKS = (
    "Fold the cloth on the table",
    "Pour water from the kettle into the cup and bring the cup to the guest at the other end of the long table",
    "Put the apple on the plate",
    "Stamp the seal on the document",
    "Clear the countertop waste",
    "Pack the badminton shuttlecocks into the tube",
    "Hang the mug on the rack",
    "Open the drawer and store the items",
    "Iron the shirt",
    "Supermarket: put the fruit into the bag",
)
MISSING_PICTURE_ROW, ALIKE_ROW, FAILED_ROW, HOSTILE_ROW, EMPTY_ROW = 3, 2, 4, 5, 6

_VERBS = ("Pick up", "Move to", "Grasp", "Place", "Lift", "Push", "Align", "Release", "Wipe", "Hold")
_ARMS = ("with the left arm", "with the right arm", "with both arms", "gently", "on the table", "beside the plate")


@dataclass(frozen=True)
class Review:
    """The folder of a review, and where its pictures are."""

    folder: Path
    data: Path

    @property
    def outputs(self) -> Path:
        return self.folder / OUTPUTS_FILE

    def items(self) -> list[Item]:
        return items_of(read_outputs(self.outputs), self.outputs)

    def keep_outputs(self, keep) -> None:
        """Leave in outputs.jsonl only the outputs that `keep` is true of."""
        write_outputs(self.folder, [output for output in read_outputs(self.outputs) if keep(output)])


def write_outputs(folder: Path, outputs: list[Output]) -> None:
    lines = "".join(json.dumps(output.record()) + "\n" for output in outputs)
    write_text(folder / OUTPUTS_FILE, lines)


def a_plan(rng: random.Random, steps: int) -> str:
    kinds = list(KINDS)
    return " ".join(
        f"{n}) {rng.choice(_VERBS)} the {rng.choice(kinds)} {rng.choice(_ARMS)}." for n in range(1, steps + 1)
    )


def write_review(root: Path, rows: int = 10, models: tuple[str, ...] = MODELS, judged: bool = True) -> Review:
    """A review of `rows` rows (ten tasks at most) in `root`/eva_results/blind_10, its pictures in `root`/data.

    In MISSING_PICTURE_ROW the picture is not there, in ALIKE_ROW the first two models write the same, in FAILED_ROW the
    machine failed on the last, in HOSTILE_ROW the second writes markup, in EMPTY_ROW the last writes nothing.
    """
    review = Review(root / "eva_results" / "blind_10", root / "data")
    (review.data / "images").mkdir(parents=True)
    rng = random.Random(7)
    outputs = []
    for sample, task in enumerate(TASKS[:rows]):
        images = [f"images/{300 + sample}-{6000 + sample}.png"]
        if sample == 1:
            images.append("images/second-view.png")
        for image in images:
            if sample != MISSING_PICTURE_ROW:
                _draw(review.data / image, rng, 64 if sample % 2 else 640)
        reference = a_plan(rng, rng.randint(3, 7))
        same = a_plan(rng, 4)
        for model in models:
            text, failure = a_plan(rng, rng.randint(2, 9)), None
            if sample == ALIKE_ROW and model in models[:2]:
                text = same
            if sample == 0 and model == models[-1]:
                text = a_plan(rng, 90)
            if sample == HOSTILE_ROW and model == models[1]:
                text = HOSTILE
            if sample == EMPTY_ROW and model == models[-1]:
                text = ""
            if sample == FAILED_ROW and model == models[-1]:
                text, failure = None, {"kind": "machine", "reason": "out of memory"}
            prompt = f"Task name: {task}.\nPlan it from this picture of the start, as numbered steps."
            outputs.append(
                Output(
                    model,
                    sample,
                    images,
                    str(review.data),
                    prompt,
                    reference,
                    text,
                    task_name=task,
                    key=f"{model}-{sample}",
                    new_tokens=None if text is None else len(text.split()),
                    stop="" if text is None else "end",
                    failure=failure,
                )
            )
    write_outputs(review.folder, outputs)
    if judged:
        _write_judgements(review, models, rng)
        write_json(review.folder / "summary.json", a_summary(rows, models))
    return review


def _draw(path: Path, rng: random.Random, side: int) -> None:
    """A drawn scene with words in its metadata that give its name away."""
    picture = draw(random_scene(rng, rng.sample(list(KINDS), 4)), tags=False)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", f"taken from {path.name}")
    picture.resize((side, side), Image.Resampling.NEAREST).save(path, pnginfo=notes, exif=_exif(path.name))


def _exif(text: str) -> Image.Exif:
    exif = Image.Exif()
    exif[270] = text  # ImageDescription
    return exif


def _write_judgements(review: Review, models: tuple[str, ...], rng: random.Random) -> None:
    by_judge: dict[str, list[Judgement]] = {LLM_JUDGE: [], REFERENCE_JUDGE: [], PEOPLE: []}
    for item in review.items():
        for at, model in enumerate(models):
            if item.outputs[model].text is None:
                continue
            for repeat in range(3):
                failed = item.sample == 1 and at == 1 and repeat == 2
                by_judge[LLM_JUDGE].append(
                    Judgement(
                        LLM_JUDGE,
                        RUBRIC,
                        model,
                        item.sample,
                        repeat,
                        scores=None if failed else {name: rng.randint(1 + (at > 0), 5) for name in SCALES},
                        reasoning="" if failed else HOSTILE if item.sample == HOSTILE_ROW else _REASON,
                        failure="the reply held no scores" if failed else None,
                    )
                )
            scores = {name: round(rng.uniform(1, 5), 2) for name in SCALES}
            by_judge[REFERENCE_JUDGE].append(Judgement(REFERENCE_JUDGE, RUBRIC, model, item.sample, scores=scores))
            for rater in range(2):
                scores = {name: rng.randint(2, 5) for name in SCALES}
                by_judge[PEOPLE].append(
                    Judgement(PEOPLE, RUBRIC, model, item.sample, rater, scores=scores, reasoning="Too coarse.")
                )
            for first in (True, False) if model != models[0] else ():
                by_judge[LLM_JUDGE].append(
                    Judgement(
                        LLM_JUDGE,
                        PAIRWISE,
                        model,
                        item.sample,
                        base=models[0],
                        model_first=first,
                        verdict=rng.choice(("model", "model", "base", "tie")),
                        reasoning="The first plan leaves out the plate.",
                    )
                )
        for control in CONTROLS:
            scores = dict.fromkeys(SCALES, 1)
            by_judge[LLM_JUDGE].append(Judgement(LLM_JUDGE, RUBRIC, control, item.sample, scores=scores))
    items = {item.sample: item for item in review.items()}
    for judge, found in by_judge.items():
        found = [replace(said, judged=judged_hash(items[said.sample], said.model, said.base)) for said in found]
        lines = "".join(json.dumps(judgement.record()) + "\n" for judgement in found)
        write_text(review.folder / JUDGES_FOLDER / judge / JUDGEMENTS_FILE, lines)


_REASON = (
    "The plan names every object that the task needs and puts them into an order that can be carried out, but it "
    "repeats the grasp in its third step and does not say which arm holds the plate."
)


def _mean(middle: float, half: float = 0.4) -> dict[str, float]:
    return {"mean": middle, "low": middle - half, "high": middle + half}


def a_summary(rows: int, models: tuple[str, ...]) -> dict[str, Any]:
    """A summary.json of the documented form; its numbers are made up."""

    def judge(kind: str, repeats: int) -> dict[str, Any]:
        means = {model: 2.4 + 0.35 * at for at, model in enumerate(models)}
        of = {
            model: {
                "items": rows,
                "judgements": rows * repeats,
                "failed": 1 if at == 1 and kind == "llm" else 0,
                "scores": {name: _mean(means[model]) for name in (FINAL, *SCALES)},
                "over_base": None
                if at == 0
                else {"items": rows, **{name: _mean(0.3 * at - 0.35) for name in (FINAL, *SCALES)}},
                "final_by_row": {str(row): means[model] for row in range(rows)},
            }
            for at, model in enumerate(models)
        }
        llm = kind == "llm"
        controls = {
            name: {
                "items": rows,
                "judgements": rows,
                "failed": 0,
                "final_score": _mean(3.1 if name == INSTRUCTIONS_CONTROL else 1.0, 0.1),
                "win_rate": None if name == INSTRUCTIONS_CONTROL else _mean(0.05, 0.05),
                "at_bottom": name != INSTRUCTIONS_CONTROL,
            }
            for name in CONTROLS
        }
        pairwise = {
            model: {
                "items": rows,
                "pairs": 2 * rows,
                "failed": 0,
                "wins": 9,
                "losses": 4,
                "ties": 7,
                "flips": 3,
                "win_rate": _mean(0.62, 0.21),
                "flip_rate": 0.3,
            }
            for model in models[1:]
        }
        return {
            "kind": kind,
            "models": of,
            "controls": controls if llm else {},
            "pairwise": pairwise if llm else None,
            "repeats": {"most": repeats, "alpha": dict.fromkeys((FINAL, *SCALES), 0.71 if repeats > 1 else None)},
            "with": {"reference": {"spearman": 0.48, "low": 0.2, "high": 0.69, "plans": rows * len(models)}}
            if llm
            else {},
        }

    return {
        "items": rows,
        "models": list(models),
        "base": models[0],
        "words": [
            f"{LLM_JUDGE} put control:instructions at 3.10, not at the bottom: do not trust its scores.",
            "checkpoint-400 is better than baseline by 0.25 (-0.15 to 0.65) according to gpt-4o-mini.",
            f"With {rows} rows the intervals are wide; a difference under half a point cannot be told from chance.",
        ],
        "left_out": 0,
        "outputs": {
            model: {"answered": rows - (model == models[-1]), "failed": int(model == models[-1]), "cut_by_length": 0}
            for model in models
        },
        "judges": {LLM_JUDGE: judge("llm", 3), PEOPLE: judge("people", 2), REFERENCE_JUDGE: judge("reference", 1)},
        "between": [
            {
                "judges": [LLM_JUDGE, PEOPLE],
                "plans": rows * len(models) - 1,
                "alpha": dict.fromkeys((FINAL, *SCALES), 0.42),
                "kappa": {name: 0.39 if name != FINAL else None for name in (FINAL, *SCALES)},
                "spearman": _mean(0.51, 0.2),
                "pairs": None,
            },
            {
                "judges": [LLM_JUDGE, REFERENCE_JUDGE],
                "plans": rows * len(models) - 1,
                "alpha": dict.fromkeys((FINAL, *SCALES), 0.2),
                "kappa": dict.fromkeys((FINAL, *SCALES)),
                "spearman": _mean(0.48, 0.2),
                "pairs": {"plans": 4 * rows, "same": 31, "alpha": 0.66},
            },
        ],
    }
