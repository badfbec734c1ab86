"""A review's summary as Markdown: a table a judge, and how far judges agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leap.judge.judgements import FINAL, SCALES, ReviewSummary
from leap.text import markdown_table

_KINDS = {
    "llm": "a language model",
    "program": "a program",
    "reference": "actions against the reference plan",
    "people": "people",
}
_CONTROL_WORDS = {True: "at the bottom", False: "NOT at the bottom", None: "not judged"}
_PAIR_COLUMNS = {"wins": "wins", "losses": "losses", "ties": "ties", "flips": "flips", "failed": "failed verdicts"}


def summary_table(summary: ReviewSummary) -> str:
    """The judges' tables, and how far they agree, as Markdown."""
    parts = []
    for name, judge in summary["judges"].items():
        blocks = [markdown_table(_model_rows(judge, summary["base"])), _control_list(judge)]
        parts.append(f"### {name} ({_judge_words(judge)})\n\n" + "\n\n".join(filter(None, blocks)))
    for title, rows in (
        ("Agreement in the final score", _rating_agreement(summary["between"])),
        ("Agreement in pairs", _pair_agreement(summary["between"])),
    ):
        if len(rows) > 1:
            parts.append(f"### {title}\n\n{markdown_table(rows)}")
    return "\n\n".join(parts)


def _judge_words(judge: Mapping[str, Any]) -> str:
    kind, most = _KINDS[judge["kind"]], judge["repeats"]["most"]
    return f"{kind}, {most} {'raters' if judge['kind'] == 'people' else 'repeats'}" if most > 1 else kind


def _model_rows(judge: Mapping[str, Any], base: str | None) -> list[list[str]]:
    """The head, and a row a model; columns of a protocol that was not judged are left out."""
    pairwise, models = judge["pairwise"] or {}, judge["models"]
    is_rated = any(ratings["judgements"] + ratings["failed"] for ratings in models.values())
    rows = [["model"]]
    if is_rated:
        rows[0] += [FINAL, *SCALES, *([f"over {base}"] if base else []), "items", "failed"]
    if pairwise:
        rows[0] += ["win rate", *_PAIR_COLUMNS.values()]
    for name, ratings in models.items():
        row = [name]
        if is_rated:
            row += _rating_cells(name, ratings, base)
        if pairwise:
            row += _pair_cells(pairwise[name]) if name != base else ["-"] * (1 + len(_PAIR_COLUMNS))
        rows.append(row)
    return rows


def _rating_cells(name: str, ratings: Mapping[str, Any], base: str | None) -> list[str]:
    scores, over_base = ratings["scores"] or {}, ratings["over_base"] or {}
    cells = [_interval(scores.get(FINAL))]
    cells += [f"{scores[scale]['mean']:.2f}" if scores else "n/a" for scale in SCALES]
    if base:
        cells.append("-" if name == base else _interval(over_base.get(FINAL), sign="+"))
    return [*cells, str(ratings["items"]), str(ratings["failed"])]


def _pair_cells(pairs: Mapping[str, Any]) -> list[str]:
    return [_percent_interval(pairs["win_rate"]), *(str(pairs[key]) for key in _PAIR_COLUMNS)]


def _control_list(judge: Mapping[str, Any]) -> str:
    lines = []
    for name, control in judge["controls"].items():
        words = [_CONTROL_WORDS[control["at_bottom"]]]
        words += [f"final score {_interval(control['final_score'])}"] if control["final_score"] else []
        words += [f"{control['wins']} of {control['pairs']} pairs won"] if control["pairs"] else []
        lines.append(f"- {name}: {', '.join(words)}")
    return "\n".join(lines)


def _rating_agreement(between: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["judges", "plans", "Spearman", "alpha", "kappa"]]
    for pair in between:
        if pair["plans"]:
            measures = [_interval(pair["spearman"]), _number(pair["alpha"][FINAL]), _number(pair["kappa"][FINAL])]
            rows.append([" and ".join(pair["judges"]), str(pair["plans"]), *measures])
    return rows


def _pair_agreement(between: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["judges", "plans beside the base's", "same verdict", "alpha"]]
    for pair in between:
        if pairs := pair["pairs"]:
            numbers = [str(pairs["plans"]), str(pairs["same"]), _number(pairs["alpha"])]
            rows.append([" and ".join(pair["judges"]), *numbers])
    return rows


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _interval(mean: Mapping[str, float] | None, sign: str = "") -> str:
    if mean is None:
        return "n/a"
    return f"{mean['mean']:{sign}.2f} [{mean['low']:{sign}.2f}, {mean['high']:{sign}.2f}]"


def _percent_interval(mean: Mapping[str, float] | None) -> str:
    if mean is None:
        return "n/a"
    return f"{100 * mean['mean']:.0f} % [{100 * mean['low']:.0f}, {100 * mean['high']:.0f}]"
