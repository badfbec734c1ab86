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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import write_json, write_text
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS
from leap.statistics import Estimate, estimates, holm, paired_p_value, stratified_means
from leap.text import markdown_table
from leap.vlabench.folder import (
    SCORE_FILES,
    ExampleKey,
    ResultFolder,
    differing_settings,
    models_in,
    result_folders,
)

DEFAULT_METRICS = ("official.total_score", "grounded.total_score")

_RESCORE = "Score both again: python scripts/evaluation/rescore.py"


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


@dataclass(frozen=True)
class Improvement:
    """How much better a model is than the base over the examples that both answered, in points, as `Comparison` has it
    but without tests, which take too long for many models.

    `macro` is the mean of the six dimensions, None where one is missing. `unpaired` counts the examples that only one
    of the two answered, of the dimensions that both have.
    """

    dimensions: dict[str, Estimate]
    macro: Estimate | None
    examples: int
    unpaired: int


def metrics_named(words: Sequence[str]) -> list[str]:
    """Each word as "<scorer>.<metric>"; one without its scorer means all that have the metric. UserError otherwise."""
    names = [f"{scorer}.{metric}" for scorer, metrics in METRICS.items() for metric in metrics]
    chosen = []
    for word in words or DEFAULT_METRICS:
        meant = [name for name in names if word in (name, name.split(".")[1])]
        if not meant:
            raise UserError(f"unknown metric {word!r}; choose from {', '.join(names)}, or without the scorer")
        chosen += meant
    return list(dict.fromkeys(chosen))


def compare(results: Path, a: str, b: str, metrics: Sequence[str] = DEFAULT_METRICS) -> Comparison:
    """Compare two models in `results` by metrics named "<scorer>.<metric>".

    UserError if one has no results, no dimension is common to both, or their data differ: other ground truth, other
    instructions or other pictures. Settings that differ, and what could not be checked, become warnings.
    """
    present = models_in(results)
    for name in (a, b):
        if name not in present:
            raise UserError(f"no results of {name!r} in {results}; there: {', '.join(present) or 'none'}")
    common: dict[str, list[ExampleKey]] = {}
    pairs: dict[str, tuple[ResultFolder, ResultFolder]] = {}
    missing, left_out, warnings = {}, {}, []
    for dimension in DIMENSIONS:
        pair = ResultFolder(results / dimension / a), ResultFolder(results / dimension / b)
        without = [folder.model for folder in pair if not (folder.path / SCORE_FILES["official"]).is_file()]
        if without:
            missing[dimension] = f"no results of {' and '.join(without)}"
            continue
        left_out[dimension] = _left_out(*pair)
        keys = [key for key in pair[0].official_scores if key in pair[1].official_scores]
        if not keys:
            missing[dimension] = "no example that both answered"
            continue
        warnings += _check_data(dimension, *pair, keys) + _other_settings(*pair)
        common[dimension], pairs[dimension] = keys, pair
    if not common:
        reasons = "; ".join(f"{dimension}: {reason}" for dimension, reason in missing.items())
        raise UserError(f"nothing to compare between {a} and {b}: {reasons}")
    return Comparison(
        a,
        b,
        {name: _compare_metric(name, common, pairs) for name in metrics},
        missing,
        {dimension: counts for dimension, counts in left_out.items() if counts},
        list(dict.fromkeys(warnings)),
    )


def _left_out(a: ResultFolder, b: ResultFolder) -> dict[str, int]:
    """How many examples of a dimension are not compared, by reason."""
    kinds = {"machine": "machine failure", "data": "bad example"}
    counts: Counter[str] = Counter()
    for folder, other in ((a, b), (b, a)):
        for key in sorted(other.official_scores.keys() - folder.official_scores.keys()):
            why = kinds[folder.failures[key].kind] if key in folder.failures else "not asked"
            counts[f"not answered by {folder.model}: {why}"] += 1
    in_benchmark = max(folder.summary.examples.in_benchmark if folder.summary else 0 for folder in (a, b))
    neither = in_benchmark - len(a.official_scores.keys() | b.official_scores.keys())
    if neither > 0:
        counts["answered by neither"] = neither
    return dict(counts)


def _check_data(dimension: str, a: ResultFolder, b: ResultFolder, common: Sequence[ExampleKey]) -> list[str]:
    """Warnings about what could not be checked; UserError if the two models were not given the same data."""
    for what, sha256s_a, sha256s_b, advice in (
        ("scored against other ground truth", a.truth_sha256s, b.truth_sha256s, _RESCORE),
        ("asked in other words", *_comparable_prompts(a, b), "Evaluate both on the same benchmark folder"),
    ):
        hashed = (key for key in common if key in sha256s_a and key in sha256s_b)
        differ = [key for key in hashed if sha256s_a[key] != sha256s_b[key]]
        if differ:
            raise UserError(
                f"{a.model} and {b.model} were {what} in {dimension} ({len(differ)} of {len(common)} examples, first "
                f"example{differ[0][1]} of {differ[0][0]}), so their scores do not compare. {advice}"
            )
    same_examples = a.official_scores.keys() == b.official_scores.keys()
    data_sha256s = [folder.summary and folder.summary.provenance.get("data_sha256") for folder in (a, b)]
    if same_examples and all(data_sha256s):
        if data_sha256s[0] != data_sha256s[1]:
            raise UserError(
                f"{a.model} and {b.model} were evaluated on other data in {dimension}: pictures, instructions or "
                "ground truth differ, so their scores do not compare. Evaluate both on the same benchmark folder"
            )
        return []
    warnings = []
    if any(key not in folder.truth_sha256s for key in common for folder in (a, b)):
        warnings.append(f"whether both were scored against the same ground truth is not recorded. {_RESCORE}")
    why = "a data hash is missing" if same_examples else "they did not answer the same examples"
    return [*warnings, f"whether both saw the same pictures could not be checked: {why}"]


def _comparable_prompts(*pair: ResultFolder) -> Iterator[dict[ExampleKey, str]]:
    """Hashes of the prompts of each model, where both were to be written alike."""
    first, second = (folder.settings.get("prompt") for folder in pair)
    alike = first and first == second
    for folder in pair:
        answers = folder.answers.items() if alike else ()
        yield {key: answer.prompt_sha256 for key, answer in answers if answer.prompt_sha256 is not None}


def _other_settings(a: ResultFolder, b: ResultFolder) -> list[str]:
    """Settings, other than the model, in which two evaluations differ, and versions of the scorers."""
    warnings = [
        f"settings differ: {key} is {of_a} for {a.model}, {of_b} for {b.model}"
        for key, (of_a, of_b) in differing_settings(a.settings, b.settings).items()
    ]
    if a.scorers != b.scorers:
        warnings.append(f"{a.model} and {b.model} were scored by different versions of the scorers. {_RESCORE}")
    return warnings


def _compare_metric(
    name: str, common: Mapping[str, Sequence[ExampleKey]], pairs: Mapping[str, Sequence[ResultFolder]]
) -> MetricComparison:
    scorer, metric = name.split(".")
    strata: dict[str, list[np.ndarray]] = {}
    draws, weighted, dimensions = [], [], {}
    for seed, (dimension, keys) in enumerate(common.items()):
        columns = [{key: folder.scores(scorer)[key][metric] for key in keys} for folder in pairs[dimension]]
        strata[dimension] = _strata(keys, columns)
        draws.append(_paired_bootstrap(strata[dimension], seed)[1])
        scores = np.concatenate(strata[dimension])
        gains = scores[:, 1] - scores[:, 0]
        weighted.append(gains / len(gains))
        dimensions[dimension] = _difference(scores, metric, draws[-1], scores.mean(axis=0), gains)
    corrected = holm([difference.p_value for difference in dimensions.values()])
    dimensions = {name: replace(d, p_holm=p) for (name, d), p in zip(dimensions.items(), corrected, strict=True)}
    all_strata = [values for tasks in strata.values() for values in tasks]
    scores = np.concatenate(all_strata)
    means = np.mean([np.concatenate(tasks).mean(axis=0) for tasks in strata.values()], axis=0)
    # An example of a dimension of n weighs 1/n in macro, in the means as in the test.
    macro = _difference(scores, metric, np.mean(draws, axis=0), means, np.concatenate(weighted))
    all_draws = _paired_bootstrap(all_strata)[1]
    micro = _difference(scores, metric, all_draws, scores.mean(axis=0), scores[:, 1] - scores[:, 0])
    return MetricComparison(dimensions, macro, micro)


def _strata(keys: Sequence[ExampleKey], columns: Sequence[Mapping[ExampleKey, float]]) -> list[np.ndarray]:
    """The scores of some models, the base first, as an array (examples, models) a task."""
    rows: dict[str, list[list[float]]] = {}
    for key in keys:
        rows.setdefault(key[0], []).append([scores[key] for scores in columns])
    return [np.array(values, dtype=float) for values in rows.values()]


def _paired_bootstrap(strata: Sequence[np.ndarray], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The mean difference of each model from the base, and its bootstrap distribution: (models,), (resamples, models).

    What is resampled are the differences of the same example, so that what makes examples differ falls out. A seed a
    dimension makes the draws of the dimensions independent, and their mean has the right width.
    """
    return stratified_means([values[:, 1:] - values[:, :1] for values in strata], seed=seed)


def _difference(scores: np.ndarray, metric: str, draws: np.ndarray, means: np.ndarray, gains: np.ndarray) -> Difference:
    """From scores (examples, 2), the bootstrap draws of the difference, both means, and what the test permutes."""
    # Scores that are equal but for rounding are the same.
    signs = np.where(np.isclose(scores[:, 1], scores[:, 0]), 0, np.sign(scores[:, 1] - scores[:, 0]))
    better, worse = int((signs > 0).sum()), int((signs < 0).sum())
    both_right = int((scores == 100).all(axis=1).sum()) if metric == "plan_success" else None
    (estimate,) = estimates(np.array([means[1] - means[0]]), draws)
    p_value = paired_p_value(np.where(signs == 0, 0, gains))
    same = len(scores) - better - worse
    return Difference(len(scores), *map(float, means), estimate, p_value, None, better, worse, same, both_right)


def improvements(
    results: Path, models: Sequence[str], base: str, scorer: str, metric: str = "total_score"
) -> dict[str, Improvement]:
    """The improvement of each model (but `base`) over `base`. A model that shares no example with it is left out."""
    base_scores = _example_scores(results, base, scorer, metric)
    scores = {name: _example_scores(results, name, scorer, metric) for name in models if name != base}
    draws: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {name: {} for name in scores}
    paired, unpaired = Counter[str](), Counter[str]()
    for seed, dimension in enumerate(DIMENSIONS):
        # Models with the same examples share one resampling, which is what costs time.
        alike: dict[tuple[ExampleKey, ...], list[str]] = {}
        for name in scores:
            keys = base_scores[dimension].keys(), scores[name][dimension].keys()
            common = keys[0] & keys[1]
            paired[name] += len(common)
            unpaired[name] += len(keys[0] ^ keys[1]) if all(keys) else 0
            if common:
                # Numbers in the order of their text, as figures have always drawn them: others give other draws.
                alike.setdefault(tuple(sorted(common, key=lambda key: (key[0], str(key[1])))), []).append(name)
        for order, names in alike.items():
            columns = [base_scores[dimension], *(scores[name][dimension] for name in names)]
            mean, drawn = _paired_bootstrap(_strata(order, columns), seed)
            for i, name in enumerate(names):
                draws[name][dimension] = (mean[i : i + 1], drawn[:, i : i + 1])
    return {
        name: Improvement(
            {dimension: estimates(*of_dimension)[0] for dimension, of_dimension in by_dimension.items()},
            _macro(by_dimension),
            paired[name],
            unpaired[name],
        )
        for name, by_dimension in draws.items()
        if by_dimension
    }


def _example_scores(results: Path, model: str, scorer: str, metric: str) -> dict[str, dict[ExampleKey, float]]:
    """One metric of each example by dimension."""
    return {
        dimension: {key: float(entry[metric]) for key, entry in folder.scores(scorer).items()}
        for dimension, folder in result_folders(results, model).items()
    }


def _macro(by_dimension: dict[str, tuple[np.ndarray, np.ndarray]]) -> Estimate | None:
    if len(by_dimension) < len(DIMENSIONS):
        return None
    means, draws = zip(*by_dimension.values(), strict=True)
    return estimates(np.mean(means, axis=0), np.mean(draws, axis=0))[0]


def comparison_tables(comparison: Comparison) -> str:
    """Markdown: a table a metric, then what was left out and the warnings."""
    parts = [
        f"# {comparison.a} (A) against {comparison.b} (B)\n\n"
        "B less A, in points of 100, over the examples both answered."
    ]
    for name, metric in comparison.metrics.items():
        counts = ["B better", "B worse", "same"]
        if name.endswith("plan_success"):
            counts = ["B alone right", "A alone right", "both right", "neither"]
        head = [MEASURES[name].label, "n", "A", "B", "B - A (95 %)", "p", "p (Holm)", *counts]
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
    notes = [f"{dimension} is missing: {reason}" for dimension, reason in comparison.missing.items()]
    for dimension, reasons in comparison.left_out.items():
        notes += [f"{dimension}: {count} left out, {reason}" for reason, count in reasons.items()]
    notes += [f"warning: {warning}" for warning in comparison.warnings]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    parts.append(
        "Intervals: bootstrap over examples, stratified by task. p: paired permutation test over examples, two-sided; "
        "Holm: corrected for the dimensions."
    )
    return "\n\n".join(parts)


def _cells(difference: Difference) -> list[str]:
    e = difference.difference
    counts = [difference.better, difference.worse, difference.same]
    if difference.both_right is not None:
        counts = [difference.better, difference.worse, difference.both_right, difference.same - difference.both_right]
    return [
        str(difference.examples),
        f"{difference.a:.1f}",
        f"{difference.b:.1f}",
        f"{e.mean:+.1f} ({e.low:+.1f} to {e.high:+.1f})",
        _p_text(difference.p_value),
        "" if difference.p_holm is None else _p_text(difference.p_holm),
        *map(str, counts),
    ]


def _p_text(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def write_comparison(results: Path, comparison: Comparison) -> Path:
    """Write a comparison below `results`, as JSON and Markdown. Returns the folder."""
    folder = results / "comparisons" / f"{comparison.a}_vs_{comparison.b}"
    write_json(folder / "comparison.json", asdict(comparison))
    write_text(folder / "comparison.md", comparison_tables(comparison) + "\n")
    return folder
