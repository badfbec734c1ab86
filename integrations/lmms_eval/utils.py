"""What lmms-eval asks of a task: the prompt of an example as LEAP's own evaluation words it, and the scores of an
answer, those of leap.plans.scoring (which needs neither torch nor transformers).

A document is a row of the data set that scripts/utils/build_hf_dataset.py builds.
"""

from __future__ import annotations

import json
from typing import Any

from leap.plans.scoring import ORDER_INDEPENDENT_TASKS, score_grounded, score_official


def doc_to_messages(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> list[dict]:
    """The user turn, pictures where the prompt has them."""
    items = [
        {"type": "image", "url": doc[item["image"]].convert("RGB")} if item["type"] == "image" else item
        for item in json.loads(doc["prompt"])
    ]
    return [{"role": "user", "content": items}]


def doc_to_visual(doc: dict[str, Any]) -> list:
    """The pictures in the order of the prompt."""
    items = json.loads(doc["prompt"])
    return [doc[item["image"]].convert("RGB") for item in items if item["type"] == "image"]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> str:
    """The words alone, for models that take pictures apart from them."""
    return "".join(item["text"] for item in json.loads(doc["prompt"]) if item["type"] == "text")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The scores of one answer, 0 to 100 (the official total: to 80)."""
    truth, free_order = json.loads(doc["skill_sequence"]), doc["task"] in ORDER_INDEPENDENT_TASKS
    official = score_official(results[0], truth, order_independent=free_order).scores
    grounded = score_grounded(results[0], truth, order_independent=free_order).scores
    return {f"official_{metric}": float(score) for metric, score in official.items()} | {
        f"grounded_{metric}": grounded[metric] for metric in ("total_score", "plan_success")
    }
