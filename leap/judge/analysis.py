"""A blind review's analysis: outputs in, judgements, summary.json, summary.md and judgements.csv out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig, next_line, place_flag
from configs.errors import UserError
from leap.blind.outputs import OUTPUTS_FILE, Item, items_of, read_outputs
from leap.cli import as_plain
from leap.endpoint import SHORTEST_SECRET, Endpoint
from leap.files import read_json, write_json, write_text
from leap.judge.base import base_named
from leap.judge.client import LanguageModelJudge
from leap.judge.judged import ReviewRow, read_up_to_date, review_row
from leap.judge.judgements import PEOPLE, PROGRAMS, REFERENCE_JUDGE, Judgement, write_judgements_csv
from leap.judge.ledger import Price, TokenCounts, most_tokens, read_prices, total, usual_tokens
from leap.judge.options import AUTO, LANGUAGE_MODEL, PRICES, USUAL_JUDGE, JudgeOptions
from leap.judge.ratings import KEY_FILE, read_ratings
from leap.judge.run import (
    Assignment,
    assignments_of,
    judge_folder,
    judgements_of,
    program_judgements,
    write_judgements,
)
from leap.judge.summary import summarise
from leap.judge.table import summary_table
from leap.progress import say
from leap.provenance import code_revision, utc_now

SUMMARY_FILE, TABLE_FILE, CSV_FILE, USAGE_FILE = "summary.json", "summary.md", "judgements.csv", "usage.json"
OPENAI_URL = "https://api.openai.com/v1"  # the default of OpenAI's own client
_MOST_LISTED = 20


def analyse(options: JudgeOptions) -> int:
    """Judge, or with `dry_run` print what it would take. Returns the exit status: 1 if a judgement failed.

    UserError if outputs or judges are missing, or the endpoint is of no use; what was judged until then is kept.
    """
    options = with_judge(options)
    judges = language_models(options) if options.judge == LANGUAGE_MODEL else {}
    path = options.outputs or options.review_dir / OUTPUTS_FILE
    every_item = items_of(read_outputs(path), path)
    items = every_item[: options.max_items]
    models = models_to_judge(items, options)
    options = replace(options, base=base_named(models, options.base), prices=options.prices or PRICES)
    workspace = WorkspaceConfig.from_environment()
    rows = [review_row(item, options.image_root, workspace.root) for item in items]
    people = []
    if options.human:  # before anything is paid for
        people = read_ratings(options.human, options.human_key or options.review_dir / KEY_FILE, every_item)
    if judges:
        for row in rows:
            for note in row.notes:
                say(encodable(f"warning: row {row.item.sample}: {note}; judges are told so", sys.stdout.encoding))
        assignments = assignments_of(rows, models, options)
        prices = read_prices(options.prices or PRICES)
        check_budget(options, prices)
        print_estimate(judges, assignments, prices, options)
        if options.dry_run:
            return 0
        ask_all(judges, assignments, prices, options)
    elif options.dry_run:
        say(f"the {options.judge} judge asks nobody and costs nothing")
        return 0
    for program in dict.fromkeys((REFERENCE_JUDGE, *({options.judge} & PROGRAMS.keys()))):
        judgements = program_judgements(program, items, models)
        write_judgements(options.review_dir, program, judgements, judgements)
    if people:
        write_judgements(options.review_dir, PEOPLE, people, None)
    return report(options, rows, models, judges)


def with_judge(options: JudgeOptions) -> JudgeOptions:
    """`options` with the judge that `auto` means, and the address that a judge is asked at.

    OpenAI's own address is the default of its client, and so for whoever has set a key; an estimate asks nobody and
    needs none. Where no judge is named and no key is set, nothing is sent: the reference judge judges alone.
    """
    has_key = len(os.environ.get("OPENAI_API_KEY", "")) >= SHORTEST_SECRET
    if options.judge == AUTO:
        if not options.judge_model and not has_key and not options.dry_run:
            say(
                "judging by the reference judge alone; for a language model's verdict set OPENAI_API_KEY, or name one "
                "with --judge_model and its address with OPENAI_BASE_URL"
            )
            return replace(options, judge=REFERENCE_JUDGE)
        names = options.judge_model or [USUAL_JUDGE]
        options = replace(options, judge=LANGUAGE_MODEL, judge_model=names)
    if not options.base_url and not os.environ.get("OPENAI_BASE_URL") and (has_key or options.dry_run):
        options = replace(options, base_url=OPENAI_URL)
    return options


def language_models(options: JudgeOptions) -> dict[str, Endpoint]:
    """An endpoint a judge. UserError if none is named."""
    if not options.judge_model:
        raise UserError(
            "no judge named: give --judge_model NAME with OPENAI_BASE_URL and OPENAI_API_KEY set, or --judge "
            "reference, which needs no endpoint"
        )
    endpoints = {}
    for name in options.judge_model:
        if name in (PEOPLE, *PROGRAMS):
            raise UserError(
                f"--judge_model {name} is the name of another kind of judge here; serve the model under another"
            )
        endpoints[name] = Endpoint(options, name, os.environ.get("OPENAI_API_KEY"), model_flag="--judge_model")
    if len({judge_folder(options.review_dir, name) for name in endpoints}) < len(options.judge_model):
        raise UserError(f"two judges share a name or a folder: {', '.join(options.judge_model)}")
    return endpoints


def models_to_judge(items: Sequence[Item], options: JudgeOptions) -> list[str]:
    names = list(dict.fromkeys(model for item in items for model in item.outputs))
    absent = [model for model in options.models if model not in names]
    if absent:
        raise UserError(f"no outputs of {absent[0]}; there are those of {', '.join(names)}")
    return [model for model in names if not options.models or model in options.models]


def check_budget(options: JudgeOptions, prices: dict[str, Price]) -> None:
    unpriced = [name for name in options.judge_model if name not in prices]
    if options.budget is not None and unpriced:
        raise UserError(
            f"--budget needs the price of {unpriced[0]}: add it to {options.prices}, or name another table with "
            "--prices"
        )
    for name in unpriced:
        say(f"{name} has no price in {options.prices}; its tokens are counted, its cost is not known")


def open_judge(name: str, endpoint: Endpoint, price: Price | None, options: JudgeOptions) -> LanguageModelJudge:
    return LanguageModelJudge(name, endpoint, judge_folder(options.review_dir, name), options, price)


def print_estimate(
    judges: dict[str, Endpoint], assignments: Sequence[Assignment], prices: dict[str, Price], options: JudgeOptions
) -> None:
    """What asking each judge takes, and where it is asked; asks nobody."""
    for name, endpoint in judges.items():
        price = prices.get(name)
        judge = open_judge(name, endpoint, price, options)
        by_key = {judge.key(assignment.request): assignment.request for assignment in assignments}
        todo = [request for key, request in by_key.items() if key not in judge.history.valid]
        about = total(usual_tokens(request, price, options.reply_tokens) for request in todo)
        most = total(most_tokens(request, price, options.reply_tokens) for request in todo)
        say(
            f"{name} at {endpoint.address}: {len(assignments)} judgements, {len(by_key)} different requests, "
            f"{len(by_key) - len(todo)} answered already, {len(todo)} to ask with "
            f"{sum(len(request.pictures) for request in todo)} pictures"
        )
        say(f"  about     {tokens_and_cost(about, about.cost(price))}")
        say(f"  at most   {tokens_and_cost(most, most.cost(price))}, if each is answered at the first time")
        judge.close()


def tokens_and_cost(tokens: TokenCounts, cost: float | None) -> str:
    money = "price not known" if cost is None else f"cost {cost:.4f}"
    return f"{tokens.prompt:,} input and {tokens.completion:,} output tokens: {money}"


def ask_all(
    judges: dict[str, Endpoint], assignments: Sequence[Assignment], prices: dict[str, Price], options: JudgeOptions
) -> None:
    """Have every judge asked, its judgements written also where the run ends early."""
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(open_judge(n, e, prices.get(n), options))) for n, e in judges.items()]
        for judge in opened:
            elsewhere = sum(other.spent_at_most() for other in opened if other is not judge)
            try:
                judge.ask([assignment.request for assignment in assignments], options.budget, elsewhere)
            finally:
                folder, judgements = judge_folder(options.review_dir, judge.name), judgements_of(judge, assignments)
                write_judgements(options.review_dir, judge.name, judgements, assignments)
                write_json(folder / USAGE_FILE, judge.usage() | {"not_asked": len(assignments) - len(judgements)})


def report(
    options: JudgeOptions, rows: Sequence[ReviewRow], models: Sequence[str], judges: Mapping[str, Endpoint]
) -> int:
    """Write the summary of all judges there are; 1 if a judgement of this run's judges failed or was not asked for."""
    review = options.review_dir
    outputs = [row.item.outputs[model] for row in rows for model in models if model in row.item.outputs]
    judgements, others = read_up_to_date(review, rows, models)
    summary = summarise(outputs, judgements, options.base, others)
    usages = read_usages(review, [*summary["judges"], *judges])
    for name, judge in summary["judges"].items():
        judge["usage"] = usages.get(name)
    # That of an Endpoint, as the one that the user gave may hold a password.
    address = next((endpoint.address for endpoint in judges.values()), "")
    settings = as_plain(options) | {"base_url": address}
    summary["made"] = {"time": utc_now(), "code_revision": code_revision(), "settings": settings}
    write_json(review / SUMMARY_FILE, summary)
    text = "\n".join([*summary["words"], "", summary_table(summary), "", *map(usage_line, usages, usages.values())])
    write_text(review / TABLE_FILE, encodable(text.rstrip() + "\n"))
    write_judgements_csv(review / CSV_FILE, judgements)

    lines = [text.rstrip(), "", f"{len(judgements)} judgements in all -> {review / SUMMARY_FILE}"]
    failed = [line for line in judgements if line.failure and line.judge in (*judges, *PROGRAMS)]
    lines += failure_lines(failed)
    not_asked = sum(usages[name]["not_asked"] for name in judges if name in usages)
    if not_asked:
        lines.append(f"{not_asked} were not asked for: the budget of {options.budget:g} is reached. Raise it to go on")
    say(encodable("\n".join(lines), sys.stdout.encoding))
    if failed or not_asked:
        return 1
    place = place_flag("--review_dir", review, WorkspaceConfig.from_environment().results / "blind_10")
    say(next_line(f"python scripts/evaluation/draw_blind10_scores.py{place}"))
    return 0


def read_usages(review: Path, judges: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What each judge took so far; those without a usage.json are left out."""
    paths = {name: judge_folder(review, name) / USAGE_FILE for name in judges}
    return {name: read_json(path) for name, path in paths.items() if path.is_file()}


def failure_lines(failed: Sequence[Judgement]) -> list[str]:
    if not failed:
        return []
    lines = [f"{len(failed)} failed; the same command asks for them again:"]
    for judgement in failed[:_MOST_LISTED]:
        order = {None: "", True: ", the model first", False: ", the base first"}[judgement.model_first]
        plan = f"{judgement.model}, row {judgement.sample}, {judgement.protocol} {judgement.repeat}{order}"
        lines.append(f"  {judgement.judge}: {plan}: {judgement.failure}")
    if len(failed) > _MOST_LISTED:
        lines.append(f"  ... and {len(failed) - _MOST_LISTED} more, in {CSV_FILE}")
    return lines


def encodable(text: str, encoding: str | None = None) -> str:
    """`text` as `encoding` (default: UTF-8) can carry it: replies and names may hold lone surrogates."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def usage_line(name: str, usage: Mapping[str, Any]) -> str:
    """What a judge took so far, in one line."""
    tokens = TokenCounts(usage["prompt_tokens"], usage["completion_tokens"])
    line = f"{name} took {usage['requests']} requests with {tokens_and_cost(tokens, usage['cost'])}."
    if usage["unreported_requests"]:
        most = usage["unreported_cost_at_most"]
        line += f" Of {usage['unreported_requests']} that were sent, the endpoint's count never came"
        line += "." if most is None else f"; they cost {most:.4f} at most."
    if usage["not_asked"]:
        line += f" Its last run ended before {usage['not_asked']} judgements were asked for."
    return line
