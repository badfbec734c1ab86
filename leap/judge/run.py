"""A blind review's judgement: which plans are shown to which judge how often, and what came of it."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.blind.outputs import Item
from leap.files import write_text
from leap.judge.client import LanguageModelJudge, content_of
from leap.judge.judged import judged_hash
from leap.judge.judgements import (
    CONTROLS,
    JUDGEMENTS_FILE,
    JUDGES_FOLDER,
    PAIRWISE,
    REFERENCE_JUDGE,
    RUBRIC,
    Judgement,
    read_judgements_of,
)
from leap.judge.options import PROTOCOLS, JudgeOptions
from leap.judge.plan_text import steps_of_text
from leap.judge.prompts import CONTROL_PLANS, Request, Scene, pair_request, rubric_request
from leap.judge.reference import reference_scores
from leap.judge.rubric import read_pair, read_rubric
from leap.judge.summary import base_in

_LONGEST_NAME = 100  # characters of a judge's name in that of its folder


@dataclass(frozen=True)
class Ask:
    """One judgement to be had, and the request that brings it. `judged` is the hash of what is judged, `pictures` are
    those of the pictures shown; `base` and `model_first` are those of a pair."""

    protocol: str
    model: str
    sample: int
    repeat: int
    request: Request
    judged: str | None
    pictures: list[str]
    base: str | None = None
    model_first: bool | None = None


def judge_folder(review: Path, judge: str) -> Path:
    """Where a judge's files are. A name that is no folder's name, such as org/model, is made one, with a hash that
    tells it from that of org_model."""
    name = re.sub(r"[^\w.@+-]+", "_", judge).strip(".")[:_LONGEST_NAME]
    if name != judge:
        name += "-" + hashlib.sha256(judge.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return review / JUDGES_FOLDER / name


def plans_of(item: Item, models: Sequence[str]) -> dict[str, str]:
    """The plans that can be judged for a row: those of the models that did not fail, then the controls'."""
    found = {model: item.outputs[model].text for model in models if model in item.outputs}
    return {model: text for model, text in found.items() if text is not None} | CONTROL_PLANS


def base_named(models: Sequence[str], name: str | None) -> str | None:
    """The base among `models`: the one of this name, whatever its case, or without a name the one called baseline, if
    there is one. UserError for a name that none has."""
    if name is None:
        return base_in(models)
    alike = [model for model in models if model.lower() == name.lower()]
    if not alike:
        raise UserError(f"the base {name} is not among the models to judge: {', '.join(models)}")
    return name if name in alike else alike[0]


def asks_of(scenes: Sequence[Scene], models: Sequence[str], options: JudgeOptions) -> list[Ask]:
    """All judgements of a review, in an order shuffled by the seed. Controls are judged once a row, each in the
    protocols of the review. UserError where there is no plan of a model to be judged."""
    unknown = [protocol for protocol in options.protocol if protocol not in PROTOCOLS]
    if unknown:
        raise UserError(f"unknown protocol {unknown[0]!r}; choose from {', '.join(PROTOCOLS)}")
    base = base_named(models, options.base)
    if PAIRWISE in options.protocol and base is None:
        raise UserError(
            f"pairwise compares with the base, and none of the models to judge ({', '.join(models)}) is called "
            "baseline. Name the base with --base"
        )
    asks: list[Ask] = []
    for scene in scenes:
        plans = plans_of(scene.item, models)
        if RUBRIC in options.protocol:
            asks += _scored(scene, plans, options)
        if PAIRWISE in options.protocol and base in plans:
            asks += _paired(scene, plans, base, options)
    if all(ask.model in CONTROLS for ask in asks):  # without a model's plan they are not worth their price
        beside = "" if RUBRIC in options.protocol else f" beside one of the base {base}"
        raise UserError(
            f"nothing to judge: no row has a plan of a model{beside}. Ask again for outputs that failed with: python "
            "scripts/evaluation/run_vlm_output.py --retry_failed"
        )
    random.Random(options.seed).shuffle(asks)
    return asks


def _scored(scene: Scene, plans: Mapping[str, str], options: JudgeOptions) -> Iterator[Ask]:
    for model, plan in plans.items():
        for repeat in range(1 if model in CONTROLS else options.repeats):
            request = rubric_request(scene, plan, repeat, options.seed, options.plan_characters)
            judged = judged_hash(scene.item, model)
            yield Ask(RUBRIC, model, scene.item.sample, repeat, request, judged, scene.hashes)


def _paired(scene: Scene, plans: Mapping[str, str], base: str, options: JudgeOptions) -> Iterator[Ask]:
    for model, plan in plans.items():
        if model == base:
            continue
        for repeat in range(1 if model in CONTROLS else options.pair_repeats):
            for model_first in (True, False):
                shown = (plan, plans[base]) if model_first else (plans[base], plan)
                request = pair_request(scene, *shown, repeat, options.seed, options.plan_characters)
                yield Ask(
                    PAIRWISE,
                    model,
                    scene.item.sample,
                    repeat,
                    request,
                    judged_hash(scene.item, model, base),
                    scene.hashes,
                    base,
                    model_first,
                )


def judgements_of(judge: LanguageModelJudge, asks: Sequence[Ask]) -> list[Judgement]:
    """What the judge's journal holds for `asks`: a judgement each, failed ones with their reason; none for what was not
    asked yet."""
    return sorted((said for ask in asks if (said := _judgement(judge, ask))), key=_place)


def _judgement(judge: LanguageModelJudge, ask: Ask) -> Judgement | None:
    key = judge.key(ask.request)
    known = {
        "judge": judge.name,
        "protocol": ask.protocol,
        "model": ask.model,
        "sample": ask.sample,
        "repeat": ask.repeat,
        "base": ask.base,
        "model_first": ask.model_first,
        "judged": ask.judged,
        "pictures": ask.pictures,
        "request": key,
        "asks": judge.history.replies.get(key, 0),
        "notes": ask.request.notes,
    }
    body = judge.history.valid.get(key)
    if body is None:
        failure = judge.why_failed(ask.request)
        return Judgement(**known, failure=failure) if failure else None
    if ask.protocol == RUBRIC:
        scores, reasoning = read_rubric(content_of(body))
        return Judgement(**known, scores=scores, reasoning=reasoning)
    better, reasoning = read_pair(content_of(body))
    side = {"A": ask.model_first, "B": not ask.model_first}
    verdict = "tie" if better == "tie" else "model" if side[better] else "base"
    return Judgement(**known, verdict=verdict, reasoning=reasoning)


def reference_judgements(items: Sequence[Item], models: Sequence[str]) -> list[Judgement]:
    """The reference judge's word on every plan and control. A row whose reference has no step fails."""
    found = []
    for item in items:
        wanted = steps_of_text(item.reference)
        for model, text in plans_of(item, models).items():
            known = {"judge": REFERENCE_JUDGE, "protocol": RUBRIC, "model": model, "sample": item.sample}
            known["judged"] = judged_hash(item, model)
            if not wanted:
                found.append(Judgement(**known, failure="the reference plan has no step"))
                continue
            scores = {scale: round(score, 6) for scale, score in reference_scores(text, item.reference).items()}
            reasoning = f"{len(steps_of_text(text))} steps beside {len(wanted)} of the reference"
            found.append(Judgement(**known, scores=scores, reasoning=reasoning))
    return sorted(found, key=_place)


def write_judgements(
    review: Path, judge: str, judgements: Sequence[Judgement], asks: Collection[Judgement | Ask] | None
) -> None:
    """Write a judge's judgements, in one step, in place of those it has of what `asks` are about (None: of all)."""
    path = judge_folder(review, judge) / JUDGEMENTS_FILE
    replaced = {_of_plan(ask) for ask in asks or ()}
    kept = [] if asks is None else [said for said in read_judgements_of(path) if _of_plan(said) not in replaced]
    lines = (json.dumps(said.record()) + "\n" for said in sorted([*kept, *judgements], key=_place))
    write_text(path, "".join(lines))


def _of_plan(one: Judgement | Ask) -> tuple:
    """What all repeats and orders of a judgement have in common."""
    return one.protocol, one.model, one.sample, one.base


def _place(judgement: Judgement) -> tuple:
    return judgement.protocol, judgement.sample, judgement.model, judgement.repeat, not judgement.model_first
