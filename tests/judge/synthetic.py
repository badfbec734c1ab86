"""Outputs and judgements of known quality, without files."""

from collections.abc import Iterable, Mapping

import numpy as np

from leap.blind.outputs import Output
from leap.judge.judgements import (
    CONTROLS,
    PAIRWISE,
    RUBRIC,
    SCALES,
    Judgement,
)
from leap.judge.summary import summarise

MODELS = ("baseline", "checkpoint-200", "checkpoint-1000")


def outputs_of(models: Iterable[str] = MODELS, items: int = 10, **fields) -> list[Output]:
    return [
        Output(model, sample, [], "/data", f"prompt {sample}", "1) a", "1) b", **fields)
        for sample in range(items)
        for model in models
    ]


def rating(judge, model, sample, value, repeat=0, **fields) -> Judgement:
    """All four scales at `value`, or each its own; None failed."""
    if value is None:
        return Judgement(judge, RUBRIC, model, sample, repeat, failure="the judge refused", **fields)
    values = value if isinstance(value, Mapping) else dict.fromkeys(SCALES, value)
    return Judgement(judge, RUBRIC, model, sample, repeat, scores=values, reasoning="why", **fields)


def ratings(judge="llm", models=MODELS, items=10, repeats=1, effect=None, seed=0, control=1) -> list[Judgement]:
    """Noisy ratings around 3 plus what each item is worth and each model is better; controls at `control`."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(0, 0.8, items)
    found = []
    for model in models:
        for sample in range(items):
            plan = 3 + worth[sample] + (effect or {}).get(model, 0) + rng.normal(0, 0.4)
            for repeat in range(repeats):
                noise = rng.normal(0, 0.3, len(SCALES))
                scores = {s: int(np.clip(round(plan + n), 1, 5)) for s, n in zip(SCALES, noise, strict=True)}
                found.append(rating(judge, model, sample, scores, repeat))
    if control is not None:
        found += [rating(judge, name, sample, control) for name in CONTROLS for sample in range(items)]
    return found


def pair(model, sample, model_first, base_first, repeat=0, judge="llm", base="baseline") -> list[Judgement]:
    """A pair in both orders; a verdict of None failed."""
    return [
        Judgement(
            judge,
            PAIRWISE,
            model,
            sample,
            repeat,
            base=base,
            model_first=first,
            verdict=verdict,
            failure=None if verdict else "no verdict",
        )
        for first, verdict in ((True, model_first), (False, base_first))
    ]


def of_llm(judgements, outputs=None) -> dict:
    return summarise(outputs or outputs_of(), judgements)["judges"]["llm"]


def width(estimate: Mapping[str, float]) -> float:
    return estimate["high"] - estimate["low"]
