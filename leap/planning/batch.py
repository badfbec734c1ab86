"""Plans for a JSONL of requests, journaled: a killed run goes on with the same command.

<output_dir>/<model>/
    plans.jsonl       a line a request, in its order: request and plan (PhotoPlan.record), with its `key` and `row`
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


class PlanBatch(NamedTuple):
    """What a model wrote, by row from 0, and why other rows have no plan."""

    plans: dict[int, PhotoPlan]
    failures: dict[int, str]


class _Row(NamedTuple):
    """A request that can be asked, and its row from 0."""

    row: int
    request: PlanRequest


def write_plans(requests: Sequence[PlanRequest], model: Candidate, options: PlanOptions, folder: Path) -> PlanBatch:
    """Have a model answer each request into `folder`. UserError if it holds plans under other settings, which
    `overwrite` throws away."""
    writer = RequestWriter(options, WorkspaceConfig.from_environment(), folder / "tagged")
    planner = open_planner(options, model.folder)
    for note in planner.notes:
        say(f"warning: {note}")
    settings = {"planner": planner.identity(), "prompt": writer.fingerprint()}
    queries, rows_by_key, problems = _queries(requests, writer)
    with claimed_journals(
        folder, (PLANS_FILE, FAILURES_FILE), settings, ALONE, overwrite=options.overwrite
    ) as journals:
        settled_keys = journals.answered_keys | (set() if options.retry_failed else journals.failed_keys)
        open_queries = OpenQueries(
            queries,
            settled_keys,
            lambda query, result: [_line(query, place, model.name, result) for place in rows_by_key[query.key]],
        )
        settled = sum(len(places) for key, places in rows_by_key.items() if key not in open_queries.keys)
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
    requests: Sequence[PlanRequest], writer: RequestWriter
) -> tuple[list[Query], dict[str, list[_Row]], dict[int, str]]:
    """Each query once, what asks it by its key, and why other rows cannot be asked."""
    queries: dict[str, Query] = {}
    rows_by_key: dict[str, list[_Row]] = {}
    problems: dict[int, str] = {}
    for row, request in enumerate(requests):
        try:
            query = writer.query(request)
        except UserError as error:
            problems[row] = str(error)
            continue
        queries[query.key] = query
        rows_by_key.setdefault(query.key, []).append(_Row(row, request))
    return list(queries.values()), rows_by_key, problems


def _line(query: Query, place: _Row, model: str, result: Answer | MachineFailure) -> dict[str, Any]:
    """A line of plans.jsonl, or of failures.jsonl."""
    if isinstance(result, MachineFailure):
        return _failure(query.key, place.row, result.kind, str(result))
    plan = PhotoPlan(place.request, model, result.text, result.stop, result.new_tokens)
    return {"key": query.key, "row": place.row, **plan.record()}


def _failure(key: str, row: int, kind: str, reason: str) -> dict[str, Any]:
    return {"key": key, "row": row, "kind": kind, "reason": reason}


def _finished(
    journals: Journals, rows_by_key: dict[str, list[_Row]], problems: dict[int, str], model: str
) -> PlanBatch:
    """Put the journals in the order of the rows, with what they hold of rows that are there now."""
    answers = {line["key"]: line for line in journals.answers.read()}
    failures = {line["key"]: line for line in journals.failures.read() if line["key"] not in answers}
    batch, plan_lines = PlanBatch({}, dict(problems)), {}
    failure_lines = {row: _failure(sha256_json(["row", row]), row, "data", reason) for row, reason in problems.items()}
    for key, places in rows_by_key.items():
        for place in places:
            if line := answers.get(key):
                plan = PhotoPlan(place.request, model, line["text"], line["stop"], line["new_tokens"])
                batch.plans[place.row] = plan
                plan_lines[place.row] = {"key": key, "row": place.row, **plan.record()}
            elif line := failures.get(key):
                batch.failures[place.row] = line["reason"]
                failure_lines[place.row] = line | {"row": place.row}
    journals.answers.rewrite([plan_lines[row] for row in sorted(plan_lines)])
    journals.failures.rewrite([failure_lines[row] for row in sorted(failure_lines)])
    return batch
