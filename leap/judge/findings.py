"""What a summary of a review says, in sentences: what not to trust first, then who is better, then how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leap.judge.agreement import GOOD, LOW
from leap.judge.judgements import (
    CONTROLS,
    EMPTY_CONTROL,
    FINAL,
    INSTRUCTIONS_CONTROL,
    OTHER_ROW_CONTROL,
    WRONG_OBJECTS_CONTROL,
    ReviewSummary,
)
from leap.text import plural

FEW_ITEMS = 30  # with fewer, what the width of the intervals means is said
SIGNIFICANT = 0.05
MANY_FLIPS = 0.25  # of the pairs; a judge who tosses a coin in each order has a half

_MOST_NAMES = 6
_WIDE = 0.25  # points; half an interval that is called wide
_CONTROL_WORDS = {
    EMPTY_CONTROL: "a plan without a word",
    INSTRUCTIONS_CONTROL: "which asks for top marks",
    OTHER_ROW_CONTROL: "the reference plan of another row",
    WRONG_OBJECTS_CONTROL: "the row's reference plan on other objects",
}
_TITLES = {"reference": "the reference judge", "people": "people"}

JudgeSummary = Mapping[str, Any]  # an entry of summary["judges"]
Comparison = tuple[list[str], str]  # models, and what they are beside the base


def in_words(summary: ReviewSummary, adjusted: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The sentences of a summary. `adjusted` are the corrected p-values of the models' differences from the base, by
    judge."""
    judges, base = summary["judges"], summary["base"]
    sentences = []
    for name, judge in judges.items():
        sentences += _unfit(name, judge, base)
    sentences += [*_scope(summary), *_left_out(summary["left_out"]), *_few_items(summary)]
    for name, judge in judges.items():
        sentences += _better_or_worse(name, judge, base, adjusted.get(name, {}))
        sentences += _preferred_in_pairs(name, judge, base)
    for name, judge in judges.items():
        sentences += _coverage(name, judge, summary["outputs"])
        for step in (_repeats, _flips, _controls_not_judged):
            sentences += step(name, judge)
    sentences += _between(summary)
    if any(judge["kind"] == "reference" for judge in judges.values()):
        sentences.append(
            "The reference judge compares actions, objects, places and their order with those of the reference plan; "
            "it is not a language model's opinion, and another good plan scores low."
        )
    for name, judge in judges.items():
        sentences += _failed(name, judge)
    return sentences


def title(name: str, judge: JudgeSummary) -> str:
    """How a judge is called in a sentence."""
    return _TITLES.get(judge["kind"], name)


def _unfit(name: str, judge: JudgeSummary, base: str | None) -> list[str]:
    sentences = []
    finals = [ratings["scores"][FINAL]["mean"] for ratings in judge["models"].values() if ratings["scores"]]
    lowest_words = f", that of the lowest model {min(finals):.2f}" if finals else ""
    for control, results in judge["controls"].items():
        if results["at_bottom"] is False:
            reasons = []
            if results["final_score"]:
                reasons.append(f"its mean final score is {results['final_score']['mean']:.2f}{lowest_words}")
            if results["pairs"]:
                reasons.append(f"it wins against {base} in {results['wins']} of {plural(results['pairs'], 'pair')}")
            sentences.append(
                f"The judge {name} is unfit, do not trust its numbers: it does not put {control}, "
                f"{_CONTROL_WORDS[control]}, at the bottom ({', and '.join(reasons)})."
            )
    return sentences


def _scope(summary: ReviewSummary) -> list[str]:
    models, base = summary["models"], summary["base"]
    compared = f", {base} being the base" if base else "; the base is not among them, so that nothing is compared to it"
    sentences = [f"{plural(summary['items'], 'item')} and {plural(len(models), 'model')}{compared}."]
    failed = [f"{name} {counts['failed']}" for name, counts in summary["outputs"].items() if counts["failed"]]
    if failed:
        sentences.append(f"Without a plan, and so never judged: {_listed(failed)} (items whose output failed).")
    if not summary["judges"]:
        sentences.append("No judge has said anything yet.")
    return sentences


def _left_out(number: int) -> list[str]:
    if not number:
        return []
    return [
        f"{plural(number, 'judgement')} of other rows, models or bases, or of plans, references or pictures that "
        f"changed since, {_were(number)} left out."
    ]


def _few_items(summary: ReviewSummary) -> list[str]:
    """How wide the intervals of the differences from the base are, where there are few items."""
    items = summary["items"]
    if items >= FEW_ITEMS or not summary["judges"]:
        return []
    if items == 1:
        return ["A single item gives no interval: those shown span all that is possible."]
    widths, widest = [], 0.0
    for name, judge in summary["judges"].items():
        halves = [(over[FINAL]["high"] - over[FINAL]["low"]) / 2 for over in _over_base(judge).values()]
        if halves:
            widest = max(widest, *halves)
            widths.append(f"{_span(halves)} points by {name}")
    sentence = f"{plural(items, 'item')} are few"
    if widest >= _WIDE or not widths:
        sentence += ", and the intervals are wide"
    if widths:
        sentence += f": a difference from the base is known to plus or minus {_listed(widths)}"
        sentence += "; smaller ones cannot be told from chance"
    return [f"{sentence}."]


def _span(halves: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{half:.2f}" for half in (min(halves), max(halves))))


def _over_base(judge: JudgeSummary) -> dict[str, Mapping[str, Any]]:
    return {name: ratings["over_base"] for name, ratings in judge["models"].items() if ratings["over_base"]}


def _better_or_worse(name: str, judge: JudgeSummary, base: str | None, adjusted: Mapping[str, float]) -> list[str]:
    """Who differs from the base in the final score, by interval; then which of these hold by a test."""
    differences = {model: over[FINAL] for model, over in _over_base(judge).items()}
    if not differences:
        return []
    ranked = sorted(differences, key=lambda model: -differences[model]["mean"])
    better = [model for model in ranked if differences[model]["low"] > 0]
    worse = [model for model in reversed(ranked) if differences[model]["high"] < 0]
    numbers = {m: f"{m} ({d['mean']:+.2f}, {d['low']:+.2f} to {d['high']:+.2f})" for m, d in differences.items()}
    by = title(name, judge)
    if not better and not worse:
        if len(ranked) == 1:
            return [f"By {by}, {numbers[ranked[0]]} cannot be told from {base} in the final score."]
        return [f"By {by}, none of the {len(ranked)} models can be told from {base} in the final score."]
    groups = ((better, "better than"), (worse, "worse than"))
    others = len(ranked) - len(better) - len(worse)
    rest = f"; {plural(others, 'other model')} cannot be told from it" if others else ""
    sentence = f"By {by}, {' and '.join(_compared(groups, numbers, base))}{rest} (final score, interval without 0)."
    return [sentence + _test_words([*better, *worse], adjusted, len(ranked))]


def _test_words(models: Sequence[str], adjusted: Mapping[str, float], comparisons: int) -> str:
    """Which of the models hold by the paired test; "" if all do.

    Of forty models one is likely to have an interval without 0 by chance: intervals are not corrected, the test is.
    """
    firm = [model for model in models if adjusted.get(model, 1) < SIGNIFICANT]
    if len(firm) == len(models):
        return ""
    several = f", corrected for {comparisons} comparisons," if comparisons > 1 else ""
    holds = f"{_listed(firm)} {'holds' if len(firm) == 1 else 'hold'}" if firm else "none holds"
    return f" Of these, by a paired permutation test{several} {holds}."


def _preferred_in_pairs(name: str, judge: JudgeSummary, base: str | None) -> list[str]:
    rates = {model: pairs["win_rate"] for model, pairs in (judge["pairwise"] or {}).items() if pairs["win_rate"]}
    if not rates:
        return []
    groups = (
        ([model for model, rate in rates.items() if rate["low"] > 0.5], "preferred to"),
        ([model for model, rate in rates.items() if rate["high"] < 0.5], "found worse than"),
    )
    numbers = {model: f"{model} ({100 * rate['mean']:.0f} %)" for model, rate in rates.items()}
    comparison = " and ".join(_compared(groups, numbers, base)) or f"no model can be told from {base}"
    return [f"In pairs, by {title(name, judge)}, {comparison} (win rate, a tie counts half; interval without 50 %)."]


def _compared(groups: Iterable[Comparison], numbers: Mapping[str, str], base: str | None) -> list[str]:
    """A clause for each group that has models: "a (+1.00) and b (+0.50) are better than baseline"."""
    return [
        f"{_listed(numbers[model] for model in models)} {'is' if len(models) == 1 else 'are'} {comparison} {base}"
        for models, comparison in groups
        if models
    ]


def _coverage(name: str, judge: JudgeSummary, outputs: Mapping[str, Mapping[str, int]]) -> list[str]:
    items = {model: ratings["items"] for model, ratings in judge["models"].items() if outputs[model]["answered"]}
    most = max(items.values(), default=0)
    fewer = [f"{model} {number}" for model, number in items.items() if number < most]
    if not fewer:
        return []
    return [
        f"The means by {title(name, judge)} do not cover the same items: {_listed(fewer)}, others {most}. Differences "
        "from the base are over the items that both have."
    ]


def _repeats(name: str, judge: JudgeSummary) -> list[str]:
    alpha = judge["repeats"]["alpha"][FINAL]
    if alpha is None:
        return []
    agreement = _agreement_words(alpha)
    if judge["kind"] == "people":
        return [f"People agree with each other {agreement}."]
    return [f"Over {judge['repeats']['most']} repeats, {title(name, judge)} agrees with itself {agreement}."]


def _agreement_words(alpha: float) -> str:
    if alpha >= GOOD:
        return f"well (Krippendorff's alpha {alpha:.2f}, at least {GOOD})"
    if alpha < LOW:
        return f"little (Krippendorff's alpha {alpha:.2f}, below {LOW}): it is no ground for a conclusion"
    return f"moderately (Krippendorff's alpha {alpha:.2f}, {LOW} to {GOOD}): conclusions are tentative"


def _flips(name: str, judge: JudgeSummary) -> list[str]:
    pairwise = (judge["pairwise"] or {}).values()
    pairs, flips = (sum(counts[key] for counts in pairwise) for key in ("pairs", "flips"))
    if not pairs:
        return []
    many = "; its verdicts depend on what stands first" if flips > MANY_FLIPS * pairs else ""
    return [
        f"Shown in the other order, {title(name, judge)} contradicts itself in {flips} of {plural(pairs, 'pair')} "
        f"({100 * flips / pairs:.0f} %), which then count as ties{many}."
    ]


def _controls_not_judged(name: str, judge: JudgeSummary) -> list[str]:
    judged = [control for control, results in judge["controls"].items() if results["at_bottom"] is not None]
    missing = [control for control in CONTROLS if control not in judged]
    if judge["kind"] != "llm" or not missing:
        return []
    return [
        f"{name} gave no judgement of {_listed(missing)}, so that nothing shows whether it would notice such a plan."
    ]


def _between(summary: ReviewSummary) -> list[str]:
    sentences = []
    for pair in summary["between"]:
        a, b = (title(name, summary["judges"][name]) for name in pair["judges"])
        a = a[0].upper() + a[1:] if a in _TITLES.values() else a
        if ranks := pair["spearman"]:
            sentences.append(
                f"{a} and {b} rank {plural(pair['plans'], 'plan')} with a Spearman correlation of {ranks['mean']:.2f} "
                f"({ranks['low']:.2f} to {ranks['high']:.2f})."
            )
        if pairs := pair["pairs"]:
            alpha = "" if pairs["alpha"] is None else f" (Krippendorff's alpha {pairs['alpha']:.2f})"
            sentences.append(
                f"{a} and {b} give the same verdict on {pairs['same']} of {plural(pairs['plans'], 'plan')} beside the "
                f"base's{alpha}."
            )
    return sentences


def _failed(name: str, judge: JudgeSummary) -> list[str]:
    groups = (judge["models"], judge["controls"], judge["pairwise"] or {})
    failed = sum(counts["failed"] for group in groups for counts in group.values())
    if not failed:
        return []
    return [
        f"{plural(failed, 'judgement')} by {title(name, judge)} failed and {_were(failed)} left out of every number."
    ]


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _listed(names: Iterable[str]) -> str:
    """Names in a row, the first few of many: "a, b and c", "a, b, c, d, e, f and 4 more"."""
    names = list(names)
    if len(names) > _MOST_NAMES:
        names = [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
