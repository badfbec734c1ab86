"""What a summary of a review says, in sentences: what not to trust first, then who is better, then how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leap.judge.agreement import GOOD, LOW
from leap.judge.judgements import CONTROLS, FINAL
from leap.text import plural

FEW_ITEMS = 30  # with fewer, what the width of the intervals means is said
SIGNIFICANT = 0.05
MANY_FLIPS = 0.25  # of the pairs; a judge who tosses a coin in each order has a half

_MOST_NAMES = 6
_NO_WIDTH = 0.005  # points; half an interval that is shown as 0.00
_WIDE = 0.25  # points; half an interval that is called wide
_TITLES = {"reference": "the reference judge", "people": "people"}

Summary = Mapping[str, Any]


def in_words(summary: Summary, adjusted: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The sentences of a summary. `adjusted` are the corrected p-values of the models' differences from the base, by
    judge."""
    judges = summary["judges"]
    words = [sentence for name, judge in judges.items() for sentence in _untrusted(name, judge, summary["base"])]
    words += _scope(summary)
    if left_out := summary["left_out"]:
        words.append(
            f"{plural(left_out, 'judgement')} of other rows, models or bases, or of plans, references or pictures that "
            f"changed since, {_were(left_out)} left out."
        )
    words += _few_items(summary)
    for name, judge in judges.items():
        words += _better_or_worse(name, judge, summary["base"], adjusted.get(name, {}))
        words += _in_pairs(name, judge, summary["base"])
    for name, judge in judges.items():
        words += (
            _coverage(name, judge, summary["outputs"])
            + _repeats(name, judge)
            + _flips(name, judge)
            + _unseen_controls(name, judge)
        )
    words += _between(summary)
    if "reference" in (judge["kind"] for judge in judges.values()):
        words.append(
            "The reference judge measures how far a plan's wording overlaps with that of the reference plan; it is not "
            "a language model's opinion, and another good plan scores low."
        )
    return words + [sentence for name, judge in judges.items() for sentence in _failed(name, judge)]


def title(name: str, judge: Summary) -> str:
    """How a judge is called in a sentence."""
    return _TITLES.get(judge["kind"], name)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _untrusted(name: str, judge: Summary, base: str | None) -> list[str]:
    found = []
    for control, of in judge["controls"].items():
        if of["at_bottom"] is False:
            said = []
            if of["final_score"]:
                said.append(f"its mean final score is {of['final_score']['mean']:.2f}")
            if of["pairs"]:
                said.append(f"it wins against {base} in {of['wins']} of {plural(of['pairs'], 'pair')}")
            found.append(
                f"Do not trust the judge {name}: it does not put {control}, which no model wrote, at the bottom "
                f"({', and '.join(said)})."
            )
    return found


def _scope(summary: Summary) -> list[str]:
    models, outputs = summary["models"], summary["outputs"]
    base = summary["base"]
    compared = f", {base} being the base" if base else "; the base is not among them, so that nothing is compared to it"
    words = [f"{plural(summary['items'], 'item')} and {plural(len(models), 'model')}{compared}."]
    failed = {name: of["failed"] for name, of in outputs.items() if of["failed"]}
    if failed:
        named = _named(f"{name} {number}" for name, number in failed.items())
        words.append(f"Without a plan, and so never judged: {named} (items whose output failed).")
    if not summary["judges"]:
        words.append("No judge has said anything yet.")
    return words


def _few_items(summary: Summary) -> list[str]:
    items = summary["items"]
    if items >= FEW_ITEMS or not summary["judges"]:
        return []
    if items == 1:
        return ["A single item gives no interval: those shown span all that is possible."]
    widths, without, widest = [], [], 0.0
    for name, judge in summary["judges"].items():
        every = [(of[FINAL]["high"] - of[FINAL]["low"]) / 2 for of in _over_base(judge).values()]
        halves = [half for half in every if half >= _NO_WIDTH]
        if halves:
            widest = max(widest, *halves)
            span = f"{min(halves):.2f}" + (f" to {max(halves):.2f}" if max(halves) - min(halves) >= 0.005 else "")
            widths.append(f"{span} points by {name}")
        if len(halves) < len(every):
            without.append(title(name, judge))
    words = f"{plural(items, 'item')} are few"
    if widest >= _WIDE or not (widths or without):
        words += ", and the intervals are wide"
    if widths:
        words += f": a difference from the base is known to plus or minus {_named(widths)}"
        words += "; smaller ones cannot be told from chance"
    if without:
        words += (
            f". An interval without width (by {_named(without)}) says that these items differ alike, not that others "
            "would"
        )
    return [f"{words}."]


def _over_base(judge: Summary) -> dict[str, Summary]:
    return {name: of["over_base"] for name, of in judge["models"].items() if of["over_base"]}


def _better_or_worse(name: str, judge: Summary, base: str | None, adjusted: Mapping[str, float]) -> list[str]:
    differences = {model: of[FINAL] for model, of in _over_base(judge).items()}
    if not differences:
        return []
    ranked = sorted(differences, key=lambda model: -differences[model]["mean"])
    better = [model for model in ranked if differences[model]["low"] > 0]
    worse = [model for model in reversed(ranked) if differences[model]["high"] < 0]
    shown = {m: f"{m} ({d['mean']:+.2f}, {d['low']:+.2f} to {d['high']:+.2f})" for m, d in differences.items()}
    by = title(name, judge)
    if not better and not worse:
        which = shown[ranked[0]] if len(ranked) == 1 else f"none of the {len(ranked)} models"
        return [f"By {by}, {which} can{'not' if len(ranked) == 1 else ''} be told from {base} in the final score."]
    parts = [
        f"{_named(shown[model] for model in group)} {'is' if len(group) == 1 else 'are'} {word} than {base}"
        for group, word in ((better, "better"), (worse, "worse"))
        if group
    ]
    others = len(ranked) - len(better) - len(worse)
    rest = f"; {plural(others, 'other model')} cannot be told from it" if others else ""
    words = f"By {by}, {' and '.join(parts)}{rest} (final score, interval without 0)."
    firm = [model for model in [*better, *worse] if adjusted.get(model, 1) < SIGNIFICANT]
    if len(firm) < len(better) + len(worse):
        several = f", corrected for {len(ranked)} comparisons," if len(ranked) > 1 else ""
        holds = f"{_named(firm)} {'holds' if len(firm) == 1 else 'hold'}" if firm else "none holds"
        words += f" Of these, by a paired permutation test{several} {holds}."
    return [words]


def _in_pairs(name: str, judge: Summary, base: str | None) -> list[str]:
    rates = {model: of["win_rate"] for model, of in (judge["pairwise"] or {}).items() if of["win_rate"]}
    if not rates:
        return []
    found = []
    for word, group in (
        ("preferred to", [model for model, rate in rates.items() if rate["low"] > 0.5]),
        ("found worse than", [model for model, rate in rates.items() if rate["high"] < 0.5]),
    ):
        if group:
            named = _named(f"{model} ({100 * rates[model]['mean']:.0f} %)" for model in group)
            found.append(f"{named} {'is' if len(group) == 1 else 'are'} {word} {base}")
    said = " and ".join(found) or f"no model can be told from {base}"
    return [f"In pairs, by {title(name, judge)}, {said} (win rate, a tie counts half; interval without 50 %)."]


def _coverage(name: str, judge: Summary, outputs: Mapping[str, Mapping[str, int]]) -> list[str]:
    items = {model: of["items"] for model, of in judge["models"].items() if outputs[model]["answered"]}
    most = max(items.values(), default=0)
    fewer = [f"{model} {number}" for model, number in items.items() if number < most]
    if not fewer:
        return []
    return [
        f"The means by {title(name, judge)} do not cover the same items: {_named(fewer)}, others {most}. Differences "
        "from the base are over the items that both have."
    ]


def _repeats(name: str, judge: Summary) -> list[str]:
    alpha = judge["repeats"]["alpha"][FINAL]
    if alpha is None:
        return []
    if judge["kind"] == "people":
        return [f"People agree with each other {_verdict(alpha)}."]
    return [f"Over {judge['repeats']['most']} repeats, {title(name, judge)} agrees with itself {_verdict(alpha)}."]


def _verdict(alpha: float) -> str:
    if alpha >= GOOD:
        return f"well (Krippendorff's alpha {alpha:.2f}, at least {GOOD})"
    if alpha < LOW:
        return f"little (Krippendorff's alpha {alpha:.2f}, below {LOW}): it is no ground for a conclusion"
    return f"moderately (Krippendorff's alpha {alpha:.2f}, {LOW} to {GOOD}): conclusions are tentative"


def _flips(name: str, judge: Summary) -> list[str]:
    pairs = sum(of["pairs"] for of in (judge["pairwise"] or {}).values())
    if not pairs:
        return []
    flips = sum(of["flips"] for of in judge["pairwise"].values())
    many = "; its verdicts depend on what stands first" if flips > MANY_FLIPS * pairs else ""
    return [
        f"Shown in the other order, {title(name, judge)} contradicts itself in {flips} of {plural(pairs, 'pair')} "
        f"({100 * flips / pairs:.0f} %), which then count as ties{many}."
    ]


def _unseen_controls(name: str, judge: Summary) -> list[str]:
    judged = [control for control, of in judge["controls"].items() if of["at_bottom"] is not None]
    missing = [control for control in CONTROLS if control not in judged]
    if judge["kind"] != "llm" or not missing:
        return []
    return [
        f"{name} gave no judgement of {_named(missing)}, so that nothing shows whether it would notice such a plan."
    ]


def _between(summary: Summary) -> list[str]:
    words = []
    for pair in summary["between"]:
        names = [title(name, summary["judges"][name]) for name in pair["judges"]]
        if pair["spearman"]:
            ranks = pair["spearman"]
            words.append(
                f"{_capital(names[0])} and {names[1]} rank {plural(pair['plans'], 'plan')} with a Spearman correlation "
                f"of {ranks['mean']:.2f} ({ranks['low']:.2f} to {ranks['high']:.2f})."
            )
        if pairs := pair["pairs"]:
            alpha = "" if pairs["alpha"] is None else f" (Krippendorff's alpha {pairs['alpha']:.2f})"
            words.append(
                f"{_capital(names[0])} and {names[1]} give the same verdict on {pairs['same']} of "
                f"{plural(pairs['plans'], 'plan')} beside the base's{alpha}."
            )
    return words


def _failed(name: str, judge: Summary) -> list[str]:
    failed = sum(of["failed"] for of in [*judge["models"].values(), *judge["controls"].values()])
    failed += sum(of["failed"] for of in (judge["pairwise"] or {}).values())
    if not failed:
        return []
    return [
        f"{plural(failed, 'judgement')} by {title(name, judge)} failed and {_were(failed)} left out of every number."
    ]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:] if words.startswith("the ") or words == "people" else words


def _named(names: Iterable[str]) -> str:
    """Names in a row, the first few of many."""
    names = list(names)
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"
    return _with_and(names)


def _with_and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
