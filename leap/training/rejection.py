"""Rejection sampling fine-tuning: supervised training on the best of several completions of each row.

The plainest way to learn from a reward (arXiv 2308.01825 calls it RFT), and what GRPO has to beat: nothing is learned
from wrong completions, and nothing is written by the model as it gets better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import numbered_jsonl, write_jsonl
from leap.progress import say
from leap.rows.records import PlanningRow
from leap.training.held_out_plans import refuse_adapter, reward_collator, training_rows
from leap.training.recipes import LoraRecipe, ReinforcementRecipe, TrainingRecipe
from leap.training.rollouts import Rollout, group_rollouts
from leap.training.run import train

BEST_FILE = "best.jsonl"


def fine_tune_on_best(recipe: ReinforcementRecipe, workspace: WorkspaceConfig) -> Path:
    """Write completions, keep the best right one of each row in best.jsonl, train on them, return the last checkpoint.

    Completions of an interrupted run are not written again. UserError if no completion is right.
    """
    refuse_adapter(recipe)
    rows = training_rows(recipe, reward_collator(recipe, workspace), workspace).rows
    rollouts, seconds = group_rollouts(recipe, rows, workspace)
    path = recipe.output_dir / BEST_FILE
    best = list(best_rows(recipe, rows, rollouts))
    write_jsonl(path, best)
    tokens = sum(each.tokens for group in rollouts.values() for each in group)
    say(f"{len(best)} of {len(rows)} rows have a right completion; {tokens:,} tokens were written. Training on {path}")
    if not best:
        raise UserError(
            "no completion is right, so there is nothing to train on; raise --num_generations or --temperature, or "
            "fine-tune on the rows' own plans first"
        )
    supervised = supervised_recipe(recipe, path)
    if recipe.max_seconds:  # of the whole method
        supervised = replace(supervised, max_seconds=max(recipe.max_seconds - seconds, 1.0))
    return train(supervised, workspace)


def fine_tune_on_truth(recipe: ReinforcementRecipe, workspace: WorkspaceConfig) -> Path:
    """Supervised training on the rows' own plans, from the same start, with the same knobs: what learning from rewards
    is compared with."""
    refuse_adapter(recipe)
    training_rows(recipe, reward_collator(recipe, workspace), workspace)
    return train(supervised_recipe(recipe, recipe.train_file), workspace)


def best_rows(
    recipe: ReinforcementRecipe, rows: Sequence[PlanningRow], rollouts: Mapping[str, Sequence[Rollout]]
) -> Iterator[dict]:
    """The rows of which a completion is right, each with the one that earns most as its plan, the first of equals."""
    records = dict(numbered_jsonl(recipe.train_file))
    for row in rows:
        right = [rollout for rollout in rollouts[row.where] if rollout.right]
        if right:
            record = records[int(row.where.rpartition(":")[2])]
            yield record | {"target": {"steps": max(right, key=lambda rollout: rollout.reward).text.strip()}}


def supervised_recipe(recipe: ReinforcementRecipe, rows: Path) -> TrainingRecipe:
    """The recipe for supervised training on `rows`, with as many completions a step as there were in a step of GRPO."""
    kind = LoraRecipe if isinstance(recipe, LoraRecipe) else TrainingRecipe
    knobs = {field.name: getattr(recipe, field.name) for field in fields(kind)}
    root = recipe.image_root or recipe.train_file.parent
    most = recipe.max_train_samples if rows == recipe.train_file else None
    return replace(kind(**knobs), train_file=rows, image_root=root, max_train_samples=most)
