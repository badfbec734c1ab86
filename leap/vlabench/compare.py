"""Two models over the examples that both answered: paired differences by dimension, macro and micro.

eva_results/comparisons/<A>_vs_<B>/
    comparison.json    a `Comparison` as JSON
    comparison.md      the same as tables, with what was left out and every warning

A difference is B less A. Its interval and what counts as one observation are those of leap.vlabench.sampling; its
p-value is a paired permutation test, seeded, that flips the examples of a unit together. P-values are also given
corrected after Holm: those of dimensions over all dimensions of all models compared at once, those of macro and of
micro, each a question of its own, over the models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from pathlib import Path

import numpy as np

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import write_json, write_text
from leap.plans.measures import MEASURES
from leap.plans.scoring import METRICS
from leap.statistics import Estimate, holm, paired_p_value
from leap.text import markdown_table
from leap.vlabench.draws import draw_notes
from leap.vlabench.folder import (
    SCORE_FILES,
    ExampleKey,
    ResultFolder,
    differing_settings,
    models_in,
)
from leap.vlabench.sampling import Origin, Sample, sample_of

DEFAULT_METRICS = ("official.total_score", "grounded.total_score")

_RESCORE = "Score both again: python scripts/evaluation/rescore.py"


@dataclass(frozen=True)
class Difference:
    """B less A over `examples`, in points (0 to 100): means of both, the difference with its interval, its p-value.

    `p_holm` is corrected for what else is compared, as the module says. `better`, `worse` and `same` count
    examples by B's score against A's; `both_right` is given for plan_success, where better means B alone is right.
    """

    examples: int
    a: float
    b: float
    difference: Estimate
    p_value: float
    p_holm: float
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
    models: int = 2  # compared at once, the base included: what p-values are corrected for
    draws: list[str] = field(default_factory=list)  # of models whose answers were drawn several times


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


def compare_all(
    results: Path, base: str, others: Sequence[str], metrics: Sequence[str] = DEFAULT_METRICS
) -> list[Comparison]:
    """Compare each of `others` with `base`, their p-values corrected for all at once. UserError as `compare`."""
    comparisons = [compare(results, base, other, metrics) for other in others]
    corrected = {name: _corrected([comparison.metrics[name] for comparison in comparisons]) for name in metrics}
    return [
        replace(
            comparison, metrics={name: corrected[name][i] for name in metrics}, models=len(dict.fromkeys(others)) + 1
        )
        for i, comparison in enumerate(comparisons)
    ]


def _corrected(comparisons: Sequence[MetricComparison]) -> list[MetricComparison]:
    """One metric of several models with `p_holm` over all of them: over the dimensions, over macro, over micro."""
    of_dimensions = iter(holm([d.p_value for each in comparisons for d in each.dimensions.values()]))
    dimensions = [
        {name: replace(d, p_holm=next(of_dimensions)) for name, d in each.dimensions.items()} for each in comparisons
    ]
    macro, micro = (holm([getattr(each, mean).p_value for each in comparisons]) for mean in ("macro", "micro"))
    return [
        MetricComparison(dimensions[i], replace(each.macro, p_holm=macro[i]), replace(each.micro, p_holm=micro[i]))
        for i, each in enumerate(comparisons)
    ]


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
        origins = _origins(*pair)
        if any(key not in origins for key in keys):
            warnings.append(f"which examples share an instruction or a scene is not recorded. {_RESCORE}")
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
        draws=draw_notes(results, [a, b]),
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
    prompts_a, prompts_b = _comparable_prompts(a, b)
    for what, sha256s_a, sha256s_b, advice in (
        ("scored against other ground truth", a.truth_sha256s, b.truth_sha256s, _RESCORE),
        ("asked in other words", prompts_a, prompts_b, "Evaluate both on the same benchmark folder"),
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
    origins = {dimension: _origins(*folders) for dimension, folders in pairs.items()}
    scores = {
        dimension: {key: [folder.scores(scorer)[key][metric] for folder in pairs[dimension]] for key in keys}
        for dimension, keys in common.items()
    }
    dimensions = {
        dimension: _difference(sample_of({dimension: keys}, origins), scores, name)
        for dimension, keys in common.items()
    }
    sample = sample_of(common, origins)
    macro, micro = _difference(sample, scores, name, macro=True), _difference(sample, scores, name)
    return _corrected([MetricComparison(dimensions, macro, micro)])[0]


def _origins(a: ResultFolder, b: ResultFolder) -> dict[ExampleKey, Origin]:
    """What examples share, as recorded with either model: both were given the same ones."""
    return {**b.origins, **a.origins}


def _difference(
    sample: Sample, scores: Mapping[str, Mapping[ExampleKey, Sequence[float]]], name: str, *, macro: bool = False
) -> Difference:
    """Of the metric `name`, from the scores of both models by dimension and example."""
    values = sample.values(scores)  # (examples, 2)
    gains = _gains(values[:, 0], values[:, 1])
    # An example of a dimension of n weighs 1/n in macro, in the means as in the test.
    weights = sample.macro_weights if macro else np.ones(len(gains))
    estimate = sample.difference_estimate(gains, MEASURES[name].best, macro=macro)
    p_value = paired_p_value(sample.unit_sums(weights * gains))
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    both_right = int((values == 100).all(axis=1).sum()) if name.endswith("plan_success") else None
    mean_a, mean_b = np.average(values, axis=0, weights=weights).tolist()
    counts = better, worse, len(gains) - better - worse, both_right
    return Difference(len(gains), mean_a, mean_b, estimate, p_value, p_value, *counts)


def _gains(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scores b less scores a; those that are equal but for rounding are the same."""
    gains = b - a
    gains[np.isclose(b, a)] = 0
    return gains


@dataclass(frozen=True)
class ScoreColumns:
    """Scores of one scorer of many models, which are compared pair by pair; read once, and as numbers, for there may be
    very many. By dimension: `keys` of all examples, sorted. By model, then dimension: `values` (examples, metrics), NaN
    where the model has none, and `origins`."""

    scorer: str
    metrics: Sequence[str]
    keys: dict[str, list[ExampleKey]]
    values: dict[str, dict[str, np.ndarray]]
    origins: dict[str, dict[str, Mapping[ExampleKey, Origin]]]


def score_columns(results: Path, models: Sequence[str], scorer: str, metrics: Sequence[str]) -> ScoreColumns:
    columns = ScoreColumns(scorer, metrics, {}, {name: {} for name in models}, {name: {} for name in models})
    shared: dict[tuple, Origin] = {}  # one object for those that are equal
    for dimension in DIMENSIONS:
        entries: dict[str, dict[ExampleKey, list[float]]] = {}
        for name in columns.values:
            folder = ResultFolder(results / dimension / name)
            entries[name] = {key: [each[m] for m in metrics] for key, each in folder.scores(scorer).items()}
            columns.origins[name][dimension] = {
                key: shared.setdefault(tuple(origin.items()), origin) for key, origin in folder.origins.items()
            }
        columns.keys[dimension] = sorted({key for of_model in entries.values() for key in of_model})
        places = {key: place for place, key in enumerate(columns.keys[dimension])}
        for name, of_model in entries.items():
            values = columns.values[name][dimension] = np.full((len(places), len(metrics)), np.nan)
            for key, scores in of_model.items():
                values[places[key]] = scores
    return columns


def improvements(
    results: Path, models: Sequence[str], base: str, scorer: str, metric: str = "total_score"
) -> dict[str, Improvement]:
    """The improvement of each model (but `base`) over `base`, with the intervals of `compare`. A model that shares no
    example with it is left out."""
    columns = score_columns(results, list(dict.fromkeys([base, *models])), scorer, [metric])
    return improvements_over([columns], models, base)[f"{scorer}.{metric}"]


def improvements_over(
    columns: Sequence[ScoreColumns], models: Sequence[str], base: str
) -> dict[str, dict[str, Improvement]]:
    """`improvements` by "<scorer>.<metric>" of the columns, which are of one benchmark."""
    names = [f"{each.scorer}.{metric}" for each in columns for metric in each.metrics]
    by_metric: dict[str, dict[str, Improvement]] = {name: {} for name in names}
    for name in models:
        pairing: _Pairing | None = None
        for each in columns if name != base else ():
            common, gains, unpaired = _paired_scores(each, base, name)
            if not common:
                continue
            if pairing is None or pairing.common != common:  # mostly both scorers have scored the same examples
                origins = {d: {**each.origins[name][d], **each.origins[base][d]} for d in common}
                dimensions = {dimension: sample_of({dimension: keys}, origins) for dimension, keys in common.items()}
                pairing = _Pairing(common, dimensions, sample_of(common, origins))
            all_gains = np.concatenate(list(gains.values()))
            for place, metric in enumerate(each.metrics):
                best = MEASURES[f"{each.scorer}.{metric}"].best
                estimates = {
                    d: sample.difference_estimate(gains[d][:, place], best) for d, sample in pairing.dimensions.items()
                }
                macro = None
                if len(common) == len(DIMENSIONS):
                    macro = pairing.whole.difference_estimate(all_gains[:, place], best, macro=True)
                improvement = Improvement(estimates, macro, len(all_gains), unpaired)
                by_metric[f"{each.scorer}.{metric}"][name] = improvement
    return by_metric


@dataclass(frozen=True)
class _Pairing:
    """The examples that two models both answered, by dimension, as samples: of each dimension, and of all."""

    common: dict[str, list[ExampleKey]]
    dimensions: dict[str, Sample]
    whole: Sample


def _paired_scores(
    columns: ScoreColumns, base: str, name: str
) -> tuple[dict[str, list[ExampleKey]], dict[str, np.ndarray], int]:
    """By dimension the examples that both models answered, in the order of samples, and what `name` has over `base`
    there (examples, metrics); and how many only one of them answered."""
    common: dict[str, list[ExampleKey]] = {}
    gains: dict[str, np.ndarray] = {}
    unpaired = 0
    for dimension, keys in columns.keys.items():
        ours, theirs = columns.values[base][dimension], columns.values[name][dimension]
        has_ours, has_theirs = (~np.isnan(values).any(axis=1) for values in (ours, theirs))
        paired = has_ours & has_theirs
        unpaired += int((has_ours ^ has_theirs).sum()) if has_ours.any() and has_theirs.any() else 0
        if paired.any():
            common[dimension] = list(compress(keys, paired))
            gains[dimension] = _gains(ours[paired], theirs[paired])
    return common, gains, unpaired


def comparison_tables(comparison: Comparison, *, relative: bool = False) -> str:
    """Markdown: a table a metric, then what was left out and the warnings; `relative` adds per cent of A."""
    parts = [
        f"# {comparison.a} (A) against {comparison.b} (B)\n\n"
        "B less A, in points of 100, over the examples both answered."
    ]
    for name, metric in comparison.metrics.items():
        counts = ["B better", "B worse", "same"]
        if name.endswith("plan_success"):
            counts = ["B alone right", "A alone right", "both right", "neither"]
        percent = ["B - A in % of A"] if relative else []
        head = [MEASURES[name].label, "n", "A", "B", "B - A (95 %)", *percent, "p", "p (Holm)", *counts]
        rows = [head]
        for dimension in DIMENSIONS:
            if dimension in metric.dimensions:
                rows.append([dimension, *_cells(metric.dimensions[dimension], relative=relative)])
            else:
                rows.append([dimension, *["-"] * (len(head) - 1)])
        over = len(metric.dimensions)
        part = f", {over} of {len(DIMENSIONS)}" if over < len(DIMENSIONS) else ""
        for mean, difference in (("macro", metric.macro), ("micro", metric.micro)):
            rows.append([f"{mean}{part}", *_cells(difference, relative=relative)])
        parts.append(markdown_table(rows))
    notes = list(comparison.draws)
    notes += [f"{dimension} is missing: {reason}" for dimension, reason in comparison.missing.items()]
    for dimension, reasons in comparison.left_out.items():
        notes += [f"{dimension}: {count} left out, {reason}" for reason, count in reasons.items()]
    notes += [f"warning: {warning}" for warning in comparison.warnings]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    parts.append(
        "Intervals: 95 %, over examples, stratified by task, examples of one instruction or scene taken as one. p: "
        "paired permutation test, two-sided; Holm: corrected for the dimensions"
        + (f" and the {comparison.models - 1} models compared at once." if comparison.models > 2 else ".")
    )
    return "\n\n".join(parts)


def _cells(difference: Difference, *, relative: bool) -> list[str]:
    counts = [difference.better, difference.worse, difference.same]
    if difference.both_right is not None:
        counts = [difference.better, difference.worse, difference.both_right, difference.same - difference.both_right]
    return [
        str(difference.examples),
        f"{difference.a:.1f}",
        f"{difference.b:.1f}",
        difference.difference.text("+.1f"),
        *([percent_text(difference.a, difference.b)] if relative else []),
        _p_text(difference.p_value),
        _p_text(difference.p_holm),
        *map(str, counts),
    ]


def percent_text(a: float, b: float) -> str:
    """`b` less `a` in per cent of `a`, which says nothing where that is 0."""
    return f"{100 * (b - a) / a:+.0f} %" if a else "-"


def _p_text(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def write_comparison(results: Path, comparison: Comparison) -> Path:
    """Write a comparison below `results`, as JSON and Markdown. Returns the folder."""
    folder = results / "comparisons" / f"{comparison.a}_vs_{comparison.b}"
    write_json(folder / "comparison.json", asdict(comparison))
    write_text(folder / "comparison.md", comparison_tables(comparison) + "\n")
    return folder
