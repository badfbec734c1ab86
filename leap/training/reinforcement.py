"""Reinforcement with verifiable rewards: TRL's GRPO with LEAP's rollouts, rewards, validation and checkpoints.

The algorithm is TRL's `GRPOTrainer` (arXiv 2402.03300). Ours are the completions (the engine of the evaluation, where
TRL would call `generate`), the reward (leap/training/rewards.py), the held-out plans, and what every run here promises:
checks first, whole checkpoints, the same command goes on.

A completion's randomness follows from the seed, the step and its place alone, and every step's completions are written
at its beginning. So a resumed run writes the same ones, and on a CPU computes the same weights.
"""

from __future__ import annotations

import functools
import operator
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import BatchFeature, set_seed
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from configs.config import WorkspaceConfig
from leap.models.control_tokens import picture_tokens
from leap.models.generation import Continuation, Sampling, complete_batch
from leap.models.prefix_cache import PrefixCache
from leap.progress import say
from leap.rows.chat import chat_messages
from leap.rows.records import PlanningRow
from leap.text import size_text
from leap.training.accounting import rollout_bytes
from leap.training.arguments import on_one_gpu, shared_arguments
from leap.training.held_out_plans import (
    HeldOutTrainer,
    base_folder,
    made_from_start,
    reward_collator,
    rewardable_rows,
    starting_model,
    terms_of,
    training_rows,
)
from leap.training.recipes import ReinforcementRecipe
from leap.training.resources import geometry_of
from leap.training.resume import checkpoint_to_resume
from leap.training.rewards import reward, truth_of
from leap.training.run import (
    disk_and_meter,
    fit_to_device,
    from_first_process,
    is_finished,
    manifest_of,
    run_folder,
    run_trainer,
    warm_up_warning,
    write_recipe,
)
from leap.training.supervision import PlanningCollator


def reinforce(recipe: ReinforcementRecipe, workspace: WorkspaceConfig) -> Path:
    """Run (or resume) GRPO and return the last checkpoint. Every process of a launch calls this.

    The recipe has passed leap.training.start.check_inputs. UserError for anything else that the user can mend.
    """
    with run_folder(recipe) as processes:
        return _reinforce(fit_to_device(recipe), workspace, processes)


def _reinforce(recipe: ReinforcementRecipe, workspace: WorkspaceConfig, processes: PartialState) -> Path:
    sources = from_first_process(lambda: made_from_start(recipe), processes)
    resume = from_first_process(lambda: checkpoint_to_resume(recipe, sources, processes.num_processes), processes)
    collator = reward_collator(recipe, workspace)
    with processes.main_process_first():
        training = training_rows(recipe, collator, workspace, first=processes.is_main_process)
        validation = rewardable_rows(recipe.val_file, collator, recipe, recipe.max_eval_samples)
    prompts = prompts_a_step(recipe, processes.num_processes)
    steps = total_steps(recipe, len(training.rows), prompts)
    if resume and is_finished(resume, recipe, steps):
        return resume
    if warning := warm_up_warning(recipe, steps):
        say(warning)
    say(
        f"{steps} steps of {prompts} prompts x {recipe.num_generations} completions, "
        f"{steps * prompts / len(training.rows):.2f} passes over {len(training.rows)} rows"
    )
    geometry = geometry_of(base_folder(recipe))
    disk, meter = disk_and_meter(recipe, geometry, steps, processes.num_processes)
    if geometry:
        longest = int((training.lengths.visual + training.lengths.prompt).max())
        size = size_text(rollout_bytes(geometry, recipe, longest))
        say(f"writing completions holds up to {size} of keys, values and reference weights beside the model")
    write_recipe(recipe, processes)
    set_seed(recipe.seed)
    functions = reward_functions(recipe, training.rows, collator.processor)
    arguments = grpo_arguments(recipe, steps, workspace, len(functions) - 1)
    trainer = RewardTrainer(
        model=starting_model(recipe),
        args=arguments,
        reward_funcs=functions,
        train_dataset=prompt_dataset(recipe, training.rows, collator, steps * prompts // recipe.num_iterations),
        processing_class=collator.processor,
        collator=collator,
        held_out=validation.rows,
        recipe=recipe,
        manifest=manifest_of(recipe, collator.processor, sources, processes.num_processes),
        meter=meter,
        disk=disk,
    )
    return run_trainer(trainer, resume, workspace)


def prompts_a_step(recipe: ReinforcementRecipe, devices: int) -> int:
    """How many prompts an optimiser step sees on all devices together."""
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * devices // recipe.num_generations


def total_steps(recipe: ReinforcementRecipe, rows: int, prompts: int) -> int:
    """Optimiser steps of the run."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    return max(1, round(recipe.num_train_epochs * rows / prompts)) * recipe.num_iterations


def grpo_arguments(recipe: ReinforcementRecipe, steps: int, workspace: WorkspaceConfig, terms: int) -> GRPOConfig:
    with warnings.catch_warnings():
        # The knob that turns checkpointing off has a new name, which the oldest supported version lacks.
        warnings.simplefilter("ignore", FutureWarning)
        return on_one_gpu(_grpo_arguments(recipe, steps, workspace, terms))


def _grpo_arguments(recipe: ReinforcementRecipe, steps: int, workspace: WorkspaceConfig, terms: int) -> GRPOConfig:
    return GRPOConfig(
        **shared_arguments(recipe, steps, workspace, validates=True),
        eval_on_start=True,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        # Completions are written at the beginning of each step, by the weights that learn from them.
        steps_per_generation=recipe.gradient_accumulation_steps,
        shuffle_dataset=False,  # `prompt_dataset` has the order of the whole run
        num_generations=recipe.num_generations,
        num_generations_eval=1,  # unused: held-out plans are written greedily
        num_iterations=recipe.num_iterations,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        max_completion_length=recipe.max_completion_length,
        mask_truncated_completions=recipe.mask_truncated_completions,
        beta=recipe.beta,
        epsilon=recipe.epsilon,
        epsilon_high=recipe.epsilon_high,
        entropy_coef=recipe.entropy_coef,
        loss_type=recipe.loss_type,
        scale_rewards=recipe.scale_rewards,
        reward_weights=[1.0, *[0.0] * terms],  # the terms are logged, their mean counts
        use_vllm=recipe.use_vllm,
        vllm_mode="colocate",
        gradient_checkpointing=False,  # `prepared_to_train` has turned it on where the recipe says so
    )


def logged_terms(recipe: ReinforcementRecipe, rows: Sequence[PlanningRow]) -> list[str]:
    """The terms of the reward that some row has and the recipe weighs."""
    kinds = {bool(truth_of(row.steps).skills): row for row in rows}  # a row of each kind of plan
    names = {name for row in kinds.values() for name in terms_of("", row, recipe)}
    return [name for name, weight in recipe.reward_weights.items() if weight and name in names]


def prompt_dataset(
    recipe: ReinforcementRecipe, rows: Sequence[PlanningRow], collator: PlanningCollator, prompts: int
) -> Dataset:
    """The prompts of the whole run in their order, every pass over the rows in one of its own; pictures are read when a
    prompt is taken out."""
    order: list[int] = []
    while len(order) < prompts:
        order += random.Random(f"{recipe.seed} {len(order)}").sample(range(len(rows)), len(rows))

    # A step's prompts are taken out once for each of its forward passes and completions.
    @functools.lru_cache(maxsize=2 * prompts_a_step(recipe, 1))
    def prompt(index: int) -> list[dict]:
        pictures = iter(collator.pictures(rows[index]))
        return [
            {"role": turn["role"], "content": [_displayed(item, pictures) for item in turn["content"]]}
            for turn in chat_messages(rows[index])
        ]

    dataset = Dataset.from_dict({"row": order[:prompts]})
    dataset.set_transform(lambda taken: {"row": taken["row"], "prompt": [prompt(index) for index in taken["row"]]})
    return dataset


def _displayed(item: Mapping[str, Any], pictures: Iterator[Any]) -> dict[str, Any]:
    if item["type"] == "image":
        return {"type": "image", "image": next(pictures)}
    return {"type": "text", "text": item["text"]}


def reward_functions(
    recipe: ReinforcementRecipe, rows: Sequence[PlanningRow], processor: Any
) -> list[Callable[..., list[float | None]]]:
    """The reward, and each of its terms apart for the log; a term is None for a row that has no such one."""

    def function(name: str, value_of: Callable[[Mapping[str, float]], float | None]) -> Callable[..., Any]:
        def values(completion_ids: list[list[int]], row: list[int], **others: Any) -> list[float | None]:
            return [
                value_of(terms_of(_text(ids, processor.tokenizer), rows[index], recipe))
                for ids, index in zip(completion_ids, row, strict=True)
            ]

        values.__name__ = name
        return values

    weights = recipe.reward_weights
    total = function("total", lambda terms: reward(terms, weights))
    return [total, *(function(name, operator.methodcaller("get", name)) for name in logged_terms(recipe, rows))]


def _text(tokens: list[int], tokenizer: Any) -> str:
    """What tokens of a completion say, as the evaluation would read it."""
    stop = "end" if tokens and tokens[-1] == tokenizer.eos_token_id else "length"
    return Continuation(tokens, stop).answer(tokenizer).text


class RewardTrainer(HeldOutTrainer, GRPOTrainer):
    """GRPO whose completions the evaluation's engine writes, and which is validated by held-out plans."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._picture_tokens = picture_tokens(self.collator.processor)
        self._stops: list[str] = []  # why this step's completions stopped
        self._since: float | None = None  # the last log line, or the first completion, by the meter
        self._writing, self._written = 0.0, 0  # seconds and completions since then

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: dict[str, Any], *arguments: Any, **more: Any
    ) -> tuple[list[list[int]], Any]:
        """As TRL's: the new tokens of every prompt. Prompts of a group stand beside each other."""
        started = time.monotonic()
        if self._since is None:
            self._since = self.meter.seconds
        if self.recipe.use_vllm:
            ids, logprobs = super()._generate_single_turn(prompt_ids, images, multimodal_fields, *arguments, **more)
        else:
            completions = self._complete(prompt_ids, multimodal_fields)
            ids, logprobs = [completion.tokens for completion in completions], None
            self._stops = [completion.stop for completion in completions]
        self._writing += time.monotonic() - started
        self._written += len(ids)
        return ids, logprobs

    def _complete(self, prompt_ids: list[list[int]], fields: dict[str, Any]) -> list[Continuation]:
        recipe, processor = self.recipe, self.collator.processor
        longest, pad = max(map(len, prompt_ids)), processor.tokenizer.pad_token_id
        inputs = {
            "input_ids": _left_padded(prompt_ids, longest, pad),
            "attention_mask": _left_padded([[1] * len(ids) for ids in prompt_ids], longest, 0),
        }
        for name, value in fields.items():
            by_token = isinstance(value, list) and isinstance(value[0], list)
            inputs[name] = _left_padded(value, longest, 0) if by_token else torch.as_tensor(value)
        place = self.args.process_index * len(prompt_ids)
        seeds = [_seed_of(recipe.seed, self.state.global_step, place + i) for i in range(len(prompt_ids))]
        distributed = self.args.world_size > 1
        with (
            unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model,
            self.compute_loss_context_manager(),
        ):
            model.eval()  # dropout is for learning
            try:
                return complete_batch(
                    model,
                    processor.tokenizer,
                    BatchFeature(inputs),
                    recipe.max_completion_length,
                    stop_at_plan=recipe.stop_at_plan and recipe.think_characters is None,
                    prefixes=PrefixCache(self._picture_tokens),  # of these weights only
                    in_step=distributed,
                    sampling=Sampling(recipe.temperature, recipe.top_p),
                    seeds=seeds,
                    never=self._picture_tokens,  # no picture would stand behind it
                )
            finally:
                model.train()

    def _generate(self, prompts: list) -> Any:
        written = super()._generate(prompts)
        if self._stops:  # TRL takes a completion that was stopped at its plan for cut off
            cut = torch.tensor([float(stop == "length") for stop in self._stops], device=self.accelerator.device)
            clipped = self.accelerator.gather(cut).mean().item()
            self._metrics["train"]["completions/clipped_ratio"][-1] = clipped
        return written

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """As TRL's, of those completions alone that the gradient depends on, where that leaves the loss as it is: with
        dapo every token weighs the same, whatever else is in its batch."""
        recipe = self.recipe
        if recipe.loss_type == "dapo" and not recipe.beta and not recipe.entropy_coef:
            inputs = informative(inputs)
        return super()._compute_loss(model, inputs)

    def get_batch_samples(self, *arguments: Any, **more: Any) -> Any:
        batches = super().get_batch_samples(*arguments, **more)
        self.agree_to_stop()
        return batches

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            seconds = self.meter.seconds - (self._since or 0.0)
            written = self._written * self.args.world_size
            logs |= {"completions_per_second": written / seconds, "generation_share": self._writing / seconds}
            logs |= {"tokens_seen": self.state.num_input_tokens_seen}
            self._since, self._writing, self._written = self.meter.seconds, 0.0, 0
        super().log(logs, start_time)


def informative(inputs: dict[str, Any]) -> dict[str, Any]:
    """The rows of a batch of TRL's whose advantage is not 0, at least one: a group whose completions all earn the same
    teaches nothing, and late in a run most do."""
    rows = inputs["advantages"].nonzero().flatten().tolist() or [0]
    count = len(inputs["advantages"])
    if len(rows) == count:
        return inputs
    split = split_pixel_values_by_grid(inputs)
    return unsplit_pixel_values_by_grid({name: _rows_of(value, rows, count) for name, value in split.items()})


def _rows_of(value: Any, rows: list[int], count: int) -> Any:
    """Those rows of what has one for each of `count` completions."""
    if isinstance(value, list):
        return [value[row] for row in rows]
    by_row = torch.is_tensor(value) and value.ndim and len(value) == count
    return value[rows] if by_row else value


def _left_padded(rows: Sequence[Sequence[int]], longest: int, value: int) -> torch.Tensor:
    return torch.tensor([[value] * (longest - len(row)) + list(row) for row in rows])  # (batch, seq)


def _seed_of(seed: int, step: int, place: int) -> int:
    """The seed of one completion of a run."""
    return random.Random(f"{seed} {step} {place}").getrandbits(63)
