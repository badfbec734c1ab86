"""What a blind review comes to: summary.json, from what models wrote and judges said.

    {"items": 10, "models": ["baseline", "checkpoint-200"], "base": "baseline", "words": ["...", ...],
     "left_out": 0, "outputs": {MODEL: {"answered": 10, "failed": 0, "cut_by_length": 1}},
     "judges": {JUDGE: {
        "kind": "llm" | "reference" | "people",
        "models": {MODEL: {"items": 10, "judgements": 30, "failed": 0,
                           "scores": {"final_score": MEAN, "completeness": MEAN, ...} | null,
                           "over_base": {"items": 10, "final_score": MEAN, ...} | null,
                           "final_by_row": {"0": 3.25, ...}}},
        "controls": {CONTROL: {"items", "judgements", "failed", "final_score": MEAN | null,
                               "pairs", "wins", "win_rate": MEAN | null, "at_bottom": true | false | null}},
        "pairwise": {MODEL: {"items", "pairs", "failed", "wins", "losses", "ties", "flips",
                             "win_rate": MEAN | null, "flip_rate": 0.1 | null}} | null,
        "repeats": {"most": 3, "alpha": {"final_score": 0.8 | null, "completeness": ...}},  # of ratings
        "with": {"reference": {"spearman": 0.4 | null, "low", "high", "plans": 20}, "people": {...}}}},
     "between": [{"judges": ["a", "b"], "plans": 20, "alpha": {"final_score": 0.7 | null, ...}, "kappa": {...},
                  "spearman": MEAN | null, "pairs": {"plans": 10, "same": 7, "alpha": 0.6 | null} | null}]}

MEAN is {"mean", "low", "high"}: the mean over items of each item's mean over repeats, with a 95 % interval over
items. `over_base` is over the items that model and base share. Failed judgements are counted (`failed`) and never a
number. `pairs` were judged in both orders; in `win_rate` a tie counts half. The controls count for no
model, alpha, kappa or correlation. `with` has judges that rated the same plans, `between` those too that judged the
same pairs: `same` of their verdicts (win, tie or loss over all repeats). `left_out` judgements are of other rows,
models, bases, plans or pictures than these.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, TypeVar

import numpy as np

from configs.errors import UserError
from leap.blind.outputs import Output
from leap.judge.agreement import flip_rate, is_flip, pair_verdict
from leap.judge.base import base_first, base_of
from leap.judge.between import judge_agreement, repeat_agreement
from leap.judge.findings import in_words
from leap.judge.judgements import (
    CONTROLS,
    FINAL,
    HIGHEST,
    LOWEST,
    PAIRWISE,
    PEOPLE,
    PROGRAMS,
    REFERENCE_JUDGE,
    WRONG_PLANS,
    Judgement,
    judges_of,
)
from leap.judge.scores import SCORES, JudgeScores, ScoreByItem, points, scores_of
from leap.statistics import Estimate, bounded_means, holm, paired_p_value

# A control is at the bottom up to this mean final score, or below the middle of the scale if no model is below it; and
# up to this share of pairs won. Half a point and one pair in twenty, so that a single slip does not condemn a judge. A
# control that looks like a plan may beat the base, where the base's plans are no better, as often as the lowest model.
BOTTOM_SCORE, MIDDLE_SCORE, BOTTOM_WINS = 1.5, (LOWEST + HIGHEST) / 2, 0.05

_KINDS = {**dict.fromkeys(PROGRAMS, "program"), REFERENCE_JUDGE: "reference", PEOPLE: "people"}

_ROUNDING = 1e-9

ColumnKey = TypeVar("ColumnKey", bound=Hashable)


@dataclass(frozen=True)
class _JudgeEstimates:
    """What the models and controls come to by one judge: scores and differences from the base by (model, score), win
    rates by model. `columns` and `differences` are what was averaged."""

    columns: dict[tuple[str, str], ScoreByItem]
    differences: dict[tuple[str, str], ScoreByItem]
    scores: dict[tuple[str, str], Estimate]
    over_base: dict[tuple[str, str], Estimate]
    win_rates: dict[str, Estimate]

    def lowest_final(self, models: Sequence[str]) -> float | None:
        """The lowest mean final score of any of `models`."""
        return min((self.scores[name, FINAL].mean for name in models if (name, FINAL) in self.scores), default=None)

    def lowest_win_rate(self, models: Sequence[str]) -> float:
        """The lowest win rate of any of `models`, the base's own being a half."""
        return min((self.win_rates[name].mean for name in models if name in self.win_rates), default=0.5)


def summarise(
    outputs: Sequence[Output], judgements: Sequence[Judgement], base: str | None = None, left_out: int = 0
) -> dict[str, Any]:
    """The summary of a review, as this module describes it, whatever the order of the lines.

    `base` names the model that the others are compared with (UserError if it has no outputs); without, it is the one
    that pairs were judged against, or else the one that is called so. Judgements of models without outputs, and pairs
    with another base, are left out, and "words" says so; so it does of `left_out` that the caller did not hand over.
    """
    by_model: dict[str, list[Output]] = {}
    for output in outputs:
        if output.model not in CONTROLS:
            by_model.setdefault(output.model, []).append(output)
    if base is not None and base not in by_model:
        raise UserError(f"no outputs of the base {base!r}; there: {', '.join(by_model)}")
    base = base or base_of(judgements, by_model)
    models = base_first(by_model, base)
    names = {*by_model, *CONTROLS}
    counted = [
        judgement
        for judgement in judgements
        if judgement.model in names and (judgement.protocol != PAIRWISE or judgement.base == base)
    ]
    scores = {judge: scores_of(counted, judge) for judge in judges_of(counted)}
    between = judge_agreement(scores, models)
    summary = {
        "items": len({output.sample for output in outputs}),
        "models": models,
        "base": base,
        "words": [],
        "left_out": left_out + len(judgements) - len(counted),
        "outputs": {name: _output_counts(by_model[name]) for name in models},
        "judges": {judge: _judge(judge, scores[judge], models, base, between) for judge in scores},
        "between": between,
    }
    p_values = {judge: _adjusted_p_values(scores[judge], models, base) for judge in scores}
    summary["words"] = in_words(summary, p_values)
    return summary


def _output_counts(outputs: Sequence[Output]) -> dict[str, int]:
    return {
        "answered": sum(output.text is not None for output in outputs),
        "failed": sum(output.text is None for output in outputs),
        "cut_by_length": sum(output.text is not None and output.stop == "length" for output in outputs),
    }


def _judge(
    judge: str, scores: JudgeScores, models: Sequence[str], base: str | None, between: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    estimates = _judge_estimates(scores, models, base)
    judged_controls = [name for name in CONTROLS if name in scores.models]
    has_pairs = bool(scores.pairs or scores.failed_verdicts)
    return {
        "kind": _KINDS.get(judge, "llm"),
        "models": {name: _model_ratings(name, scores, estimates) for name in models},
        "controls": {name: _control(name, scores, estimates, models) for name in judged_controls},
        "pairwise": {name: _pairs(name, scores, estimates) for name in models if name != base} if has_pairs else None,
        "repeats": repeat_agreement(scores, models),
        "with": _correlations(judge, between),
    }


def _judge_estimates(scores: JudgeScores, models: Sequence[str], base: str | None) -> _JudgeEstimates:
    names = [*models, *CONTROLS]
    columns = {(name, score): scores.column(name, score) for name in names for score in SCORES}
    differences = {
        (name, score): _difference(columns[name, score], columns[base, score])
        for name in models
        for score in SCORES
        if base is not None and name != base
    }
    worth = {name: {s: fmean(points(pairs)) for s, pairs in scores.pairs_by_item(name).items()} for name in names}
    return _JudgeEstimates(
        columns,
        differences,
        scores=_estimates(columns, LOWEST, HIGHEST),
        over_base=_estimates(differences, LOWEST - HIGHEST, HIGHEST - LOWEST),
        win_rates=_estimates(worth, 0, 1),
    )


def _model_ratings(name: str, scores: JudgeScores, estimates: _JudgeEstimates) -> dict[str, Any]:
    finals = estimates.columns[name, FINAL]
    means = {s: asdict(estimates.scores[name, s]) for s in SCORES} if finals else None
    over_base: dict[str, Any] | None = None
    if (name, FINAL) in estimates.over_base:
        over_base = {"items": len(estimates.differences[name, FINAL])}
        over_base |= {score: asdict(estimates.over_base[name, score]) for score in SCORES}
    return {
        "items": len(finals),
        **_rating_counts(name, scores),
        "scores": means,
        "over_base": over_base,
        "final_by_row": {str(sample): round(mean, 6) for sample, mean in sorted(finals.items())},
    }


def _rating_counts(name: str, scores: JudgeScores) -> dict[str, int]:
    judgements = sum(len(repeats) for (model, _), repeats in scores.ratings.items() if model == name)
    return {"judgements": judgements, "failed": scores.failed_ratings[name]}


def _control(name: str, scores: JudgeScores, estimates: _JudgeEstimates, models: Sequence[str]) -> dict[str, Any]:
    final, win_rate = estimates.scores.get((name, FINAL)), estimates.win_rates.get(name)
    pairs = [pair for pairs_of_item in scores.pairs_by_item(name).values() for pair in pairs_of_item]
    wins = sum(pair_verdict(*pair) == "model" for pair in pairs)
    counts = _rating_counts(name, scores)
    counts["failed"] += scores.failed_verdicts[name]
    passes = []
    if final:
        lowest = estimates.lowest_final(models)
        below_models = lowest is not None and final.mean <= lowest + _ROUNDING and final.mean < MIDDLE_SCORE
        passes.append(below_models or final.mean <= BOTTOM_SCORE + _ROUNDING)
    if pairs:
        lowest_rate = min(0.5, estimates.lowest_win_rate(models)) + _ROUNDING
        below_models = name in WRONG_PLANS and win_rate is not None and win_rate.mean <= lowest_rate
        passes.append(below_models or wins <= BOTTOM_WINS * len(pairs))
    return {
        "items": len({sample for model, sample in [*scores.ratings, *scores.pairs] if model == name}),
        **counts,
        "final_score": asdict(final) if final else None,
        "pairs": len(pairs),
        "wins": wins,
        "win_rate": asdict(win_rate) if win_rate else None,
        "at_bottom": all(passes) if passes else None,
    }


def _pairs(name: str, scores: JudgeScores, estimates: _JudgeEstimates) -> dict[str, Any]:
    by_item, win_rate = scores.pairs_by_item(name), estimates.win_rates.get(name)
    pairs = [pair for pairs_of_item in by_item.values() for pair in pairs_of_item]
    verdicts = [pair_verdict(*pair) for pair in pairs]
    return {
        "items": len(by_item),
        "pairs": len(pairs),
        "failed": scores.failed_verdicts[name],
        "wins": verdicts.count("model"),
        "losses": verdicts.count("base"),
        "ties": verdicts.count("tie"),
        "flips": sum(is_flip(*pair) for pair in pairs),
        "win_rate": asdict(win_rate) if win_rate else None,
        "flip_rate": flip_rate(pairs),
    }


def _correlations(judge: str, between: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How a judge's ranks go with those of the reference judge and of people."""
    correlations = {}
    for pair in between:
        for other in pair["judges"]:
            if judge in pair["judges"] and other != judge and other in (REFERENCE_JUDGE, PEOPLE) and pair["plans"]:
                ranks = pair["spearman"] or {"mean": None, "low": None, "high": None}
                ends = {"low": ranks["low"], "high": ranks["high"]}
                correlations[other] = {"spearman": ranks["mean"], **ends, "plans": pair["plans"]}
    return correlations


def _adjusted_p_values(scores: JudgeScores, models: Sequence[str], base: str | None) -> dict[str, float]:
    """p-value of each model's difference from the base in the final score, by a paired permutation test over items,
    adjusted for the number of models (Holm)."""
    finals_of_base = scores.column(base, FINAL) if base is not None else {}
    p_values = {}
    for name in models:
        differences = _difference(scores.column(name, FINAL), finals_of_base) if name != base else {}
        if differences:
            p_values[name] = paired_p_value([differences[sample] for sample in sorted(differences)])
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _difference(model: ScoreByItem, base: ScoreByItem) -> ScoreByItem:
    """Over the items of both: an item that only one was judged on would make an easy item look like a better model."""
    return {sample: model[sample] - base[sample] for sample in model.keys() & base.keys()}


def _estimates(columns: Mapping[ColumnKey, ScoreByItem], lowest: float, highest: float) -> dict[ColumnKey, Estimate]:
    """The mean of each column that has values, which `lowest` and `highest` bound, with its interval.

    Judgements of one item hang together, over repeats and scales. So it is items that vary: more repeats do not narrow
    an interval as more items do. A single item bounds nothing.
    """
    estimates = {}
    for key, column in columns.items():
        if column:
            values = np.array([[column[sample]] for sample in sorted(column)])  # (items, 1)
            one_stratum, items = np.zeros(len(values), dtype=int), np.arange(len(values))
            (estimate,) = bounded_means(values, one_stratum, items, np.array([lowest]), np.array([highest]))
            estimates[key] = estimate if len(column) > 1 else Estimate(estimate.mean, lowest, highest)
    return estimates
