"""Two models over the examples that both answered: paired differences by dimension, macro and micro.

eva_results/comparisons/<A>_vs_<B>/
    comparison.json    a `Comparison` as JSON
    comparison.md      the same as tables, with what was left out and every warning

A difference is B less A. Its interval is a 95 % bootstrap over examples, stratified by task; its p-value a paired
permutation test over examples, seeded. Over the dimensions, p-values are also given corrected after Holm; macro and
micro answer a question of their own and are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import read_json, read_jsonl, write_json, write_text
from leap.plans.scoring import METRICS
from leap.statistics import Estimate, estimates, holm, paired_p_value, stratified_means
from leap.text import markdown_table
from leap.vlabench.results import SCORE_FILES, models_in

DEFAULT_METRICS = ("official.total_score", "grounded.total_score")

# What names the model in the settings; two models always differ here.
_MODEL_SETTINGS = ("planner", "model", "weights_sha256", "base_weights_sha256", "plans_sha256")

_RESCORE = "Score both again: python scripts/evaluation/rescore.py"

Place = tuple[str, str]  # task, example number as text


@dataclass(frozen=True)
class Difference:
    """B less A over `examples`, in points (0 to 100): means of both, the difference with its interval, its p-value.

    `p_holm` is corrected for the other dimensions, None for macro and micro. `better`, `worse` and `same` count
    examples by B's score against A's; `both_right` is given for plan_success, where better means B alone is right.
    """

    examples: int
    a: float
    b: float
    difference: Estimate
    p_value: float
    p_holm: float | None
    better: int
    worse: int
    same: int
    both_right: int | None


@dataclass(frozen=True)
class MetricComparison:
    """One metric: by dimension, macro (mean of dimensions) and micro (mean of examples)."""

    dimensions: dict[str, Difference]
    macro: Difference
    micro: Difference


@dataclass(frozen=True)
class Comparison:
    """`metrics` by "<scorer>.<metric>"; `missing` says by dimension why there is none; `left_out` counts by dimension
    and reason the examples that not both answered."""

    a: str
    b: str
    metrics: dict[str, MetricComparison]
    missing: dict[str, str]
    left_out: dict[str, dict[str, int]]
    warnings: list[str]


class _Side:
    """One model's results in one dimension."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name

    @cached_property
    def scores(self) -> dict[str, dict[Place, dict[str, float]]]:
        """By scorer and example."""
        return {scorer: _by_place(read_json(self.folder / name)) for scorer, name in SCORE_FILES.items()}

    @cached_property
    def truths(self) -> dict[Place, str]:
        """The hash of each ground truth that an answer was scored by."""
        found = _by_place(self._json("diagnosis.json"))
        return {place: entry["truth_sha256"] for place, entry in found.items() if "truth_sha256" in entry}

    @cached_property
    def prompts(self) -> dict[Place, str]:
        path = self.folder / "generations.jsonl"
        records = read_jsonl(path) if path.is_file() else []
        return {_place(r): r["prompt_sha256"] for r in records if "prompt_sha256" in r}

    @cached_property
    def failures(self) -> dict[Place, str]:
        """Why an example has no answer."""
        path = self.folder / "failures.jsonl"
        kinds = {"machine": "machine failure", "data": "bad example"}
        return {_place(f): kinds[f.get("kind", "machine")] for f in (read_jsonl(path) if path.is_file() else [])}

    @cached_property
    def settings(self) -> dict[str, Any]:
        return self._json("settings.json")

    @cached_property
    def summary(self) -> dict[str, Any]:
        return self._json("summary.json")

    @property
    def data_sha256(self) -> str | None:
        return self.summary.get("provenance", {}).get("data_sha256")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return read_json(path) if path.is_file() else {}


def metrics_named(words: Sequence[str]) -> list[str]:
    """Each word as "<scorer>.<metric>"; one without its scorer means all that have the metric. UserError otherwise."""
    known = [f"{scorer}.{metric}" for scorer, metrics in METRICS.items() for metric in metrics]
    found = []
    for word in words or DEFAULT_METRICS:
        meant = [name for name in known if word in (name, name.split(".")[1])]
        if not meant:
            raise UserError(f"unknown metric {word!r}; choose from {', '.join(known)}, or without the scorer")
        found += meant
    return list(dict.fromkeys(found))


def compare(results: Path, a: str, b: str, metrics: Sequence[str] = DEFAULT_METRICS) -> Comparison:
    """Compare two models in `results` by metrics named "<scorer>.<metric>".

    UserError if one has no results, no dimension is common to both, or their data differ: other ground truth, other
    instructions or other pictures. Settings that differ, and what could not be checked, become warnings.
    """
    there = models_in(results)
    for name in (a, b):
        if name not in there:
            raise UserError(f"no results of {name!r} in {results}; there: {', '.join(there) or 'none'}")
    places: dict[str, list[Place]] = {}
    sides: dict[str, tuple[_Side, _Side]] = {}
    missing, left_out, warnings = {}, {}, []
    for dimension in DIMENSIONS:
        pair = _Side(results / dimension / a), _Side(results / dimension / b)
        without = [side.name for side in pair if not (side.folder / SCORE_FILES["official"]).is_file()]
        if without:
            missing[dimension] = f"no results of {' and '.join(without)}"
            continue
        answered = [side.scores["official"].keys() for side in pair]
        left_out[dimension] = _left_out(*pair)
        common = [place for place in answered[0] if place in answered[1]]
        if not common:
            missing[dimension] = "no example that both answered"
            continue
        warnings += _check_data(dimension, *pair, common) + _other_settings(*pair)
        places[dimension], sides[dimension] = common, pair
    if not places:
        reasons = "; ".join(f"{dimension}: {reason}" for dimension, reason in missing.items())
        raise UserError(f"nothing to compare between {a} and {b}: {reasons}")
    return Comparison(
        a,
        b,
        {name: _compared(name, places, sides) for name in metrics},
        missing,
        {dimension: counts for dimension, counts in left_out.items() if counts},
        list(dict.fromkeys(warnings)),
    )


def _by_place(content: Mapping[str, Mapping[str, Any]]) -> dict[Place, Any]:
    return {(task, number): entry for task, entries in content.items() for number, entry in entries.items()}


def _place(record: Mapping[str, Any]) -> Place:
    return record["task"], str(record["example"])


def _left_out(a: _Side, b: _Side) -> dict[str, int]:
    """How many examples of a dimension are not compared, by reason."""
    counts: Counter[str] = Counter()
    for side, other in ((a, b), (b, a)):
        for place in other.scores["official"].keys() - side.scores["official"].keys():
            counts[f"not answered by {side.name}: {side.failures.get(place, 'not asked')}"] += 1
    in_benchmark = max(side.summary.get("examples", {}).get("in_benchmark", 0) for side in (a, b))
    neither = in_benchmark - len(a.scores["official"].keys() | b.scores["official"].keys())
    if neither > 0:
        counts["answered by neither"] = neither
    return dict(counts)


def _check_data(dimension: str, a: _Side, b: _Side, common: Sequence[Place]) -> list[str]:
    """Warnings about what could not be checked; UserError if the two models were not given the same data."""
    for what, of_a, of_b, advice in (
        ("scored against other ground truth", a.truths, b.truths, _RESCORE),
        ("asked in other words", *_comparable_prompts(a, b), "Evaluate both on the same benchmark folder"),
    ):
        differ = [place for place in common if of_a.get(place) != of_b.get(place) and place in of_a and place in of_b]
        if differ:
            raise UserError(
                f"{a.name} and {b.name} were {what} in {dimension} ({len(differ)} of {len(common)} examples, first "
                f"example{differ[0][1]} of {differ[0][0]}), so their scores do not compare. {advice}"
            )
    same_examples = a.scores["official"].keys() == b.scores["official"].keys()
    if same_examples and a.data_sha256 and b.data_sha256:
        if a.data_sha256 != b.data_sha256:
            raise UserError(
                f"{a.name} and {b.name} were evaluated on other data in {dimension}: pictures, instructions or ground "
                "truth differ, so their scores do not compare. Evaluate both on the same benchmark folder"
            )
        return []
    warnings = []
    if any(place not in side.truths for place in common for side in (a, b)):
        warnings.append(f"whether both were scored against the same ground truth is not recorded. {_RESCORE}")
    why = "a data hash is missing" if same_examples else "they did not answer the same examples"
    return [*warnings, f"whether both saw the same pictures could not be checked: {why}"]


def _comparable_prompts(a: _Side, b: _Side) -> tuple[dict[Place, str], dict[Place, str]]:
    """Hashes of the prompts, where both were to be written alike."""
    alike = a.settings.get("prompt") and a.settings.get("prompt") == b.settings.get("prompt")
    return (a.prompts, b.prompts) if alike else ({}, {})


def _other_settings(a: _Side, b: _Side) -> list[str]:
    """Settings, other than the model, in which two evaluations differ."""
    found = []
    for group in sorted(a.settings.keys() | b.settings.keys()):
        flat = [_flat(side.settings.get(group, {}), group) for side in (a, b)]
        for key in sorted(flat[0].keys() | flat[1].keys()):
            one, other = flat[0].get(key), flat[1].get(key)
            is_model = group == "planner" and (key.split(".")[1] in _MODEL_SETTINGS or not all(key in f for f in flat))
            if one != other and not is_model:
                found.append(f"settings differ: {key} is {one} for {a.name}, {other} for {b.name}")
    return found


def _flat(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: item for part, inner in value.items() for key, item in _flat(inner, f"{name}.{part}").items()}


def _compared(
    name: str, places: Mapping[str, Sequence[Place]], sides: Mapping[str, tuple[_Side, _Side]]
) -> MetricComparison:
    scorer, metric = name.split(".")
    by_dimension: dict[str, dict[str, np.ndarray]] = {}  # task -> (examples, 2), the scores of A and B
    for dimension, common in places.items():
        tasks: dict[str, list[list[float]]] = {}
        for place in common:
            tasks.setdefault(place[0], []).append([side.scores[scorer][place][metric] for side in sides[dimension]])
        by_dimension[dimension] = {task: np.array(rows, dtype=float) for task, rows in tasks.items()}

    drawn, weighted, single = [], [], {}
    for seed, (dimension, tasks) in enumerate(by_dimension.items()):
        scores = np.concatenate(list(tasks.values()))
        differences = scores[:, 1] - scores[:, 0]
        # A seed of its own, so that the draws of the dimensions are independent and their mean has the right width.
        drawn.append(stratified_means([_difference(values) for values in tasks.values()], seed=seed)[1])
        weighted.append(differences / len(differences))
        single[dimension] = _of(scores, metric, drawn[-1], scores.mean(axis=0), differences)
    corrected = holm([found.p_value for found in single.values()])
    dimensions = {
        dimension: Difference(**{**vars(found), "p_holm": p})
        for (dimension, found), p in zip(single.items(), corrected, strict=True)
    }
    everything = [values for tasks in by_dimension.values() for values in tasks.values()]
    scores = np.concatenate(everything)
    means = np.mean([np.concatenate(list(tasks.values())).mean(axis=0) for tasks in by_dimension.values()], axis=0)
    macro = _of(scores, metric, np.mean(drawn, axis=0), means, np.concatenate(weighted))
    all_drawn = stratified_means([_difference(values) for values in everything])[1]
    micro = _of(scores, metric, all_drawn, scores.mean(axis=0), scores[:, 1] - scores[:, 0])
    return MetricComparison(dimensions, macro, micro)


def _difference(values: np.ndarray) -> np.ndarray:
    """(examples, 2) -> (examples, 1)."""
    return values[:, 1:] - values[:, :1]


def _of(scores: np.ndarray, metric: str, drawn: np.ndarray, means: np.ndarray, tested: np.ndarray) -> Difference:
    """From scores (examples, 2), the bootstrap draws of the difference, both means, and what the test permutes."""
    # Scores that are equal but for rounding are the same.
    signs = np.where(np.isclose(scores[:, 1], scores[:, 0]), 0, np.sign(scores[:, 1] - scores[:, 0]))
    better, worse = int((signs > 0).sum()), int((signs < 0).sum())
    both = int((scores == 100).all(axis=1).sum()) if metric == "plan_success" else None
    (estimate,) = estimates(np.array([means[1] - means[0]]), drawn)
    p_value = paired_p_value(np.where(signs == 0, 0, tested))
    same = len(scores) - better - worse
    return Difference(len(scores), *map(float, means), estimate, p_value, None, better, worse, same, both)


def comparison_tables(found: Comparison) -> str:
    """Markdown: a table a metric, then what was left out and the warnings."""
    parts = [f"# {found.a} (A) against {found.b} (B)\n\nB less A, in points of 100, over the examples both answered."]
    for name, metric in found.metrics.items():
        counts = ["B better", "B worse", "same"]
        if name.endswith("plan_success"):
            counts = ["B alone right", "A alone right", "both right", "neither"]
        head = [name, "n", "A", "B", "B - A (95 %)", "p", "p (Holm)", *counts]
        rows = [head]
        for dimension in DIMENSIONS:
            if dimension in metric.dimensions:
                rows.append([dimension, *_cells(metric.dimensions[dimension])])
            else:
                rows.append([dimension, *["-"] * (len(head) - 1)])
        over = len(metric.dimensions)
        part = f", {over} of {len(DIMENSIONS)}" if over < len(DIMENSIONS) else ""
        rows += [[f"macro{part}", *_cells(metric.macro)], [f"micro{part}", *_cells(metric.micro)]]
        parts.append(markdown_table(rows))
    notes = [f"{dimension} is missing: {reason}" for dimension, reason in found.missing.items()]
    for dimension, reasons in found.left_out.items():
        notes += [f"{dimension}: {count} left out, {reason}" for reason, count in reasons.items()]
    notes += [f"warning: {warning}" for warning in found.warnings]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    parts.append(
        "Intervals: bootstrap over examples, stratified by task. p: paired permutation test over examples, two-sided; "
        "Holm: corrected for the dimensions."
    )
    return "\n\n".join(parts)


def _cells(found: Difference) -> list[str]:
    e = found.difference
    counts = [found.better, found.worse, found.same]
    if found.both_right is not None:
        counts = [found.better, found.worse, found.both_right, found.same - found.both_right]
    return [
        str(found.examples),
        f"{found.a:.1f}",
        f"{found.b:.1f}",
        f"{e.mean:+.1f} ({e.low:+.1f} to {e.high:+.1f})",
        _shown(found.p_value),
        "" if found.p_holm is None else _shown(found.p_holm),
        *map(str, counts),
    ]


def _shown(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def write_comparison(results: Path, found: Comparison) -> Path:
    """Write a comparison below `results`, as JSON and Markdown. Returns the folder."""
    folder = results / "comparisons" / f"{found.a}_vs_{found.b}"
    write_json(folder / "comparison.json", asdict(found))
    write_text(folder / "comparison.md", comparison_tables(found) + "\n")
    return folder
