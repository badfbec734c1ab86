"""The blind review of the page: what models wrote for each row, what judges said about it, and the summary.

    {"models": [[name, number whose letter and colour it has]], "judges": [name], "notes": [text],
     "summary": a review's summary.json or null,
     "items": [{"sample": n, "task": text, "reference": text, "pictures": [picture index or -1],
                "plans": [in a shuffled order that stays: {"model": index in models, "text": text or null, "cut":
                          characters left out, "new_tokens", "stop", "failure": null or {"kind", "reason"}, "said"}],
                "controls": [{"name", "said"}]}]}

`said` is what judges said, judge by judge: {"rubric": [{"judge": index, "repeat", "scores": {scale: value} or null,
"final", "reasoning", "failure", "notes"}], "pairwise": [{"judge", "repeat", "base", "model_first", "verdict",
"reasoning", "failure", "notes"}]}.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leap.blind.outputs import OUTPUTS_FILE, Item, Output, items_of, picture_files, read_outputs
from leap.files import read_json
from leap.judge.judged import read_up_to_date, review_row
from leap.judge.judgements import CONTROLS, PAIRWISE, RUBRIC, Judgement, judges_of
from leap.report.examples import MOST_CHARACTERS

SUMMARY_FILE = "summary.json"

MOST_REASON = 4_000  # characters of one judge's reasons

_ANALYZE = "python scripts/evaluation/analyze_output_results.py"
JudgementsByPlan = Mapping[tuple[str, int], Sequence[Judgement]]  # by model and row


@dataclass(frozen=True)
class Review:
    """`value` as above, without the pictures of its items: `pictures` are their paths, None for one that is not
    there. Only those in one of the folders `roots` may be shown: a row may name any file."""

    value: dict[str, Any]
    pictures: list[list[Path | None]]
    roots: list[Path]

    def place_pictures(self, number: Mapping[Path, int]) -> None:
        """Name the pictures in `value` by their numbers."""
        for item, paths in zip(self.value["items"], self.pictures, strict=True):
            item["pictures"] = [-1 if path is None else number.get(path, -1) for path in paths]


def has_review(folder: Path) -> bool:
    """Whether there is a blind review to show."""
    return (folder / OUTPUTS_FILE).is_file()


def collect_review(folder: Path, models: Sequence[str], image_root: Path | None, workspace: Path) -> Review:
    """The review in `folder`. A model that is one of the page's `models` keeps its letter and colour.

    Pictures are looked for as leap.rows.chat does, in `image_root` alone if it is given.
    """
    items = items_of(read_outputs(folder / OUTPUTS_FILE), folder / OUTPUTS_FILE)
    rows = [review_row(item, image_root, workspace) for item in items]
    names = list(dict.fromkeys(name for item in items for name in item.outputs))
    judgements, others = read_up_to_date(folder, rows, names)
    judgements = _last_of_each(judgements)
    judges = judges_of(judgements)
    summary = read_json(folder / SUMMARY_FILE) if (folder / SUMMARY_FILE).is_file() else None
    if summary is not None:  # its order says which model is the base and which came later
        names.sort(key=lambda name: summary["models"].index(name) if name in summary["models"] else len(names))
    by_plan: defaultdict[tuple[str, int], list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_plan[judgement.model, judgement.sample].append(judgement)
    value = {
        "models": _numbered(names, models),
        "judges": judges,
        "notes": _notes(folder, summary, others),
        "summary": summary,
        "items": [_item(item, names, judges, by_plan) for item in items],
    }
    roots = [image_root] if image_root else [workspace / "data", *{Path(item.folder) for item in items}]
    return Review(value, [picture_files(item, image_root, workspace) for item in items], roots)


def _numbered(names: Sequence[str], models: Sequence[str]) -> list[tuple[str, int]]:
    others = [name for name in names if name not in models]
    return [(name, models.index(name) if name in models else len(models) + others.index(name)) for name in names]


def _last_of_each(judgements: Iterable[Judgement]) -> list[Judgement]:
    """A judge that was asked again has several lines; the last one counts."""
    latest = {}
    for line in judgements:
        latest[line.judge, line.protocol, line.model, line.base, line.sample, line.repeat, line.model_first] = line
    return list(latest.values())


def _notes(folder: Path, summary: dict | None, others: int) -> list[str]:
    notes = []
    if summary is None:
        notes.append(
            f"{folder / SUMMARY_FILE} is not there, so this page has no means of the judges. Make it with: {_ANALYZE}"
        )
    if others:
        notes.append(
            f"{others} judgements are of rows, models or plans that {OUTPUTS_FILE} does not hold, or of references or "
            f"pictures that changed since; they are not shown. Judge again with: {_ANALYZE}"
        )
    return notes


def _item(item: Item, names: Sequence[str], judges: Sequence[str], by_plan: JudgementsByPlan) -> dict[str, Any]:
    return {
        "sample": item.sample,
        "task": item.task_name or item.prompt.strip(),
        "reference": item.reference,
        "plans": [
            _plan(output, names, judges, by_plan.get((output.model, item.sample), []))
            for output in sorted(item.outputs.values(), key=_place)
        ],
        "controls": [
            {"name": name, "said": _entries(judges, by_plan[name, item.sample])}
            for name in CONTROLS
            if (name, item.sample) in by_plan
        ],
    }


def _place(output: Output) -> bytes:
    """Orders the plans of a row by chance, and always alike."""
    return hashlib.sha256(f"{output.sample}\n{output.model}".encode()).digest()


def _plan(
    output: Output, names: Sequence[str], judges: Sequence[str], judgements: Iterable[Judgement]
) -> dict[str, Any]:
    text = output.text
    return {
        "model": names.index(output.model),
        "text": None if text is None else text[:MOST_CHARACTERS],
        "cut": 0 if text is None else max(0, len(text) - MOST_CHARACTERS),
        "new_tokens": output.new_tokens,
        "stop": output.stop,
        "failure": output.failure,
        "said": _entries(judges, judgements),
    }


def _entries(judges: Sequence[str], judgements: Iterable[Judgement]) -> dict[str, list[dict]]:
    """The "said" of a plan."""
    entries: dict[str, list[dict]] = {RUBRIC: [], PAIRWISE: []}
    for judgement in sorted(judgements, key=lambda line: (judges.index(line.judge), line.repeat, not line.model_first)):
        entry = {
            "judge": judges.index(judgement.judge),
            "repeat": judgement.repeat,
            "reasoning": judgement.reasoning[:MOST_REASON],
            "failure": judgement.failure,
            "notes": judgement.notes or [],
        }
        if judgement.protocol == RUBRIC:
            entry |= {"scores": judgement.scores, "final": judgement.final_score}
        else:
            entry |= {"base": judgement.base, "model_first": judgement.model_first, "verdict": judgement.verdict}
        entries[judgement.protocol].append(entry)
    return entries
