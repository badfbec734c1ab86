"""What one model gave in one dimension, by example: read from eva_results/<dimension>/<model>/.

The folder may belong to an evaluation that is still running: a torn last line is passed over, scores may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import read_json
from leap.plans.scoring import Score, score_grounded, score_official, score_official_sequence
from leap.vlabench.results import METRICS, SCORE_FILES

Place = tuple[str, int]  # task, example number

# Any plan does to find out whether the official scorer can read an answer: what it trips over lies in the answer.
_ANY_PLAN = [{"name": "press", "params": {"target_entity_name": 0}}]


@dataclass(frozen=True)
class Answers:
    """`records` are the journal's lines, `failures` those of failures.jsonl for examples that have no answer, `scores`
    the metrics by scorer, `labels` the error labels of diagnosis.json as far as there is one."""

    with_cot: bool = False
    records: dict[Place, dict] = field(default_factory=dict)
    failures: dict[Place, dict] = field(default_factory=dict)
    scores: dict[str, dict[Place, dict[str, float]]] = field(default_factory=lambda: {scorer: {} for scorer in METRICS})
    labels: dict[Place, list[str]] = field(default_factory=dict)

    def places(self) -> set[Place]:
        """The examples that were asked."""
        return self.records.keys() | self.failures.keys()


def read_answers(folder: Path) -> Answers:
    """All a result folder says about single examples. UserError names a line or file that is not as it should be."""
    settings = _json_if_there(folder / "settings.json")
    records = _by_place(folder / "generations.jsonl")
    failures = _by_place(folder / "failures.jsonl")
    return Answers(
        bool(settings.get("prompt", {}).get("with_cot")),
        records,
        {place: failure for place, failure in failures.items() if place not in records},
        {scorer: _flat(folder / name) for scorer, name in SCORE_FILES.items()},
        {place: entry["labels"] for place, entry in _flat(folder / "diagnosis.json").items()},
    )


def text_of(record: Mapping[str, Any]) -> str:
    """The model's text; of an imported answer that kept none, its skill list."""
    if record["text"] is not None:
        return record["text"]
    return json.dumps(record.get("output", {}).get("skill_sequence", ""))


def scored_again(
    record: Mapping[str, Any], truth: list[dict] | None, order_independent: bool, with_cot: bool
) -> dict[str, Score]:
    """The answer by each scorer: whether it could be read, why not, and its scores. Without a ground truth (None) the
    scores mean nothing."""
    text, output, truth = text_of(record), record.get("output"), truth or _ANY_PLAN
    if output and "skill_sequence" in output:
        official = score_official_sequence(output["skill_sequence"], truth, order_independent)
    else:
        official = score_official(text, truth, order_independent)
    return {"official": official, "grounded": score_grounded(text, truth, order_independent, with_cot)}


def _by_place(path: Path) -> dict[Place, dict]:
    """The finished lines of a JSONL file by example, the last one of each."""
    found: dict[Place, dict] = {}
    if not path.is_file():
        return found
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            found[record["task"], int(record["example"])] = record
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: not a line with task and example ({error}). Mend or remove the line"
            ) from error
    return found


def _flat(path: Path) -> dict[Place, Any]:
    """{task: {number: entry}} of a JSON file as {(task, number): entry}; {} if there is no such file."""
    by_task = _json_if_there(path)
    return {
        (task, int(number)): entry
        for task, entries in by_task.items()
        if task != "benchmeatinfo"  # VLABench's own extra
        for number, entry in entries.items()
    }


def _json_if_there(path: Path) -> dict:
    return read_json(path) if path.is_file() else {}
