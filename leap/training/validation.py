"""How near the plans that a model writes while it trains are to those of validation rows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from accelerate.utils import gather_object

from leap.models.generation import answer_batch, encode
from leap.plans.metrics import score_answers
from leap.rows.records import PlanningRow
from leap.training.checkpointed import CheckpointedTrainer
from leap.training.supervision import PlanningCollator
from leap.training.turns import render


def plan_scores(
    trainer: CheckpointedTrainer, collator: PlanningCollator, rows: Sequence[PlanningRow]
) -> dict[str, float]:
    """The scores of the plans that the model writes for a sample of validation rows, as `score_answers` names them; {}
    without rows."""
    return scores_of(written_plans(trainer, collator, sample_to_answer(rows, trainer.recipe.val_plans)))


def scores_of(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """The scores of (answer, row's plan) pairs that there are."""
    return {name: score for name, score in score_answers(pairs).items() if score is not None}


def sample_to_answer(rows: Sequence[PlanningRow], most: int) -> list[PlanningRow]:
    """The validation rows whose plans are written: the same ones for every seed, so that runs can be compared."""
    return [rows[index] for index in random.Random(0).sample(range(len(rows)), min(most, len(rows)))]


def written_plans(
    trainer: CheckpointedTrainer, collator: PlanningCollator, rows: Sequence[PlanningRow]
) -> list[tuple[str, str]]:
    """(what the model of `trainer` answers, greedily, the row's own plan) of every row, on all devices together.

    Row i goes to device i % world, where it is the (i // world)-th. Devices generate in step, so a device with a row
    too few answers the first one once more.
    """
    world = trainer.args.world_size
    if not rows:
        return []
    share = list(rows[trainer.args.process_index :: world])
    share += list(rows[:1]) * (-(-len(rows) // world) - len(share))
    by_device = gather_object([_answers(trainer, collator, share)])
    return [(by_device[i % world][i // world], row.steps) for i, row in enumerate(rows)]


def _answers(trainer: CheckpointedTrainer, collator: PlanningCollator, rows: list[PlanningRow]) -> list[str]:
    limit = trainer.recipe.val_max_new_tokens
    size, processor, in_step = trainer.args.per_device_eval_batch_size, collator.processor, trainer.args.world_size > 1
    texts: list[str] = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        prompts = [render(processor, row)[0] for row in batch]
        inputs = encode(processor, prompts, [collator.pictures(row) for row in batch])
        with trainer.compute_loss_context_manager():
            answers = answer_batch(trainer.model, processor.tokenizer, inputs, limit, in_step=in_step)
        texts += [answer.text for answer in answers]
        trainer.callback_handler.on_prediction_step(trainer.args, trainer.state, trainer.control)
    return texts
