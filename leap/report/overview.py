"""What the overview of the page shows: means with intervals, counts of outcomes and errors, settings of each model.

    {"metrics": {scorer: [name]}, "measures": {key of MEASURES: {"name", "title", "meaning",
                     "best"}}, "weights": {metric: share of
                     the total score}, "error_labels": [label],
     "headline": null or that of leap.report.headline,
     "differences": {base: [{"scorer", "metric", "models": [of each model: null or {"macro": null or [mean, low, high],
                     "dimensions": {dimension: [mean, low, high]}, "examples": n}]}]}, the usual base first,
     "models": [{"name": text,
                 "scores": {scorer: null or {"macro": {metric: [mean, low, high]}, "micro": the same, "dimensions":
                            {dimension: the same}, "examples": n, "complete": bool, "mixed": bool}},
                 "counts": {dimension: a summary's "examples" and "outcomes"},
                 "diagnoses": {dimension: counts in the form of a summary's "diagnosis", with "answers"},
                 "lengths": scores by length in the form of leap.report.lengths; {} without ground truth at hand,
                 "settings": [a row], "provenance": [a row]}]}

Low and high are null where there is no interval. A row is [key, value as text, null] where all dimensions agree, else
[key, null, {dimension: value as text}].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leap.models.names import BASE_NAME
from leap.plans.diagnosis import ERROR_LABELS
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS, WEIGHTS
from leap.progress import Progress
from leap.report.headline import headline_of, rounded
from leap.statistics import Estimate
from leap.vlabench.compare import Improvement, improvements_over, score_columns
from leap.vlabench.folder import summaries_of
from leap.vlabench.tables import Overall, overalls_of

COMPARED = (("grounded", "total_score"), ("official", "total_score"), ("grounded", "plan_success"))
MOST_BASES = 8  # every base takes a pairing with every model

SettingRow = tuple[str, str | None, dict[str, str] | None]


def overview_of(
    results: Path,
    models: Sequence[str],
    diagnoses: Mapping[str, Mapping[str, dict]],
    lengths: Mapping[str, Mapping[str, dict]],
) -> dict[str, Any]:
    """The overview of `models`. What `diagnoses` (model, then dimension) lack is taken from the summaries, if there;
    those of `lengths` have no intervals."""
    overalls = overalls_of(results, models)
    return {
        "metrics": METRICS,
        "measures": {
            key: {"name": m.name, "title": m.title, "meaning": m.meaning, "best": m.best} for key, m in MEASURES.items()
        },
        "weights": WEIGHTS,
        "error_labels": ERROR_LABELS,
        "headline": headline_of(results, overalls),
        "differences": _differences(results, models),
        "models": [
            _model(results, model, overalls[model], diagnoses.get(model, {})) | {"lengths": lengths.get(model, {})}
            for model in models
        ],
    }


def _bases(models: Sequence[str]) -> list[str]:
    """The models that others may be compared with: the base, else the first, before the others."""
    if len(models) < 2:
        return []
    first = BASE_NAME if BASE_NAME in models else models[0]
    return [first, *(name for name in models if name != first)][:MOST_BASES]


def _differences(results: Path, models: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What each model has over each base on the examples that both answered, by metric."""
    bases = _bases(models)
    if not bases:
        return {}
    metrics: dict[str, list[str]] = {}
    for scorer, metric in COMPARED:
        metrics.setdefault(scorer, []).append(metric)
    columns = [score_columns(results, models, scorer, names) for scorer, names in metrics.items()]
    differences = {}
    with Progress("comparing models", len(bases), "model") as progress:
        for base in bases:
            gains = improvements_over(columns, models, base)
            differences[base] = [
                {
                    "scorer": scorer,
                    "metric": metric,
                    "models": [_improvement(gains[f"{scorer}.{metric}"].get(name)) for name in models],
                }
                for scorer, metric in COMPARED
            ]
            progress.advance()
    return differences


def _improvement(gain: Improvement | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        "macro": gain.macro and rounded(gain.macro),
        "dimensions": {dimension: rounded(estimate) for dimension, estimate in gain.dimensions.items()},
        "examples": gain.examples,
    }


def _model(
    results: Path, model: str, overalls: Mapping[str, Overall | None], diagnoses: Mapping[str, dict]
) -> dict[str, Any]:
    summaries = summaries_of(results, model)
    summarised = {
        dimension: {"answers": summary.examples.answered, **summary.diagnosis}
        for dimension, summary in summaries.items()
        if summary.diagnosis
    }
    return {
        "name": model,
        "scores": {scorer: _scores(means) for scorer, means in overalls.items()},
        "counts": {
            dimension: {"examples": asdict(summary.examples), "outcomes": summary.outcomes}
            for dimension, summary in summaries.items()
        },
        "diagnoses": {dimension: (summarised | dict(diagnoses)).get(dimension) for dimension in summaries},
        "settings": rows_by_dimension({d: summary.settings for d, summary in summaries.items()}),
        "provenance": rows_by_dimension({d: summary.provenance for d, summary in summaries.items()}),
    }


def _scores(means: Overall | None) -> dict[str, Any] | None:
    if means is None:
        return None
    return {
        "macro": _plain(means.macro),
        "micro": _plain(means.micro),
        "dimensions": {dimension: _plain(metrics) for dimension, metrics in means.dimensions.items()},
        "examples": means.examples,
        "complete": means.complete,
        "mixed": means.mixed,
    }


def _plain(metrics: Mapping[str, Estimate]) -> dict[str, list[float | None]]:
    return {name: rounded(estimate) for name, estimate in metrics.items()}


def rows_by_dimension(by_dimension: Mapping[str, Any]) -> list[SettingRow]:
    """Nested values of each dimension as rows with dotted keys; dimensions that agree share a row."""
    flat = {dimension: dict(_flat(value)) for dimension, value in by_dimension.items()}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    rows: list[SettingRow] = []
    for key in keys:
        texts = {dimension: values.get(key, "not given") for dimension, values in flat.items()}
        if len(set(texts.values())) == 1:
            rows.append((key, next(iter(texts.values())), None))
        else:
            rows.append((key, None, texts))
    return rows


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [row for key, inner in value.items() for row in _flat(inner, f"{name}.{key}".strip("."))]
    return [(name, value if isinstance(value, str) else json.dumps(value))] if name else []
