"""A blind review's judgement: which plans are shown to which judge how often, and what came of it."""

from __future__ import annotations

import hashlib
import importlib
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.blind.outputs import Item
from leap.files import write_jsonl
from leap.judge.base import base_named
from leap.judge.client import LanguageModelJudge, content_of
from leap.judge.controls import control_plans
from leap.judge.judged import ReviewRow, judged_hash
from leap.judge.judgements import (
    CONTROLS,
    JUDGEMENTS_FILE,
    JUDGES_FOLDER,
    PAIRWISE,
    PROGRAMS,
    RUBRIC,
    Judgement,
    read_judgements_of,
)
from leap.judge.options import PROTOCOLS, JudgeOptions
from leap.judge.plan_text import steps_of_text
from leap.judge.prompts import Request, pair_request, rubric_request
from leap.judge.rubric import read_pair, read_rubric

_LONGEST_NAME = 100  # characters of a judge's name in that of its folder


@dataclass(frozen=True)
class Assignment:
    """One judgement to be had, and the request that brings it. `judged` is the hash of what is judged, `pictures` are
    those of the pictures shown; `base` and `model_first` are those of a pair."""

    protocol: str
    model: str
    sample: int
    repeat: int
    request: Request
    judged: str | None
    pictures: list[str]
    base: str | None = field(default=None, kw_only=True)
    model_first: bool | None = field(default=None, kw_only=True)


def judge_folder(review: Path, judge: str) -> Path:
    """Where a judge's files are. A name that is no folder's name, such as org/model, is made one, with a hash that
    tells it from that of org_model."""
    name = re.sub(r"[^\w.@+-]+", "_", judge).strip(".")[:_LONGEST_NAME]
    if name != judge:
        name += "-" + hashlib.sha256(judge.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return review / JUDGES_FOLDER / name


def plans_of(items: Sequence[Item], models: Sequence[str]) -> list[dict[str, str]]:
    """The plans that can be judged, row by row: those of the models that did not fail, then the controls'."""
    controls = control_plans(items)
    texts = [{model: item.outputs[model].text for model in models if model in item.outputs} for item in items]
    return [
        {model: text for model, text in texts_of_row.items() if text is not None} | controls[item.sample]
        for item, texts_of_row in zip(items, texts, strict=True)
    ]


def assignments_of(rows: Sequence[ReviewRow], models: Sequence[str], options: JudgeOptions) -> list[Assignment]:
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
    assignments: list[Assignment] = []
    for row, plans in zip(rows, plans_of([row.item for row in rows], models), strict=True):
        if RUBRIC in options.protocol:
            assignments += _ratings(row, plans, options)
        if PAIRWISE in options.protocol and base in plans:
            assignments += _pairs(row, plans, base, options)
    # Controls alone are not worth their price.
    if all(assignment.model in CONTROLS for assignment in assignments):
        beside = "" if RUBRIC in options.protocol else f" beside one of the base {base}"
        raise UserError(
            f"nothing to judge: no row has a plan of a model{beside}. Ask again for outputs that failed with: python "
            "scripts/evaluation/run_vlm_output.py --retry_failed"
        )
    random.Random(options.seed).shuffle(assignments)
    return assignments


def _ratings(row: ReviewRow, plans: Mapping[str, str], options: JudgeOptions) -> Iterator[Assignment]:
    for model, plan in plans.items():
        for repeat in range(1 if model in CONTROLS else options.repeats):
            request = rubric_request(row, plan, repeat, options)
            judged = judged_hash(row.item, model)
            yield Assignment(RUBRIC, model, row.item.sample, repeat, request, judged, row.hashes)


def _pairs(row: ReviewRow, plans: Mapping[str, str], base: str, options: JudgeOptions) -> Iterator[Assignment]:
    for model, plan in plans.items():
        if model == base:
            continue
        for repeat in range(1 if model in CONTROLS else options.pair_repeats):
            for model_first in (True, False):
                plans_in_order = (plan, plans[base]) if model_first else (plans[base], plan)
                yield Assignment(
                    PAIRWISE,
                    model,
                    row.item.sample,
                    repeat,
                    pair_request(row, *plans_in_order, repeat, options),
                    judged_hash(row.item, model, base),
                    row.hashes,
                    base=base,
                    model_first=model_first,
                )


def judgements_of(judge: LanguageModelJudge, assignments: Sequence[Assignment]) -> list[Judgement]:
    """What the judge's journal holds for `assignments`: a judgement each, failed ones with their reason; none for what
    was not asked yet."""
    judgements = (_judgement(judge, assignment) for assignment in assignments)
    return sorted((judgement for judgement in judgements if judgement is not None), key=_place)


def _judgement(judge: LanguageModelJudge, assignment: Assignment) -> Judgement | None:
    key = judge.key(assignment.request)
    fields: dict[str, Any] = {
        "judge": judge.name,
        "protocol": assignment.protocol,
        "model": assignment.model,
        "sample": assignment.sample,
        "repeat": assignment.repeat,
        "base": assignment.base,
        "model_first": assignment.model_first,
        "judged": assignment.judged,
        "pictures": assignment.pictures,
        "request": key,
        "asks": judge.history.replies.get(key, 0),
        "notes": assignment.request.notes,
    }
    body = judge.history.valid.get(key)
    if body is None:
        failure = judge.why_failed(assignment.request)
        return Judgement(**fields, failure=failure) if failure else None
    if assignment.protocol == RUBRIC:
        scores, reasoning = read_rubric(content_of(body))
        return Judgement(**fields, scores=scores, reasoning=reasoning)
    better, reasoning = read_pair(content_of(body))
    is_model = {"A": assignment.model_first, "B": not assignment.model_first}
    verdict = "tie" if better == "tie" else "model" if is_model[better] else "base"
    return Judgement(**fields, verdict=verdict, reasoning=reasoning)


def program_judgements(judge: str, items: Sequence[Item], models: Sequence[str]) -> list[Judgement]:
    """The word of a judge of PROGRAMS on every plan and control. A row whose reference has no step fails."""
    scores_of = importlib.import_module(PROGRAMS[judge]).scores_of
    judgements = []
    for item, plans in zip(items, plans_of(items, models), strict=True):
        steps = steps_of_text(item.reference)
        for model, text in plans.items():
            fields: dict[str, Any] = {"judge": judge, "protocol": RUBRIC, "model": model, "sample": item.sample}
            fields["judged"] = judged_hash(item, model)
            if not steps:
                judgements.append(Judgement(**fields, failure="the reference plan has no step"))
                continue
            scores = {scale: round(score, 6) for scale, score in scores_of(text, item.reference).items()}
            reasoning = f"{len(steps_of_text(text))} steps beside {len(steps)} of the reference"
            judgements.append(Judgement(**fields, scores=scores, reasoning=reasoning))
    return sorted(judgements, key=_place)


def write_judgements(
    review: Path, judge: str, judgements: Sequence[Judgement], replaced: Collection[Judgement | Assignment] | None
) -> None:
    """Write a judge's judgements, in one step, in place of those it has of what `replaced` are about (None: of all)."""
    path = judge_folder(review, judge) / JUDGEMENTS_FILE
    subjects = {_subject(assignment) for assignment in replaced or ()}
    others = [] if replaced is None else [line for line in read_judgements_of(path) if _subject(line) not in subjects]
    write_jsonl(path, (line.record() for line in sorted([*others, *judgements], key=_place)))


def _subject(judgement: Judgement | Assignment) -> tuple:
    """What all repeats and orders of a judgement have in common."""
    return judgement.protocol, judgement.model, judgement.sample, judgement.base


def _place(judgement: Judgement) -> tuple:
    return judgement.protocol, judgement.sample, judgement.model, judgement.repeat, not judgement.model_first
