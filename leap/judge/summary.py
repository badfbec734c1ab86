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

MEAN is {"mean", "low", "high"}: the mean over items of each item's mean over repeats, with a 95 % bootstrap interval
that resamples items. `over_base` is over the items that model and base share. Failed judgements are counted (`failed`)
and never a number. `pairs` were judged in both orders; in `win_rate` a tie counts half. The controls count for no
model, alpha, kappa or correlation. `with` has judges that rated the same plans, `between` those too that judged the
same pairs: `same` of their verdicts (win, tie or loss over all repeats). `left_out` judgements are of other rows,
models, bases, plans or pictures than these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np

from configs.errors import UserError
from leap.blind.outputs import Output
from leap.files import write_csv
from leap.judge.agreement import flip_rate, is_flip, krippendorff_alpha, quadratic_kappa, settled, spearman
from leap.judge.findings import in_words
from leap.judge.judgements import (
    CONTROLS,
    FINAL,
    HIGHEST,
    LOWEST,
    PAIRWISE,
    PEOPLE,
    REFERENCE_JUDGE,
    SCALES,
    Judgement,
    judges_of,
)
from leap.judge.scores import SCORES, Plan, Said, columns_of, points, said_by
from leap.models.names import base_suffix, curve_and_step
from leap.statistics import Estimate, clustered_means, estimate_of_few, holm, paired_p_value
from leap.text import markdown_table

_ORIGINAL_COLUMNS = ("model_name", "sample_idx", "judge_raw", *SCALES, FINAL)
CSV_COLUMNS = (*_ORIGINAL_COLUMNS, "judge", "protocol", "repeat", "base", "model_first", "verdict", "failure")

# A control is at the bottom up to this mean final score, or below the middle of the scale if no model is below it; and
# up to this share of pairs won.
BOTTOM_SCORE, MIDDLE_SCORE, BOTTOM_WINS = 1.5, (LOWEST + HIGHEST) / 2, 0.05

_ROUNDING = 1e-9

Key = TypeVar("Key")
ByItem = dict[int, float]


def summarise(
    outputs: Sequence[Output], judgements: Sequence[Judgement], base: str | None = None, left_out: int = 0
) -> dict[str, Any]:
    """The summary of a review, as this module describes it, whatever the order of the lines.

    `base` names the model that the others are compared with (UserError if it has no outputs); without, it is the one
    that pairs were judged against, or else the one that is called so. Judgements of models without outputs, and pairs
    with another base, are left out, and "words" says so; so it does of `left_out` that the caller did not hand over.
    """
    written: dict[str, list[Output]] = {}
    for output in outputs:
        if output.model not in CONTROLS:
            written.setdefault(output.model, []).append(output)
    if base is not None and base not in written:
        raise UserError(f"no outputs of the base {base!r}; there: {', '.join(written)}")
    base = base or _base(written, judgements)
    models = sorted(written, key=lambda name: _place(name, base))
    known = [
        one
        for one in judgements
        if (one.model in written or one.model in CONTROLS) and (one.protocol != PAIRWISE or one.base == base)
    ]
    said = {judge: said_by(known, judge) for judge in judges_of(known)}
    between = [found for pair in combinations(said, 2) if (found := _between(pair, said, models))]
    summary = {
        "items": len({output.sample for output in outputs}),
        "models": models,
        "base": base,
        "words": [],
        "left_out": left_out + len(judgements) - len(known),
        "outputs": {name: _counts(written[name]) for name in models},
        "judges": {judge: _judge(judge, of, models, base, between) for judge, of in said.items()},
        "between": between,
    }
    tests = {judge: _adjusted_p_values(of, models, base) for judge, of in said.items()}
    summary["words"] = in_words(summary, tests)
    return summary


def _base(written: Iterable[str], judgements: Iterable[Judgement]) -> str | None:
    named = {judgement.base for judgement in judgements if judgement.protocol == PAIRWISE}
    return min((name for name in written if name in named), default=None) or base_in(written)


def base_in(models: Iterable[str]) -> str | None:
    """The model that is called baseline, as "Baseline" too; None if there is none."""
    return min(
        (name for name in models if base_suffix(name.lower()) is not None),
        key=lambda name: (name.lower(), name != name.lower(), name),
        default=None,
    )


def _place(name: str, base: str | None) -> tuple:
    """The base first, then checkpoints by run and step, then what is none."""
    if name == base:
        return (0,)
    placed = curve_and_step(name)
    return (1, placed[0].run, placed[0].suffix, placed[1]) if placed else (2, name)


def _counts(outputs: Sequence[Output]) -> dict[str, int]:
    return {
        "answered": sum(output.text is not None for output in outputs),
        "failed": sum(output.text is None for output in outputs),
        "cut_by_length": sum(output.text is not None and output.stop == "length" for output in outputs),
    }


def _judge(
    judge: str, said: Said, models: Sequence[str], base: str | None, between: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    means = said.means
    everyone = [*models, *CONTROLS]
    columns = {(name, score): columns_of(means, name, score) for name in everyone for score in SCORES}
    scores = _estimates(columns, LOWEST, HIGHEST)
    differences = {
        (name, score): _less(columns[name, score], columns[base, score])
        for name in models
        for score in SCORES
        if base is not None and name != base
    }
    over_base = _estimates(differences, LOWEST - HIGHEST, HIGHEST - LOWEST)
    won = {name: {s: fmean(points(pairs)) for s, pairs in said.outcomes(name).items()} for name in everyone}
    win_rates = _estimates(won, 0, 1)

    rated = {}
    for name in models:
        ratings = {"items": len(columns[name, FINAL])} | _judged(said, name)
        ratings["scores"] = {s: asdict(scores[name, s]) for s in SCORES} if (name, FINAL) in scores else None
        ratings["over_base"] = None
        if (name, FINAL) in over_base:
            common = {"items": len(differences[name, FINAL])}
            ratings["over_base"] = common | {s: asdict(over_base[name, s]) for s in SCORES}
        ratings["final_by_row"] = {str(sample): round(of, 6) for sample, of in sorted(columns[name, FINAL].items())}
        rated[name] = ratings
    lowest = min((scores[name, FINAL].mean for name in models if (name, FINAL) in scores), default=None)
    seen = {plan[0] for plan in said.ratings} | {plan[0] for plan in said.pairs}
    seen |= said.failed_ratings.keys() | said.failed_verdicts.keys()
    controls = {
        name: _control(said, name, scores.get((name, FINAL)), win_rates.get(name), lowest)
        for name in CONTROLS
        if name in seen
    }
    pairwise = {name: _pairs(said, name, win_rates.get(name)) for name in models if name != base}
    has_pairs = bool(said.pairs or said.failed_verdicts)
    return {
        "kind": {REFERENCE_JUDGE: "reference", PEOPLE: "people"}.get(judge, "llm"),
        "models": rated,
        "controls": controls,
        "pairwise": pairwise if has_pairs else None,
        "repeats": _repeats(said, models),
        "with": {
            other: _with(pair)
            for pair in between
            for other in pair["judges"]
            if pair["plans"] and judge in pair["judges"] and other != judge and other in (REFERENCE_JUDGE, PEOPLE)
        },
    }


def _judged(said: Said, name: str) -> dict[str, int]:
    judged = sum(len(repeats) for (model, _), repeats in said.ratings.items() if model == name)
    return {"judgements": judged, "failed": said.failed_ratings[name]}


def _control(
    said: Said, name: str, final: Estimate | None, win_rate: Estimate | None, lowest: float | None
) -> dict[str, Any]:
    """`lowest` is the lowest mean final score of any model."""
    pairs = [pair for of_sample in said.outcomes(name).values() for pair in of_sample]
    wins = sum(settled(*pair) == "model" for pair in pairs)
    counts = _judged(said, name)
    counts["failed"] += said.failed_verdicts[name]
    passed = []
    if final is not None:
        below_models = lowest is not None and final.mean <= lowest + _ROUNDING and final.mean < MIDDLE_SCORE
        passed.append(below_models or final.mean <= BOTTOM_SCORE + _ROUNDING)
    if pairs:
        passed.append(wins <= BOTTOM_WINS * len(pairs))
    samples = {sample for model, sample in [*said.ratings, *said.pairs] if model == name}
    return {
        "items": len(samples),
        **counts,
        "final_score": asdict(final) if final else None,
        "pairs": len(pairs),
        "wins": wins,
        "win_rate": asdict(win_rate) if win_rate else None,
        "at_bottom": all(passed) if passed else None,
    }


def _pairs(said: Said, name: str, win_rate: Estimate | None) -> dict[str, Any]:
    by_sample = said.outcomes(name)
    pairs = [pair for of_sample in by_sample.values() for pair in of_sample]
    outcomes = [settled(*pair) for pair in pairs]
    return {
        "items": len(by_sample),
        "pairs": len(pairs),
        "failed": said.failed_verdicts[name],
        "wins": outcomes.count("model"),
        "losses": outcomes.count("base"),
        "ties": outcomes.count("tie"),
        "flips": sum(is_flip(*pair) for pair in pairs),
        "win_rate": asdict(win_rate) if win_rate else None,
        "flip_rate": flip_rate(pairs),
    }


def _repeats(said: Said, models: Sequence[str]) -> dict[str, Any]:
    """How many ratings a plan has at most, and how far they agree."""
    plans = [repeats for (model, _), repeats in sorted(said.ratings.items()) if model in models]
    numbers = sorted({repeat for repeats in plans for repeat in repeats})
    alpha = {}
    for score in SCORES:
        ratings = [[of[n][score] if n in of else np.nan for of in plans] for n in numbers]  # (raters, plans)
        alpha[score] = _alpha(np.array(ratings), score) if plans else None
    return {"most": max(map(len, plans), default=0), "alpha": alpha}


def _between(judges: tuple[str, str], said: Mapping[str, Said], models: Sequence[str]) -> dict[str, Any] | None:
    """How far two judges agree on the plans of models that both rated, by their means over repeats, and on the pairs
    that both judged; None without either."""
    a, b = (said[judge].means for judge in judges)
    plans: list[Plan] = sorted(plan for plan in a.keys() & b.keys() if plan[0] in models)
    pairs = _between_pairs(*(said[judge].pairs for judge in judges), models)
    if not plans and pairs is None:
        return None
    alpha, kappa = dict.fromkeys(SCORES), dict.fromkeys(SCORES)
    for score in SCORES if plans else ():
        sides = np.array([[of[plan][score] for plan in plans] for of in (a, b)])  # (2, plans)
        alpha[score] = _alpha(sides, score)
        kappa[score] = quadratic_kappa(*sides)
    ranks = spearman(*([of[plan][FINAL] for plan in plans] for of in (a, b)), [sample for _, sample in plans])
    return {
        "judges": list(judges),
        "plans": len(plans),
        "alpha": alpha,
        "kappa": kappa,
        "spearman": asdict(ranks) if ranks else None,
        "pairs": pairs,
    }


def _between_pairs(
    a: Mapping[Plan, Mapping[int, tuple[str, str]]],
    b: Mapping[Plan, Mapping[int, tuple[str, str]]],
    models: Sequence[str],
) -> dict[str, Any] | None:
    """How far two judges give the same verdicts on the plans of models beside the base's, each a loss, a tie or a win
    by what it is worth over all repeats."""
    plans = sorted(plan for plan in a.keys() & b.keys() if plan[0] in models)
    if not plans:
        return None
    worth = [[fmean(points(of[plan].values())) for plan in plans] for of in (a, b)]
    verdicts = np.sign(np.array(worth) - 0.5)  # (2, plans)
    same = int(np.sum(verdicts[0] == verdicts[1]))
    return {"plans": len(plans), "same": same, "alpha": krippendorff_alpha(verdicts, "ordinal")}


def _alpha(ratings: np.ndarray, score: str) -> float | None:
    # A scale is ordinal; the final score is a mean, so that its distances count.
    return krippendorff_alpha(ratings, "interval" if score == FINAL else "ordinal")


def _with(pair: Mapping[str, Any]) -> dict[str, Any]:
    ranks = pair["spearman"] or {"mean": None, "low": None, "high": None}
    return {"spearman": ranks["mean"], "low": ranks["low"], "high": ranks["high"], "plans": pair["plans"]}


def _adjusted_p_values(said: Said, models: Sequence[str], base: str | None) -> dict[str, float]:
    """p-value of each model's difference from the base in the final score, by a paired permutation test over items,
    adjusted for the number of models (Holm)."""
    means = said.means
    origin = columns_of(means, base, FINAL) if base is not None else {}
    differences = {name: _less(columns_of(means, name, FINAL), origin) for name in models if name != base}
    p_values = {name: paired_p_value([of[s] for s in sorted(of)]) for name, of in differences.items() if of}
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _less(of_model: ByItem, of_base: ByItem) -> ByItem:
    """The differences over the items of both."""
    return {sample: of_model[sample] - of_base[sample] for sample in of_model.keys() & of_base.keys()}


def _estimates(columns: Mapping[Key, ByItem], lowest: float, highest: float) -> dict[Key, Estimate]:
    """The mean of each column that has values, with its interval; items are resampled whole, for all columns at once.
    A single item bounds nothing: its interval is all that a value can be, from `lowest` to `highest`."""
    there = {key: column for key, column in columns.items() if column}
    samples = sorted({sample for column in there.values() for sample in column})
    if not samples:
        return {}
    values = np.array([[column.get(sample, np.nan) for column in there.values()] for sample in samples])
    means, drawn = clustered_means(values)
    return {
        key: estimate_of_few(means[i], drawn[:, i], len(column)).within(lowest, highest)
        for i, (key, column) in enumerate(there.items())
    }


def summary_table(summary: Mapping[str, Any]) -> str:
    """The judges' tables, and how far they agree, as Markdown."""
    judges = summary["judges"]
    parts = [f"### {name} ({_described(of)})\n\n{_table(of, summary['base'])}" for name, of in judges.items()]
    if any(pair["plans"] for pair in summary["between"]):
        rows = [["judges", "plans", "Spearman", "alpha", "kappa"]]
        for pair in summary["between"]:
            if not pair["plans"]:
                continue
            agreed = [f"{x:.2f}" if x is not None else "n/a" for x in (pair["alpha"][FINAL], pair["kappa"][FINAL])]
            rows.append([" and ".join(pair["judges"]), str(pair["plans"]), _shown(pair["spearman"]), *agreed])
        parts.append(f"### Agreement in the final score\n\n{markdown_table(rows)}")
    paired = [(pair["judges"], pair["pairs"]) for pair in summary["between"] if pair["pairs"]]
    if paired:
        rows = [["judges", "plans beside the base's", "same verdict", "alpha"]]
        for judges_of_pair, of in paired:
            alpha = f"{of['alpha']:.2f}" if of["alpha"] is not None else "n/a"
            rows.append([" and ".join(judges_of_pair), str(of["plans"]), str(of["same"]), alpha])
        parts.append(f"### Agreement in pairs\n\n{markdown_table(rows)}")
    return "\n\n".join(parts)


def _described(judge: Mapping[str, Any]) -> str:
    of = {"llm": "a language model", "reference": "wording against the reference plan", "people": "people"}
    what, most = of[judge["kind"]], judge["repeats"]["most"]
    each = "raters" if judge["kind"] == "people" else "repeats"
    return f"{what}, {most} {each}" if most > 1 else what


def _table(judge: Mapping[str, Any], base: str | None) -> str:
    pairwise = judge["pairwise"] or {}
    rated = any(of["judgements"] + of["failed"] for of in judge["models"].values())
    rows = [["model"]]
    if rated:
        rows[0] += [FINAL, *SCALES, *([f"over {base}"] if base else []), "items", "failed"]
    if pairwise:
        rows[0] += ["win rate", "wins", "losses", "ties", "flips", "failed verdicts"]
    for name, of in judge["models"].items():
        scores, over = of["scores"] or {}, of["over_base"] or {}
        cells = [name]
        if rated:
            cells.append(_shown(scores.get(FINAL)))
            cells += [f"{scores[scale]['mean']:.2f}" if scores else "n/a" for scale in SCALES]
            if base:
                cells.append("-" if name == base else _shown(over.get(FINAL), sign="+"))
            cells += [str(of["items"]), str(of["failed"])]
        if pairwise and name == base:
            cells += ["-"] * 6
        elif pairwise:
            pairs = pairwise[name]
            cells.append(_shown(pairs["win_rate"], percent=True))
            cells += [str(pairs[key]) for key in ("wins", "losses", "ties", "flips", "failed")]
        rows.append(cells)
    words = {True: "at the bottom", False: "NOT at the bottom", None: "not judged"}
    controls = []
    for name, of in judge["controls"].items():
        numbers = [f"final score {_shown(of['final_score'])}"] if of["final_score"] else []
        numbers += [f"{of['wins']} of {of['pairs']} pairs won"] if of["pairs"] else []
        controls.append(f"- {name}: {', '.join([words[of['at_bottom']], *numbers])}")
    return "\n\n".join([markdown_table(rows), *(["\n".join(controls)] if controls else [])])


def _shown(mean: Mapping[str, float] | None, sign: str = "", percent: bool = False) -> str:
    if mean is None:
        return "n/a"
    if percent:
        return f"{100 * mean['mean']:.0f} % [{100 * mean['low']:.0f}, {100 * mean['high']:.0f}]"
    return f"{mean['mean']:{sign}.2f} [{mean['low']:{sign}.2f}, {mean['high']:{sign}.2f}]"


def write_judgements_csv(path: Path, judgements: Iterable[Judgement]) -> None:
    """Replace `path` by all judgements, the original LEAP's columns first; a failed one has no score and no verdict."""
    rows = []
    for one in judgements:
        scores = one.scores if one.scores and one.failure is None else {}
        verdict = one.verdict if one.failure is None else None
        final_score = one.final_score if scores else None
        original = [one.model, one.sample, one.reasoning, *(scores.get(scale) for scale in SCALES), final_score]
        asked = [one.judge, one.protocol, one.repeat, one.base, one.model_first]
        rows.append([*original, *asked, verdict, one.failure])
    write_csv(path, CSV_COLUMNS, rows)
