"""Plans for a JSONL of requests, journaled: a killed run goes on with the same command.

<output_dir>/<model>/
    plans.jsonl       a line a plan, in the requests' order: request and plan (PhotoPlan.record), with `key` and `row`,
                      and `sample`, its number from 0, where several are drawn to each request
    failures.jsonl    requests without a plan: `kind` is "machine" or "data", and the reason
    settings.json     under what these plans were made
    tagged/           pictures on which tags were drawn
    status.json       how far a run is, or how it ended
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import sha256_json
from leap.models.answer import Answer
from leap.planners import MachineFailure, Query, open_planner
from leap.planners.asking import AnswerLog, Journals, OpenQueries, answer_in_turn, claimed_journals
from leap.planners.candidates import Candidate
from leap.planning.options import PlanOptions
from leap.planning.photos import PhotoPlan
from leap.planning.requests import PlanRequest, RequestWriter
from leap.progress import Progress, say
from leap.provenance import hardware
from leap.runs.ranks import ALONE
from leap.runs.status import Status

PLANS_FILE, FAILURES_FILE = "plans.jsonl", "failures.jsonl"


class PlanPlace(NamedTuple):
    """Where a plan stands: the row of its request, and its number among those that are drawn to it, both from 0."""

    row: int
    sample: int | None = None  # None where only one is asked for


class PlanBatch(NamedTuple):
    """What a model wrote, and why plans are missing elsewhere; of a row that cannot be asked all of them."""

    plans: dict[PlanPlace, PhotoPlan]
    failures: dict[PlanPlace, str]


class _Row(NamedTuple):
    """A place of a request that can be asked."""

    place: PlanPlace
    request: PlanRequest


def write_plans(requests: Sequence[PlanRequest], model: Candidate, options: PlanOptions, folder: Path) -> PlanBatch:
    """Have a model answer each request into `folder`. UserError if it holds plans under other settings, which
    `overwrite` throws away."""
    writer = RequestWriter(options, WorkspaceConfig.from_environment(), folder / "tagged")
    planner = open_planner(options, model.folder)
    for note in planner.notes:
        say(f"warning: {note}")
    settings = {"planner": planner.identity(), "prompt": writer.fingerprint()}
    queries, rows_by_key, problems = _queries(requests, writer, options.num_samples)
    with claimed_journals(
        folder, (PLANS_FILE, FAILURES_FILE), settings, ALONE, overwrite=options.overwrite
    ) as journals:
        settled_keys = journals.answered_keys | (set() if options.retry_failed else journals.failed_keys)
        open_queries = OpenQueries(
            queries,
            settled_keys,
            lambda query, result: [_line(query, row, model.name, result) for row in rows_by_key[query.key]],
        )
        settled = sum(len(rows) for key, rows in rows_by_key.items() if key not in open_queries.keys)
        total = settled + sum(len(rows_by_key[key]) for key in open_queries.keys)
        with (
            Status(
                folder / "status.json",
                "outputs",
                {"run": folder.parent.name, "models": [model.name]},
                total=total,
                unit="plan",
                done=settled,
                device=hardware()["gpu"],
            ) as status,
            Progress(f"plans {model.name}", total, "plan", settled) as progress,
        ):
            log = AnswerLog(journals.answers, journals.failures, progress, status)
            if open_queries.keys:
                answer_in_turn([(open_queries, planner.answer(open_queries.batches(planner)))], log)
        return _finished(journals, rows_by_key, problems, model.name)


def _queries(
    requests: Sequence[PlanRequest], writer: RequestWriter, num_samples: int
) -> tuple[list[Query], dict[str, list[_Row]], dict[PlanPlace, str]]:
    """Each query once, what asks it by its key, and why other rows cannot be asked."""
    queries: dict[str, Query] = {}
    rows_by_key: dict[str, list[_Row]] = {}
    problems: dict[PlanPlace, str] = {}
    for row, request in enumerate(requests):
        try:
            samples = writer.queries(request, num_samples)
        except UserError as error:
            problems[PlanPlace(row)] = str(error)
            continue
        for sample, query in enumerate(samples):
            queries[query.key] = query
            place = PlanPlace(row, sample if num_samples > 1 else None)
            rows_by_key.setdefault(query.key, []).append(_Row(place, request))
    return list(queries.values()), rows_by_key, problems


def _line(query: Query, row: _Row, model: str, result: Answer | MachineFailure) -> dict[str, Any]:
    """A line of plans.jsonl, or of failures.jsonl."""
    if isinstance(result, MachineFailure):
        return _failure(query.key, row.place, result.kind, str(result))
    plan = PhotoPlan(row.request, model, result.text, result.stop, result.new_tokens, row.place.sample)
    return {"key": query.key, "row": row.place.row, **plan.record()}


def _failure(key: str, place: PlanPlace, kind: str, reason: str) -> dict[str, Any]:
    sample = {} if place.sample is None else {"sample": place.sample}
    return {"key": key, "row": place.row, **sample, "kind": kind, "reason": reason}


def _finished(
    journals: Journals, rows_by_key: dict[str, list[_Row]], problems: dict[PlanPlace, str], model: str
) -> PlanBatch:
    """Put the journals in the order of the rows, with what they hold of rows that are there now."""
    answers = {line["key"]: line for line in journals.answers.read()}
    failures = {line["key"]: line for line in journals.failures.read() if line["key"] not in answers}
    batch, plan_lines = PlanBatch({}, dict(problems)), {}
    failure_lines = {
        place: _failure(sha256_json(["row", place.row]), place, "data", reason) for place, reason in problems.items()
    }
    for key, rows in rows_by_key.items():
        for place, request in rows:
            if line := answers.get(key):
                plan = PhotoPlan(request, model, line["text"], line["stop"], line["new_tokens"], place.sample)
                batch.plans[place] = plan
                plan_lines[place] = {"key": key, "row": place.row, **plan.record()}
            elif line := failures.get(key):
                batch.failures[place] = line["reason"]
                failure_lines[place] = _failure(key, place, line["kind"], line["reason"])
    journals.answers.rewrite(_in_order(plan_lines))
    journals.failures.rewrite(_in_order(failure_lines))
    return batch


def _in_order(lines: dict[PlanPlace, dict]) -> list[dict]:
    return [lines[place] for place in sorted(lines, key=lambda place: (place.row, place.sample or 0))]
