#!/usr/bin/env python3
"""LoRA fine-tuning of a vision-language model on planning rows.

    python scripts/ablation/run-lora-finetuning.py
    python scripts/ablation/run-lora-finetuning.py --preset full --lr 1e-4 --max-steps 3000
    python scripts/ablation/run-lora-finetuning.py --lora_r 24 --lora_target_modules q_proj v_proj --output_dir my

The presets light, standard, full and aggressive are in configs/lora/; the command line overrides any value. The same
command resumes from the last complete checkpoint.
"""

from configs.config import REPOSITORY, WorkspaceConfig
from leap.cli import as_plain, parse_knobs, run
from leap.recipes import LoraRecipe


def main() -> None:
    recipe = parse_knobs(LoraRecipe, None, __doc__, preset=REPOSITORY / "configs/lora/standard.yaml")
    for name, value in as_plain(recipe).items():
        print(f"  {name}: {value}")

    from leap.training import train  # torch and transformers load here, after --help and flag errors

    last = train(recipe, WorkspaceConfig.from_environment())
    print(f"trained: {last}")
    print(f"next: python scripts/evaluation/run_vlm_evaluation.py --checkpoint '{last}' --dimension all")


if __name__ == "__main__":
    run(main)
