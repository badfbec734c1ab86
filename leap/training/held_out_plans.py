"""What trainings by rewards share: where they start, which rows can be rewarded, validation by held-out plans."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from matplotlib.figure import Figure

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.models.checkpoints import kind_of, weights_sha256
from leap.models.image_budget import set_pixel_budget
from leap.models.loading import base_of, load_processor, load_weights, processor_folder, with_adapter
from leap.plans.scoring import ORDER_INDEPENDENT_TASKS
from leap.plots.training import reward_curve
from leap.progress import say
from leap.rows.records import PlanningRow
from leap.training.adapters import adapter_coverage
from leap.training.checkpointed import CheckpointedTrainer
from leap.training.hacking import hacking
from leap.training.preflight import FileCheck
from leap.training.recipes import LoraRecipe, ReinforcementRecipe
from leap.training.resume import Sources, made_from
from leap.training.rewards import ThoughtRule, reward, reward_terms, truth_of
from leap.training.run import model_to_train, prepared_to_train, usable_rows
from leap.training.supervision import PlanningCollator
from leap.training.validation import sample_to_answer, scores_of, written_plans
from leap.vlabench.held_out import check_held_out


def made_from_start(recipe: ReinforcementRecipe) -> Sources:
    """The sources of a run that starts from a checkpoint, which may be an adapter on a base."""
    start, base = recipe.model_name_or_path, base_folder(recipe)
    start_sources = made_from(recipe)
    return replace(
        start_sources,
        base_model=str(base),
        base_weights_sha256=weights_sha256(base),
        parent=str(start),
        parent_weights_sha256=start_sources.base_weights_sha256,
    )


def base_folder(recipe: ReinforcementRecipe) -> Path:
    """The full model of the start: the start itself, or the base of an adapter."""
    start = recipe.model_name_or_path
    return base_of(start)[0] if kind_of(start) == "adapter" else start


def reward_collator(recipe: ReinforcementRecipe, workspace: WorkspaceConfig) -> PlanningCollator:
    """What renders and reads rows, with the processor of the start."""
    processor = load_processor(processor_folder(recipe.model_name_or_path, base_folder(recipe)))
    set_pixel_budget(processor, recipe.image_tokens_min, recipe.image_tokens_max)
    return PlanningCollator(processor, recipe.image_root, workspace.root, video_tokens=recipe.video_tokens_max)


def rewardable_rows(
    path: Path | None, collator: PlanningCollator, recipe: ReinforcementRecipe, most: int | None
) -> FileCheck:
    """The checked rows of a file that have a plan to compare with."""

    assert path is not None, "the recipe wants held-out rows"

    def require(row: PlanningRow) -> None:
        truth_of(row.steps)
        if any(item["type"] == "video" for turn in row.messages for item in turn["content"]):
            raise UserError("completions are written for pictures only, and the row shows a video")

    return usable_rows(path, collator, recipe, most, require)


def training_rows(
    recipe: ReinforcementRecipe, collator: PlanningCollator, workspace: WorkspaceConfig, *, first: bool = True
) -> FileCheck:
    """The rows to learn from: checked, with a plan to compare with, and none of the test set, which the `first` process
    looks at for all of them."""
    check = rewardable_rows(recipe.train_file, collator, recipe, recipe.max_train_samples)
    if first:
        say(
            check_held_out(
                check.rows,
                [recipe.train_file],
                workspace.benchmark,
                collator.image_paths,
                shared_instructions=recipe.shared_instructions,
            )
        )
    return check


def starting_model(recipe: ReinforcementRecipe) -> Any:
    """The model in training: the start itself, a fresh adapter on it, or the adapter that is the start."""
    start = recipe.model_name_or_path
    if kind_of(start) != "adapter":
        return model_to_train(recipe)
    if not isinstance(recipe, LoraRecipe):
        refuse_adapter(recipe)
    base = load_weights(base_folder(recipe), "bfloat16" if recipe.bf16 else "float32", recipe.attn_implementation)
    model = with_adapter(base, start, trains=True)
    say(f"going on with the adapter {start}. {adapter_coverage(model)}")
    return prepared_to_train(model, recipe)


def refuse_adapter(recipe: ReinforcementRecipe) -> None:
    """UserError if the start is an adapter, where a full model is wanted."""
    start = recipe.model_name_or_path
    if kind_of(start) == "adapter":
        raise UserError(
            f"{start} is an adapter, and what is asked for wants a full model; fold it into its base first: "
            f"python scripts/utils/merge_adapter.py --checkpoint {shlex.quote(str(start))}"
        )


def terms_of(answer: str, row: PlanningRow, recipe: ReinforcementRecipe) -> Mapping[str, float]:
    """The reward's terms of an answer to a row, as the recipe wants them."""
    rule = ThoughtRule(recipe.think_characters) if recipe.think_characters else None
    return reward_terms(answer, row.steps, order_independent=row.task_id in ORDER_INDEPENDENT_TASKS, thought=rule)


class HeldOutTrainer(CheckpointedTrainer):
    """A trainer that is validated by what the model's plans for held-out rows are worth."""

    recipe: ReinforcementRecipe

    def __init__(self, *, collator: PlanningCollator, held_out: Sequence[PlanningRow], **arguments: Any) -> None:
        self.collator, self.held_out = collator, held_out
        super().__init__(eval_dataset=Dataset.from_dict({"row": list(range(len(held_out)))}), **arguments)

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Scores and mean reward of the plans that the model writes, greedily, for a sample of held-out rows."""
        self.model.eval()
        try:
            with self.meter.paused():
                rows = sample_to_answer(self.held_out, self.recipe.val_plans)
                pairs = written_plans(self, self.collator, rows)
                terms = [terms_of(answer, row, self.recipe) for (answer, _), row in zip(pairs, rows, strict=True)]
                rewards = [reward(each, self.recipe.reward_weights) for each in terms]
                scores = scores_of(pairs) | {"reward": sum(rewards) / len(rewards), "reward_rows": len(rewards)}
            metrics = {f"{metric_key_prefix}_{name}": score for name, score in scores.items()}
            self.log(metrics)  # in evaluation mode, in which TRL leaves its averages of training alone
        finally:
            self.model.train()
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def curve(self, records: Sequence[Mapping[str, Any]]) -> tuple[str, Figure]:
        if problem := hacking(records):
            self.findings["reward_hacking"] = problem
            say(problem)
        return "reward", reward_curve(records)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As the Trainer's, without the copy of an adapter that TRL keeps as reference: it is the start's."""
        super()._save(output_dir, state_dict)
        shutil.rmtree((Path(output_dir) if output_dir else self.recipe.output_dir) / "ref", ignore_errors=True)

    def create_model_card(self, *arguments: Any, **more: Any) -> None:
        """Nothing: every checkpoint gets LEAP's own."""
