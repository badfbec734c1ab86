#!/usr/bin/env python3
"""LoRA fine-tuning of a vision-language model on planning rows.

    python scripts/ablation/run-lora-finetuning.py
    python scripts/ablation/run-lora-finetuning.py --preset full --lr 1e-4 --max-steps 3000
    python scripts/ablation/run-lora-finetuning.py --lora_r 24 --lora_target_modules q_proj v_proj --output_dir my

The presets light, standard, full and aggressive are in configs/lora/; the command line overrides any value. The same
command resumes from the last complete checkpoint.
"""

from configs.config import REPOSITORY
from leap.cli import parse_knobs, run
from leap.training.recipes import LoraRecipe
from leap.training.start import announce_and_train


def main() -> None:
    announce_and_train(parse_knobs(LoraRecipe, None, __doc__, preset=REPOSITORY / "configs/lora/standard.yaml"))


if __name__ == "__main__":
    run(main)
