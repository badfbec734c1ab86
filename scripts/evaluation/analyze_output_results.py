#!/usr/bin/env python3
"""Judge the plans of a blind review and say, with intervals, which models plan better.

    python scripts/evaluation/analyze_output_results.py --judge reference           # no endpoint, no cost
    OPENAI_API_KEY=... python scripts/evaluation/analyze_output_results.py          # gpt-4o-mini, its cost said first
    export OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_API_KEY=...
    python scripts/evaluation/analyze_output_results.py --judge_model gpt-4o-mini --dry-run
    python scripts/evaluation/analyze_output_results.py --judge_model gpt-4o-mini --budget 5
    python scripts/evaluation/analyze_output_results.py --judge_model A B --protocol rubric pairwise
    python scripts/evaluation/analyze_output_results.py --judge reference --human ratings.csv

Judges eva_results/blind_10/outputs.jsonl (run_vlm_output.py makes it). Every reply is kept, and none is paid for twice:
a killed run continues with the same command, and failed judgements are asked again. The reference judge always goes
along, and judges alone where no judge is named and no key is set. Exit status 1 if a judgement failed.
"""

from __future__ import annotations

import configs  # noqa: F401  says what is missing where the environment is not active
from leap.cli import parse_knobs, run
from leap.judge.options import JudgeOptions


def main() -> int:
    options = parse_knobs(JudgeOptions, None, __doc__)
    from leap.judge.analysis import analyse

    return analyse(options)


if __name__ == "__main__":
    run(main)
