"""The command `leap`: every script of the repository under a short name.

    leap evaluate --checkpoint output --dimension all

is `python scripts/evaluation/run_vlm_evaluation.py --checkpoint output --dimension all`.
"""

from __future__ import annotations

import os
import sys

from configs.config import REPOSITORY
from configs.errors import UserError, did_you_mean
from leap import __version__
from leap.cli import run
from leap.progress import say

# What each name runs, below scripts/. Trainings go through their launchers, which take all visible GPUs.
SCRIPTS = {
    "train": "training/run-training.sh",
    "lora": "ablation/run-lora-training.sh",
    "sweep": "ablation/run-ablation-experiments.sh",
    "reinforce": "training/run-rl.sh",
    "evaluate": "evaluation/run_vlm_evaluation.py",
    "rescore": "evaluation/rescore.py",
    "plan": "evaluation/plan.py",
    "serve": "evaluation/serve.py",
    "chat": "evaluation/chat.py",
    "blind": "evaluation/run_vlm_output.py",
    "judge": "evaluation/analyze_output_results.py",
    "rate": "evaluation/make_rating_sheet.py",
    "compare": "evaluation/compare_models.py",
    "report": "evaluation/make_report.py",
    "draw": "evaluation/draw_evaluation_results.py",
    "draw-blind": "evaluation/draw_blind10_scores.py",
    "scores": "evaluation/export_scores.py",
    "rows check": "training/validate_data.py",
    "rows clean": "utils/check_and_clean_images.py",
    "rows describe": "utils/describe_data.py",
    "rows split": "utils/split_dataset.py",
    "rows export": "utils/export_rows.py",
    "rows import": "utils/import_rows.py",
    "rows prepare": "utils/prepare_love_agibot.py",
    "rows grounding": "utils/make_grounding_rows.py",
    "rows distill": "utils/distill_reasoning.py",
    "download model": "download/download_model.py",
    "download rows": "download/download_dataset.py",
    "download benchmark": "download/download_vlabench_with_retry.py",
    "verify": "utils/verify_dataset.py",
    "demo": "utils/make_demo.py",
    "benchmark": "utils/build_hf_dataset.py",
    "merge": "utils/merge_adapter.py",
    "push": "utils/push_to_hub.py",
    "watch": "utils/monitor_evaluation.py",
    "queue": "utils/task_runner.py",
}


def main() -> None:
    run(_replace_by_script)


def _replace_by_script() -> int | None:
    """Become the script that the first words name. Prints the names without one, or for --help."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        say(listing())
        return None if words else 2
    if words[0] == "--version":
        say(__version__)
        return None
    name = next((" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in SCRIPTS), None)
    if name is None:
        written = " ".join(word for word in words[:2] if not word.startswith("-"))
        raise UserError(f"no such command: leap {written}.{did_you_mean(written, SCRIPTS)} leap --help lists them")
    script = REPOSITORY / "scripts" / SCRIPTS[name]
    if not script.is_file():
        raise UserError(
            f"{script} is not there: leap runs the scripts of a checkout; clone it, and install it with pip -e"
        )
    program = ["bash"] if script.suffix == ".sh" else [sys.executable]
    os.execvp(program[0], [*program, str(script), *words[len(name.split()) :]])


def listing() -> str:
    width = max(map(len, SCRIPTS))
    lines = [f"  {name:{width}}  scripts/{script}" for name, script in SCRIPTS.items()]
    return "\n".join(["usage: leap COMMAND [FLAGS]", "", *lines, "", "leap COMMAND --help names the flags of one."])
