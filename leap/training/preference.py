"""Direct preference optimisation (DPO, arXiv 2305.18290) by TRL, on pairs of a right and a wrong completion."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import set_seed
from trl import DPOConfig, DPOTrainer

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import write_jsonl
from leap.progress import say
from leap.rows.chat import chat_messages
from leap.rows.records import PlanningRow
from leap.training.arguments import on_one_gpu, shared_arguments
from leap.training.held_out_plans import (
    HeldOutTrainer,
    base_folder,
    made_from_start,
    reward_collator,
    rewardable_rows,
    starting_model,
    training_rows,
)
from leap.training.recipes import ReinforcementRecipe
from leap.training.resources import geometry_of
from leap.training.resume import checkpoint_to_resume
from leap.training.rollouts import Rollout, group_rollouts
from leap.training.run import (
    disk_and_meter,
    fit_to_device,
    is_finished,
    manifest_of,
    run_folder,
    run_trainer,
    warm_up_warning,
    write_recipe,
)
from leap.training.supervision import PlanningCollator

PAIRS_FILE = "pairs.jsonl"


@dataclass(frozen=True)
class Pair:
    """Two completions of the row that stands at `where`: the `chosen` one is right, the `rejected` one is not."""

    where: str
    chosen: str
    rejected: str


def prefer(recipe: ReinforcementRecipe, workspace: WorkspaceConfig) -> Path:
    """Write completions, make pairs of them, train on those with DPO, and return the last checkpoint."""
    with run_folder(recipe) as processes:
        return _prefer(fit_to_device(recipe), workspace, processes)


def pairs_of(rows: Sequence[PlanningRow], rollouts: Mapping[str, Sequence[Rollout]]) -> list[Pair]:
    """A pair of each row that was answered both ways: the right completion that earns most and the wrong one that does,
    which tells more of what is wrong than a bad one."""
    pairs = []
    for row in rows:
        right = [rollout for rollout in rollouts[row.where] if rollout.right]
        wrong = [rollout for rollout in rollouts[row.where] if not rollout.right]
        if right and wrong:
            chosen, rejected = (max(group, key=lambda each: each.reward).text for group in (right, wrong))
            pairs.append(Pair(row.where, chosen, rejected))
    return pairs


def _prefer(recipe: ReinforcementRecipe, workspace: WorkspaceConfig, processes: PartialState) -> Path:
    sources = made_from_start(recipe)
    resume = checkpoint_to_resume(recipe, sources, processes.num_processes)
    collator = reward_collator(recipe, workspace)
    rows = training_rows(recipe, collator, workspace).rows
    validation = rewardable_rows(recipe.val_file, collator, recipe, recipe.max_eval_samples)
    rollouts, seconds = group_rollouts(recipe, rows, workspace)
    pairs = pairs_of(rows, rollouts)
    if recipe.max_seconds:  # of the whole method
        recipe = replace(recipe, max_seconds=max(recipe.max_seconds - seconds, 1.0))
    write_jsonl(recipe.output_dir / PAIRS_FILE, map(asdict, pairs))
    say(f"{len(pairs)} of {len(rows)} rows have a right and a wrong completion")
    if not pairs:
        raise UserError("no row has a right and a wrong completion; raise --num_generations or --temperature")
    batch = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
    steps = recipe.max_steps if recipe.max_steps > 0 else -(-round(recipe.num_train_epochs * len(pairs)) // batch)
    if resume and is_finished(resume, recipe, steps):
        return resume
    if warning := warm_up_warning(recipe, steps):
        say(warning)
    disk, meter = disk_and_meter(recipe, geometry_of(base_folder(recipe)), steps, processes.num_processes)
    write_recipe(recipe, processes)
    set_seed(recipe.seed)
    arguments = dpo_arguments(recipe, steps, workspace)
    trainer = PreferenceTrainer(
        model=starting_model(recipe),
        args=arguments,
        train_dataset=pair_dataset(pairs, rows, collator),
        processing_class=collator.processor,
        collator=collator,
        held_out=validation.rows,
        recipe=recipe,
        manifest=manifest_of(recipe, collator.processor, sources, processes.num_processes),
        meter=meter,
        disk=disk,
    )
    return run_trainer(trainer, resume, workspace)


def dpo_arguments(recipe: ReinforcementRecipe, steps: int, workspace: WorkspaceConfig) -> DPOConfig:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as in leap/training/reinforcement.py
        return on_one_gpu(
            DPOConfig(
                **shared_arguments(recipe, steps, workspace, validates=True),
                eval_on_start=True,
                per_device_train_batch_size=recipe.per_device_train_batch_size,
                beta=recipe.dpo_beta,
                max_length=None,  # the rows were checked
                gradient_checkpointing=False,  # `prepared_to_train` has turned it on where the recipe says so
            )
        )


def pair_dataset(pairs: Sequence[Pair], rows: Sequence[PlanningRow], collator: PlanningCollator) -> Dataset:
    """The pairs as TRL wants them; pictures are read when a pair is taken out."""
    by_place = {row.where: row for row in rows}

    def taken_out(indices: list[int]) -> dict[str, list[Any]]:
        chosen = [(pairs[index], by_place[pairs[index].where]) for index in indices]
        return {
            "images": [collator.pictures(row) for _, row in chosen],
            "prompt": [_without_pictures(chat_messages(row)) for _, row in chosen],
            "chosen": [_turn(pair.chosen) for pair, _ in chosen],
            "rejected": [_turn(pair.rejected) for pair, _ in chosen],
        }

    dataset = Dataset.from_dict({"pair": list(range(len(pairs)))})
    dataset.set_transform(lambda taken: taken_out(taken["pair"]))
    return dataset


def _without_pictures(messages: list[dict]) -> list[dict]:
    """The turns with a mark in the place of each picture, which TRL fills in their order."""
    return [
        {
            "role": turn["role"],
            "content": [
                {"type": "image"} if item["type"] == "image" else {"type": "text", "text": item["text"]}
                for item in turn["content"]
            ],
        }
        for turn in messages
    ]


def _turn(text: str) -> list[dict]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text.strip()}]}]


class PreferenceTrainer(HeldOutTrainer, DPOTrainer):
    """DPO that is validated by held-out plans."""
