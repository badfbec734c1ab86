"""A blind review's analysis: outputs in, judgements, summary.json, summary.md and judgements.csv out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.blind.outputs import OUTPUTS_FILE, Item, Output, items_of, read_outputs
from leap.cli import as_plain
from leap.endpoint import Endpoint, endpoint_named
from leap.files import read_json, write_json, write_text
from leap.judge.client import LanguageModelJudge
from leap.judge.judgements import PEOPLE, REFERENCE_JUDGE, Judgement, plan_hash, read_judgements
from leap.judge.ledger import Price, Tokens, most_tokens, read_prices, total, usual_tokens
from leap.judge.options import PROTOCOLS, JudgeOptions
from leap.judge.prompts import scene_of
from leap.judge.ratings import KEY_FILE, read_ratings
from leap.judge.run import (
    Ask,
    asks_of,
    judge_folder,
    judgements_of,
    reference_judgements,
    up_to_date,
    write_judgements,
)
from leap.judge.summary import summarise, summary_table, write_judgements_csv
from leap.progress import say
from leap.provenance import code_revision, utc_now

SUMMARY_FILE, TABLE_FILE, CSV_FILE, USAGE_FILE = "summary.json", "summary.md", "judgements.csv", "usage.json"
_MOST_LISTED = 20


def analyse(options: JudgeOptions) -> int:
    """Judge, or with `dry_run` print what it would take. Returns the exit status: 1 if a judgement failed.

    UserError if outputs or judges are missing, or the endpoint is of no use; what was judged until then is kept.
    """
    judges = language_models(options) if options.judge == "llm" else {}
    path = options.outputs or options.review_dir / OUTPUTS_FILE
    outputs = read_outputs(path)
    items = items_of(outputs, path)[: options.max_items]
    models = models_to_judge(items, options)
    if judges:
        workspace = WorkspaceConfig.from_environment()
        scenes = [scene_of(item, options.image_root, workspace.root) for item in items]
        for scene in scenes:
            for note in scene.notes:
                say(f"warning: row {scene.item.sample}: {note}; judges are told so")
        asks = asks_of(scenes, models, options)
        prices = read_prices(options.prices)
        check_budget(options, prices)
        if options.dry_run:
            print_estimate(judges, asks, prices, options)
            return 0
        ask_all(judges, asks, prices, options)
    elif options.dry_run:
        print("the reference judge asks nobody and costs nothing")
        return 0
    write_judgements(options.review_dir, REFERENCE_JUDGE, reference_judgements(items, models), PROTOCOLS)
    if options.human:
        write_judgements(options.review_dir, PEOPLE, ratings(options.human, options, outputs), PROTOCOLS)
    return report(options, items, models)


def ratings(path: Path, options: JudgeOptions, outputs: Sequence[Output]) -> list[Judgement]:
    """What people said of the plans, as judgements."""
    texts = {(output.model, output.sample): output.text for output in outputs}
    found = read_ratings(path, options.review_dir / KEY_FILE, outputs)
    return [replace(said, plan=plan_hash(texts[said.model, said.sample])) for said in found]


def language_models(options: JudgeOptions) -> dict[str, Endpoint]:
    """An endpoint a judge. UserError if none is named."""
    if not options.judge_model:
        raise UserError(
            "no judge named: give --judge_model NAME with OPENAI_BASE_URL and OPENAI_API_KEY set, or --judge "
            "reference, which needs no endpoint"
        )
    address, key = endpoint_named(options.base_url), os.environ.get("OPENAI_API_KEY")
    found = {}
    for name in options.judge_model:
        if name in (PEOPLE, REFERENCE_JUDGE):
            raise UserError(
                f"--judge_model {name} is the name of another kind of judge here; serve the model under another"
            )
        found[name] = Endpoint(
            address,
            name,
            key,
            options.concurrency,
            options.request_timeout_s,
            options.max_retries,
            options.backoff_s,
            model_flag="--judge_model",
        )
    if len({judge_folder(options.review_dir, name) for name in found}) < len(options.judge_model):
        raise UserError(f"two judges share a name or a folder: {', '.join(options.judge_model)}")
    return found


def models_to_judge(items: Sequence[Item], options: JudgeOptions) -> list[str]:
    there = list(dict.fromkeys(model for item in items for model in item.outputs))
    absent = [model for model in options.models if model not in there]
    if absent:
        raise UserError(f"no outputs of {absent[0]}; there are those of {', '.join(there)}")
    return [model for model in there if not options.models or model in options.models]


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
    folder = judge_folder(options.review_dir, name)
    return LanguageModelJudge(
        name, endpoint, folder, price, options.temperature, options.reply_tokens, options.max_asks
    )


def print_estimate(
    judges: dict[str, Endpoint], asks: Sequence[Ask], prices: dict[str, Price], options: JudgeOptions
) -> None:
    """What asking each judge would take; asks nobody."""
    for name, endpoint in judges.items():
        price = prices.get(name)
        judge = open_judge(name, endpoint, price, options)
        by_key = {judge.key(ask.request): ask.request for ask in asks}
        todo = [request for key, request in by_key.items() if key not in judge.history.valid]
        about = total(usual_tokens(request, price, options.reply_tokens) for request in todo)
        most = total(most_tokens(request, price, options.reply_tokens) for request in todo)
        print(
            f"{name}: {len(asks)} judgements, {len(by_key)} different requests, {len(by_key) - len(todo)} answered "
            f"already, {len(todo)} to ask with {sum(len(request.pictures) for request in todo)} pictures"
        )
        print(f"  about     {tokens_and_cost(about, about.cost(price))}")
        print(f"  at most   {tokens_and_cost(most, most.cost(price))}, if each is answered at the first time")
        judge.close()


def tokens_and_cost(tokens: Tokens, cost: float | None) -> str:
    money = "price not known" if cost is None else f"cost {cost:.4f}"
    return f"{tokens.prompt:,} input and {tokens.completion:,} output tokens: {money}"


def ask_all(judges: dict[str, Endpoint], asks: Sequence[Ask], prices: dict[str, Price], options: JudgeOptions) -> None:
    """Have every judge asked, its judgements written also where the run ends early."""
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(open_judge(n, e, prices.get(n), options))) for n, e in judges.items()]
        for judge in opened:
            elsewhere = sum(other.spent_at_most() for other in opened if other is not judge)
            try:
                judge.ask([ask.request for ask in asks], options.budget, elsewhere)
            finally:
                folder, judgements = judge_folder(options.review_dir, judge.name), judgements_of(judge, asks)
                write_judgements(options.review_dir, judge.name, judgements, options.protocol)
                write_json(folder / USAGE_FILE, judge.usage() | {"not_asked": len(asks) - len(judgements)})


def report(options: JudgeOptions, items: Sequence[Item], models: Sequence[str]) -> int:
    """Write the summary of all judges there are; 1 if a judgement of this run's judges failed or was not asked for."""
    review = options.review_dir
    outputs = [item.outputs[model] for item in items for model in models if model in item.outputs]
    everything = read_judgements(review)
    judgements = up_to_date(everything, items, models)
    if len(judgements) < len(everything):
        say(f"{len(everything) - len(judgements)} judgements are of other rows, models or plans and do not count")
    summary = summarise(outputs, judgements, options.base if options.base in models else None)
    for name, found in summary["judges"].items():
        path = judge_folder(review, name) / USAGE_FILE
        found["usage"] = read_json(path) if path.is_file() else None
    usages = {name: found["usage"] for name, found in summary["judges"].items() if found["usage"]}
    summary["made"] = {"time": utc_now(), "code_revision": code_revision(), "settings": as_plain(options)}
    write_json(review / SUMMARY_FILE, summary)
    text = "\n".join([*summary["words"], "", summary_table(summary), "", *map(usage_line, usages, usages.values())])
    write_text(review / TABLE_FILE, text.rstrip() + "\n")
    write_judgements_csv(review / CSV_FILE, judgements)
    print("\n" + text.rstrip())

    names = [*(options.judge_model if options.judge == "llm" else []), REFERENCE_JUDGE]
    failed = [said for said in judgements if said.failure and said.judge in names]
    print(f"\n{len(judgements)} judgements in all -> {review / SUMMARY_FILE}")
    if failed:
        print(f"{len(failed)} failed; the same command asks for them again:")
    for said in failed[:_MOST_LISTED]:
        print(f"  {said.judge}: {said.model}, row {said.sample}, {said.protocol} {said.repeat}: {said.failure}")
    if len(failed) > _MOST_LISTED:
        print(f"  ... and {len(failed) - _MOST_LISTED} more, in {CSV_FILE}")
    not_asked = sum(usages[name]["not_asked"] for name in names if name in usages)
    if not_asked:
        print(f"{not_asked} were not asked for: the budget of {options.budget:g} is reached. Raise it to go on")
    return 1 if failed or not_asked else 0


def usage_line(name: str, usage: Mapping[str, Any]) -> str:
    """What a judge took so far, in one line."""
    tokens = Tokens(usage["prompt_tokens"], usage["completion_tokens"])
    line = f"{name} took {usage['requests']} requests with {tokens_and_cost(tokens, usage['cost'])}."
    if usage["unreported_requests"]:
        most = usage["unreported_cost_at_most"]
        line += f" Of {usage['unreported_requests']} that were sent, the endpoint's count never came"
        line += "." if most is None else f"; they cost {most:.4f} at most."
    return line
