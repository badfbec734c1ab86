"""The headline of the page: what the best model reaches, beside the base and itself without pictures.

{"sentence": text, "models": [names in it], "numbers": [{"title", "note", "value": [mean, low, high], "best": number
 or null for a difference}]}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS
from leap.files import read_json
from leap.models.names import base_suffix, curve_and_step
from leap.plans.measures import MEASURES
from leap.statistics import Estimate
from leap.vlabench.compare import improvements
from leap.vlabench.folder import summaries_of
from leap.vlabench.options import BLANK, CONTROLS
from leap.vlabench.tables import Overall

_NUMBERS = ("grounded.total_score", "official.total_score", "grounded.plan_success")


def headline_of(results: Path, overalls: Mapping[str, Mapping[str, Overall | None]]) -> dict[str, Any] | None:
    """The headline over the models in `overalls` (by model and scorer), or None if none has scores under one
    setting."""
    scores = {name: means for name, each in overalls.items() if (means := each["grounded"]) and not means.mixed}
    if not scores:
        return None
    model = max(scores, key=lambda name: _rank(name, scores[name]))
    over = len(scores[model].dimensions)
    comparable = {name for name, means in scores.items() if means.dimensions.keys() == scores[model].dimensions.keys()}
    base = _counterpart(model, comparable)
    blank = model + BLANK if model + BLANK in comparable else None
    return {
        "sentence": _hacked(results, overalls)
        + _sentence(results, model, base, blank, scores)
        + ("" if over == len(DIMENSIONS) else _partly(over)),
        "models": [name for name in (model, base, blank) if name],
        "numbers": _numbers(results, model, base, overalls[model]),
    }


def _hacked(results: Path, models: Iterable[str]) -> str:
    """What the runs of these models say of a reward that rose while held-out plans got worse; it comes first."""
    warnings = []
    for name in models:
        checkpoints = {summary.provenance.get("checkpoint") for summary in summaries_of(results, name).values()}
        for checkpoint in filter(None, checkpoints):
            path = Path(checkpoint).parent / "run.json"
            problem = read_json(path).get("reward_hacking") if path.is_file() else None
            warnings += [f"{name}: {problem}. "] if problem else []
    return "".join(warnings)


def _rank(name: str, means: Overall) -> tuple[bool, bool, int, float]:
    """The best model is a checkpoint or another model that looks; base and controls lead where nothing else is."""
    looks = not name.endswith(BLANK) and name not in CONTROLS
    trained = curve_and_step(name) is not None or base_suffix(name) is None
    return looks, looks and trained, len(means.dimensions), means.macro["total_score"].mean


def _counterpart(model: str, comparable: set[str]) -> str | None:
    """The base asked as the model was; else any base that looks."""
    bases = sorted(name for name in comparable if base_suffix(name) is not None and not name.endswith(BLANK))
    curve = curve_and_step(model)
    alike = [name for name in bases if curve and base_suffix(name) == curve[0].suffix]
    return next((name for name in (*alike, *bases) if name != model), None)


def _sentence(results: Path, model: str, base: str | None, blank: str | None, scores: Mapping[str, Overall]) -> str:
    total = {name: means.macro["total_score"] for name, means in scores.items()}
    best = MEASURES["grounded.total_score"].best
    sentence = f"{model} reaches {total[model].text()} of {best:g}"
    if base:
        sentence += f", {base} {total[base].mean:.1f}"
    if not blank:
        return f"{sentence}. Whether it looks is not measured: run it with --blank-images."
    verdict = _looks(improvements(results, [model], blank, "grounded")[model].macro)
    return f"{sentence}, without pictures {total[blank].mean:.1f}: {verdict}."


def _looks(gain: Estimate | None) -> str:
    if gain is None or gain.low is None or gain.high is None or gain.low <= 0 <= gain.high:
        return "whether it looks is not clear"
    return "it looks" if gain.low > 0 else "it does better without them"


def _partly(dimensions: int) -> str:
    return f" Over {dimensions} of {len(DIMENSIONS)} dimensions."


def _numbers(
    results: Path, model: str, base: str | None, overalls: Mapping[str, Overall | None]
) -> list[dict[str, Any]]:
    numbers = []
    for key in _NUMBERS:
        scorer, metric = key.split(".")
        if means := overalls[scorer]:
            measure = MEASURES[key]
            value = rounded(means.macro[metric])
            numbers.append({"title": measure.name, "note": measure.meaning, "value": value, "best": measure.best})
    gain = improvements(results, [model], base, "grounded")[model].macro if base else None
    if gain:
        note = f"points of the grounded total over {base}, on the examples that both answered"
        numbers.append({"title": f"over {base}", "note": note, "value": rounded(gain), "best": None})
    return numbers


def rounded(estimate: Estimate) -> list[float | None]:
    """[mean, low, high] as the page holds them."""
    return [None if value is None else round(value, 4) for value in astuple(estimate)]
