"""Scores of one model in one dimension, made from the answers in its journal: every file of the folder but the journals
(leap.vlabench.folder says which).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leap.files import sha256_json, write_text
from leap.plans.diagnosis import ERROR_LABELS, Diagnosis, diagnose_plan, skill_confusion, skill_pairs
from leap.plans.reading import FormatError, Plan, Step, plan_of, read_official, read_plan, steps_of
from leap.plans.scoring import (
    METRICS,
    ORDER_INDEPENDENT_TASKS,
    SCORER_VERSIONS,
    Score,
    no_plan,
    score_official_sequence,
    score_steps,
)
from leap.statistics import Estimate
from leap.vlabench.draws import DrawnAnswer, drawn_answer, draws_of
from leap.vlabench.examples import Example
from leap.vlabench.folder import (
    DIAGNOSIS_FILE,
    OUTPUT_FILE,
    RUN_INFO,
    SCORE_FILES,
    AnswerRecord,
    ExampleCounts,
    ExampleKey,
    FailureRecord,
    Summary,
    write_summary,
)
from leap.vlabench.sampling import Origin, dimension_estimates, origin_of

_BY_LENGTH = ("total_score", "plan_success")

# Any plan does to find out whether the official scorer can read an answer: what it trips over lies in the answer.
_ANY_PLAN = [{"name": "press", "params": {"target_entity_name": 0}}]


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer's scores by scorer, the plan in it by the grounded rules (None: there is none), its entry of
    output.json, and how the plan differs from `true`, the steps of the ground truth."""

    scores: dict[str, Score]
    plan: Plan | None
    output: dict[str, Any]
    true: list[Step]
    diagnosis: Diagnosis


def score_answer(answer: AnswerRecord, truth: list[dict] | None) -> ScoredAnswer:
    """Score an answer by both rules. Without a ground truth (None) only the plan and each score's status and reason
    mean something."""
    truth, free_order = truth or _ANY_PLAN, answer.task in ORDER_INDEPENDENT_TASKS
    true = steps_of(truth)
    output, reason = (dict(answer.output), "no json fence with JSON in it") if answer.output else _output_of(answer)
    if "format_error" in output:
        official = no_plan("official", reason)
    else:
        official = score_official_sequence(output["skill_sequence"], truth, order_independent=free_order)
    plan: Plan | None = None
    try:
        text = answer.text
        plan = plan_of(output.get("skill_sequence")) if text is None else read_plan(text)
        grounded = score_steps(plan.steps, true, order_independent=free_order)
    except FormatError as error:
        grounded = no_plan("grounded", str(error))
    scores = {"official": official, "grounded": grounded}
    return ScoredAnswer(scores, plan, output, true, diagnose_plan(plan, true, order_independent=free_order))


def _output_of(answer: AnswerRecord) -> tuple[dict[str, Any], str]:
    """The entry of output.json for an answer of ours, and why there is no plan in it."""
    try:
        return {"origin_output": answer.text, "skill_sequence": read_official(answer.text or "")}, ""
    except FormatError as error:
        return {"origin_output": answer.text, "format_error": "format_error"}, str(error)


def write_results(
    folder: Path,
    answers: Mapping[Example, AnswerRecord],
    failures: Sequence[FailureRecord],
    total: int,
    settings: dict[str, Any],
    provenance: dict[str, Any],
    further: Mapping[Example, Sequence[AnswerRecord]] | None = None,
) -> Summary:
    """Score `answers`, write all files made of scores, return the summary.

    `total` is how many examples the dimension has in the benchmark. An answer may be any text. With `further` answers
    drawn to an example its scores are the means over all; its texts, outcome and diagnosis are those of the first.
    UserError for an example whose ground truth cannot be scored: such a one is no answer.
    """
    tally = _Tally()
    for example, answer in answers.items():
        tally.add(example, answer, (further or {}).get(example, ()))
    means = tally.means(folder.parent.name)
    kinds = Counter(failure.kind for failure in failures)
    cut = sum(answer.stop == "length" for answer in answers.values())
    summary = Summary(
        model=folder.name,
        dimension=folder.parent.name,
        examples=ExampleCounts(total, len(answers), kinds["machine"], kinds["data"], cut),
        outcomes={scorer: dict(counts) for scorer, counts in tally.outcomes.items()},
        scores=means,
        scorers=dict(SCORER_VERSIONS),
        average_scores={name: estimate.mean for name, estimate in means.get("official", {}).items()},
        tasks=tally.tasks(),
        diagnosis=tally.diagnosis(),
        draws=tally.draws(folder.parent.name),
        settings=settings,
        provenance=provenance,
    )
    for name, by_task in tally.lines.items():
        parts = [f"{json.dumps(task)}: {{\n" + ",\n".join(lines) + "\n}" for task, lines in by_task.items()]
        if name == OUTPUT_FILE:
            info = {"existing_num": len(answers), "already_running_time": 0}
            parts.insert(0, f'"{RUN_INFO}": {json.dumps(info)}')
        write_text(folder / name, "{" + ",\n".join(parts) + "}\n")
    write_summary(folder, summary)
    return summary


def _mean_scores(answers: Sequence[ScoredAnswer]) -> dict[str, dict[str, float]]:
    """The scores of an example by scorer and metric, over its answers."""
    if len(answers) == 1:
        return {scorer: score.scores for scorer, score in answers[0].scores.items()}
    by_scorer = {scorer: [answer.scores[scorer].scores for answer in answers] for scorer in METRICS}
    return {
        scorer: {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}
        for scorer, scores in by_scorer.items()
    }


class _Tally:
    """What a dimension's answers add up to. Keeps numbers and lines of text only, so that many answers stay cheap."""

    def __init__(self) -> None:
        # {file: {task: lines}}: one line an example.
        files = (*SCORE_FILES.values(), DIAGNOSIS_FILE, OUTPUT_FILE)
        self.lines = {name: defaultdict[str, list[str]](list) for name in files}
        self.outcomes = {scorer: Counter[str]() for scorer in METRICS}
        self._rows: dict[str, list[list[float]]] = defaultdict(list)  # by task: an example's metrics of both scorers
        self._scores: dict[str, dict[ExampleKey, dict[str, float]]] = {scorer: {} for scorer in METRICS}
        self._origins: dict[ExampleKey, Origin] = {}
        self._drawn: dict[ExampleKey, list[DrawnAnswer]] = {}
        self._labels: Counter[str] = Counter()
        self._skills: list[tuple[str, str]] = []
        self._by_length: dict[int, list[tuple[float, ...]]] = defaultdict(list)

    def add(self, example: Example, answer: AnswerRecord, further: Sequence[AnswerRecord] = ()) -> None:
        """Score the answer to an example, or the answers if several were drawn."""
        truth = example.ground_truth()
        scored = score_answer(answer, truth)
        every = [scored, *(score_answer(other, truth) for other in further)]
        labels, scores = scored.diagnosis.labels, _mean_scores(every)
        entries: dict[str, Any] = {SCORE_FILES[scorer]: by_metric for scorer, by_metric in scores.items()}
        key, origin = (example.task, example.number), origin_of(example)
        entries[DIAGNOSIS_FILE] = {"labels": labels, "truth_sha256": sha256_json(truth), **origin}
        for name, entry in (*entries.items(), (OUTPUT_FILE, scored.output)):
            self.lines[name][example.task].append(f'  "{example.number}": {json.dumps(entry)}')
        for scorer, score in scored.scores.items():
            self.outcomes[scorer][score.status] += 1
            self._scores[scorer][key] = scores[scorer]
        self._origins[key] = origin
        plain = [{scorer: score.scores for scorer, score in each.scores.items()} for each in every]
        self._drawn[key] = [drawn_answer(each.plan, by_scorer) for each, by_scorer in zip(every, plain, strict=True)]
        self._rows[example.task].append([scores[scorer][name] for scorer, names in METRICS.items() for name in names])
        self._labels.update(labels)
        self._skills += skill_pairs(scored.true, scored.diagnosis)
        self._by_length[len(scored.true)].append(tuple(scores["grounded"][name] for name in _BY_LENGTH))

    def means(self, dimension: str) -> dict[str, dict[str, Estimate]]:
        """`scores` of the summary."""
        if not self._rows:
            return {}
        return {
            scorer: dimension_estimates(dimension, scores, self._origins, scorer)
            for scorer, scores in self._scores.items()
        }

    def tasks(self) -> dict[str, Any]:
        """`tasks` of the summary."""
        tasks: dict[str, Any] = {}
        for task, rows in self._rows.items():
            means = iter(np.mean(np.array(rows, dtype=float), axis=0).tolist())
            by_scorer = {scorer: {name: next(means) for name in names} for scorer, names in METRICS.items()}
            tasks[task] = {"examples": len(rows), **by_scorer}
        return tasks

    def draws(self, dimension: str) -> dict[str, Any]:
        """`draws` of the summary."""
        return draws_of(dimension, self._drawn, self._origins)

    def diagnosis(self) -> dict[str, Any]:
        """`diagnosis` of the summary: how many answers have each label, which skill stood for which, and how the
        grounded scores fall with the number of steps in the ground truth."""
        return {
            "labels": {label: self._labels[label] for label in ERROR_LABELS},
            "confusion": skill_confusion(self._skills),
            "by_length": {
                str(length): {
                    "examples": len(scores),
                    **dict(zip(_BY_LENGTH, np.mean(scores, axis=0).tolist(), strict=True)),
                }
                for length, scores in sorted(self._by_length.items())
            },
        }
