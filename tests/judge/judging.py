"""Judging in a test: rows of a review, a judge that asks the endpoint of judge_server, the script's command line."""

import os
import sys

from configs.config import REPOSITORY
from leap.blind.outputs import items_of, read_outputs
from leap.endpoint import Endpoint
from leap.judge.client import LanguageModelJudge
from leap.judge.judged import review_row
from leap.judge.ledger import Price
from leap.judge.options import JudgeOptions
from leap.judge.run import judgements_of

SCRIPT = REPOSITORY / "scripts" / "evaluation" / "analyze_output_results.py"
SECRET = "sk-very-secret-0123456789"
PRICE = Price(input=1.0, output=2.0, picture_tokens=100, picture_tokens_most=500)


def rows_of(path):
    return [review_row(item, None, path.parent) for item in items_of(read_outputs(path), path)]


def judge_of(server, folder, price=PRICE, max_asks=3, key=SECRET, **options) -> LanguageModelJudge:
    options = {"concurrency": 2, "backoff_s": 0.01, "max_retries": 2, "request_timeout_s": 5.0} | options
    options = JudgeOptions(base_url=server.url, max_asks=max_asks, **options)
    return LanguageModelJudge("j", Endpoint(options, "judge", key), folder, options, price)


def ask(judge, assignments, budget=None):
    judge.ask([assignment.request for assignment in assignments], budget)
    return judgements_of(judge, assignments)


def command(review, *arguments):
    return [
        sys.executable,
        str(SCRIPT),
        "--review_dir",
        str(review),
        "--prices",
        str(review / "prices.yaml"),
        *arguments,
    ]


def environment(url="", key="sk-secret"):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    return kept | ({"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key} if url else {})
