"""The knobs of a blind review's judgement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import REPOSITORY
from leap.cli import knob
from leap.judge.judgements import PAIRWISE, PROGRAMS, RUBRIC
from leap.judge.plan_text import SHOWN_CHARACTERS

AUTO, LANGUAGE_MODEL = "auto", "llm"
USUAL_JUDGE = "gpt-4o-mini"


@dataclass(frozen=True)
class JudgeOptions:
    review_dir: Path = knob(Path("eva_results/blind_10"), "folder of the review")
    outputs: Path | None = knob(
        None,
        "outputs to judge, JSONL or the original's CSV (default: outputs.jsonl of the review)",
    )
    image_root: Path | None = knob(None, "folder in which the pictures of the rows are looked for")
    models: list[str] = knob([], "only these models")
    max_items: int | None = knob(None, "only the first so many rows", check="> 0")
    base: str | None = knob(None, "the model that others are compared with (default: the one that is called baseline)")

    judge: str = knob(
        AUTO,
        f"who judges: language models over an endpoint, or a program alone; auto: the former where --judge_model or "
        f"OPENAI_API_KEY ({USUAL_JUDGE} then) names one",
        choices=(AUTO, LANGUAGE_MODEL, *PROGRAMS),
    )
    judge_model: list[str] = knob([], "names under which the endpoint serves the judges")
    base_url: str = knob("", "address of an OpenAI-compatible endpoint (default: OPENAI_BASE_URL, else OpenAI's)")
    protocol: list[str] = knob(
        [RUBRIC], "rubric: four scales a plan; pairwise: each model beside the base, in both orders"
    )
    repeats: int = knob(3, "how often each plan is scored by the rubric", check="> 0")
    pair_repeats: int = knob(1, "how often each pair is judged in each order", check="> 0")
    seed: int = knob(42, "seed of ids and the order of requests", check=">= 0")
    temperature: float = knob(1.0, "of the judge; at 0 repeats say little about its steadiness", check=">= 0")
    reply_tokens: int = knob(1024, "longest reply in tokens", check="> 0")
    plan_characters: int = knob(
        SHOWN_CHARACTERS, "of a plan, shown to judges; a longer one is cut and says so", check="> 0"
    )
    max_asks: int = knob(3, "how often a request without a valid reply is asked in a run", check="> 0", free=True)

    dry_run: bool = knob(False, "print requests, tokens and price; ask nobody")
    budget: float | None = knob(
        None, "stop before this much is spent, in the currency of the price table", check=">= 0"
    )
    prices: Path | None = knob(None, "price table (default: configs/judge/prices.yaml of the repository)")
    concurrency: int = knob(8, "requests in flight", check="> 0", free=True)
    request_timeout_s: float = knob(120.0, "longest wait for a reply in seconds", check="> 0", free=True)
    backoff_s: float = knob(
        1.0, "seconds before the first retry, doubled for each that follows", check="> 0", free=True
    )
    max_retries: int = knob(6, "tries of a request after the first where the endpoint fails", check=">= 0", free=True)

    human: Path | None = knob(None, "ratings by people: a CSV exported from the rating sheet, or a folder of them")
    human_key: Path | None = knob(None, "the key to these ratings (default: rating_key.json of the review)")


PROTOCOLS = (RUBRIC, PAIRWISE)
PRICES = REPOSITORY / "configs" / "judge" / "prices.yaml"
