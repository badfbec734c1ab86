"""A blind review's judgement: which plans are shown to which judge how often, and what came of it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from leap.blind.outputs import Item
from leap.files import write_text
from leap.judge.client import LanguageModelJudge, content_of
from leap.judge.judgements import (
    CONTROLS,
    JUDGEMENTS_FILE,
    JUDGES_FOLDER,
    PAIRWISE,
    REFERENCE_JUDGE,
    RUBRIC,
    Judgement,
    plan_hash,
    read_judgements_of,
)
from leap.judge.options import PROTOCOLS, JudgeOptions
from leap.judge.plan_text import steps_of_text
from leap.judge.prompts import CONTROL_PLANS, Request, Scene, pair_request, rubric_request
from leap.judge.reference import reference_scores
from leap.judge.rubric import read_pair, read_rubric


@dataclass(frozen=True)
class Ask:
    """One judgement to be had, and the request that brings it. `plan` is the hash of what is judged; `base` and
    `model_first` are those of a pair."""

    protocol: str
    model: str
    sample: int
    repeat: int
    request: Request
    plan: str
    base: str | None = None
    model_first: bool | None = None


def judge_folder(review: Path, judge: str) -> Path:
    """Where a judge's files are; a name that is no folder's name, such as org/model, is made one."""
    return review / JUDGES_FOLDER / (re.sub(r"[^\w.@+-]+", "_", judge).strip(".") or "_")


def plans_of(item: Item, models: Sequence[str]) -> dict[str, str]:
    """The plans that can be judged for a row: those of the models that did not fail, then the controls'."""
    found = {model: item.outputs[model].text for model in models if model in item.outputs}
    return {model: text for model, text in found.items() if text is not None} | CONTROL_PLANS


def asks_of(scenes: Sequence[Scene], models: Sequence[str], options: JudgeOptions) -> list[Ask]:
    """All judgements of a review, in an order shuffled by the seed. Controls are judged once a row, each in the
    protocols of the review. UserError for a pairwise review without outputs of the base."""
    unknown = [protocol for protocol in options.protocol if protocol not in PROTOCOLS]
    if unknown:
        raise UserError(f"unknown protocol {unknown[0]!r}; choose from {', '.join(PROTOCOLS)}")
    if PAIRWISE in options.protocol and not any(options.base in scene.item.outputs for scene in scenes):
        raise UserError(
            f"pairwise compares with {options.base}, which has no outputs here. Make them, or name another with --base"
        )
    asks = []
    for scene in scenes:
        plans = plans_of(scene.item, models)
        if RUBRIC in options.protocol:
            asks += _scored(scene, plans, options)
        if PAIRWISE in options.protocol and options.base in plans:
            asks += _paired(scene, plans, options)
    random.Random(options.seed).shuffle(asks)
    return asks


def _scored(scene: Scene, plans: Mapping[str, str], options: JudgeOptions) -> Iterator[Ask]:
    for model, plan in plans.items():
        for repeat in range(1 if model in CONTROLS else options.repeats):
            request = rubric_request(scene, plan, repeat, options.seed, options.plan_characters)
            yield Ask(RUBRIC, model, scene.item.sample, repeat, request, plan_hash(plan))


def _paired(scene: Scene, plans: Mapping[str, str], options: JudgeOptions) -> Iterator[Ask]:
    base = plans[options.base]
    for model, plan in plans.items():
        if model == options.base:
            continue
        for repeat in range(1 if model in CONTROLS else options.pair_repeats):
            for model_first in (True, False):
                shown = (plan, base) if model_first else (base, plan)
                request = pair_request(scene, *shown, repeat, options.seed, options.plan_characters)
                yield Ask(
                    PAIRWISE,
                    model,
                    scene.item.sample,
                    repeat,
                    request,
                    plan_hash(plan, base),
                    options.base,
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
        "plan": ask.plan,
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
            known["plan"] = plan_hash(text)
            if not wanted:
                found.append(Judgement(**known, failure="the reference plan has no step"))
                continue
            scores = {scale: round(score, 6) for scale, score in reference_scores(text, item.reference).items()}
            reasoning = f"{len(steps_of_text(text))} steps beside {len(wanted)} of the reference"
            found.append(Judgement(**known, scores=scores, reasoning=reasoning))
    return sorted(found, key=_place)


def write_judgements(review: Path, judge: str, judgements: Sequence[Judgement], protocols: Collection[str]) -> None:
    """Replace a judge's judgements of these protocols in one step; those of others stay."""
    path = judge_folder(review, judge) / JUDGEMENTS_FILE
    kept = [said for said in read_judgements_of(path) if said.protocol not in protocols]
    lines = (json.dumps(said.record()) + "\n" for said in sorted([*kept, *judgements], key=_place))
    write_text(path, "".join(lines))


def up_to_date(judgements: Iterable[Judgement], items: Sequence[Item], models: Sequence[str]) -> list[Judgement]:
    """Those that judge the plans of these rows and models as they are now, or a control of a row."""
    plans = {item.sample: plans_of(item, models) for item in items}

    def judged(said: Judgement) -> str | None:
        """The hash of what would be judged today."""
        of_row = plans.get(said.sample, {})
        if said.model not in of_row or (said.base and said.base not in of_row):
            return None
        return plan_hash(of_row[said.model], of_row[said.base] if said.base else None)

    return [said for said in judgements if judged(said) == said.plan is not None]


def _place(judgement: Judgement) -> tuple:
    return judgement.protocol, judgement.sample, judgement.model, judgement.repeat, not judgement.model_first
