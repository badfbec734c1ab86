#!/usr/bin/env python3
"""Ask a teacher model to think about planning rows, and keep its thoughts where its plans are right.

    export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
    python scripts/utils/distill_reasoning.py --rows data/train.jsonl --model NAME --dry_run
    python scripts/utils/distill_reasoning.py --rows data/train.jsonl --model NAME --max_requests 500
    python scripts/utils/distill_reasoning.py --rows data/train.jsonl --model NAME --draws 4 --temperature 0.7
    python scripts/utils/distill_reasoning.py --rows data/train.jsonl --planner huggingface --base_model models/teacher

Writes rows whose target is <think>...</think> and the plan to <name>_thoughts.jsonl (or --output). The teacher does not
see a row's plan; an answer is kept if its plan is right. Answers are journaled below logs/distill: a killed run goes on
with the same command, and nothing that was answered is asked again. Exit status 1 if rows failed or were not asked.
"""

from __future__ import annotations

from configs.config import WorkspaceConfig
from leap.cli import parse_knobs, run
from leap.training.distillation import DistillationOptions, distil


def main() -> int:
    return distil(parse_knobs(DistillationOptions, None, __doc__), WorkspaceConfig.from_environment())


if __name__ == "__main__":
    run(main)
