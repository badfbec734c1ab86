"""The commands of `leap`: the script that each of them runs, and the name of a script where there is no checkout."""

from __future__ import annotations

import re

# What each name runs, below scripts/. Trainings go through their launchers, which take all visible GPUs.
SCRIPTS = {
    "train": "training/run-training.sh",
    "lora": "ablation/run-lora-training.sh",
    "sweep": "ablation/run-ablation-experiments.sh",
    "methods": "ablation/run-methods.py",
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
    "demo rewards": "utils/make_reward_demo.py",
    "benchmark": "utils/build_hf_dataset.py",
    "merge": "utils/merge_adapter.py",
    "push": "utils/push_to_hub.py",
    "watch": "utils/monitor_evaluation.py",
    "queue": "utils/task_runner.py",
}
# What stands behind a launcher, or before a script, by the name that runs it, too.
BESIDE = {
    "training/run-finetuning.py": "train",
    "training/run-reinforcement.py": "reinforce",
    "ablation/run-lora-finetuning.py": "lora",
    "ablation/run-ablation.py": "sweep",
    "download/download_model.sh": "download model",
}
_NAMES = {script: name for name, script in SCRIPTS.items()} | BESIDE
_COMMAND = re.compile(r"(?:python|bash) scripts/([\w/-]+\.(?:py|sh))")
_EXTRA = re.compile(r'pip install -e "\.\[(\w+)\]"')


def without_checkout(text: str) -> str:
    """`text` with `leap COMMAND` for commands that run a script of a checkout, and extras by the package's name."""
    text = _EXTRA.sub(r'pip install "leap-planner[\1]"', text)
    return _COMMAND.sub(lambda match: f"leap {_NAMES[match[1]]}" if match[1] in _NAMES else match[0], text)
