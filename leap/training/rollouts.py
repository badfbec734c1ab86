"""Completions of planning rows by the checkpoint that a training starts from, each written once into a journal.

<output_dir>/rollouts/
    completions.jsonl   a line a completion: key, where its row stands, number, text, why it stopped, tokens
    failures.jsonl      prompts that could not be asked
    settings.json       under what they were written
    seconds.json        how long that took
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.blind.rows import BlindRow, blind_row
from leap.files import only_writer, read_json, sha256_json, write_json
from leap.models.answer import Answer
from leap.planners import MachineFailure, Query, open_planner
from leap.planners.asking import AnswerLog, OpenQueries, answer_in_turn, claimed_journals
from leap.planners.options import DrawingOptions
from leap.progress import Progress, say
from leap.rows.records import PlanningRow
from leap.runs.ranks import ALONE, Ranks
from leap.training.held_out_plans import base_folder, terms_of
from leap.training.recipes import ReinforcementRecipe
from leap.training.rewards import reward

COMPLETIONS_FILE, FAILURES_FILE, SECONDS_FILE = "completions.jsonl", "failures.jsonl", "seconds.json"

T = TypeVar("T")


@dataclass(frozen=True)
class Rollout:
    """A completion of a row, what it earns (0 to 1), and whether it is right: its whole plan, or all its steps."""

    text: str
    reward: float
    right: bool
    tokens: int


def group_rollouts(
    recipe: ReinforcementRecipe, rows: Sequence[PlanningRow], workspace: WorkspaceConfig
) -> tuple[dict[str, list[Rollout]], float]:
    """`num_generations` completions of each row by the start, by where the row stands, and the seconds that they took;
    those of earlier runs of the same command are read, not written again.

    Where the recipe has `max_seconds`, no more are written after half of them: the other half is for training.
    """
    if Ranks.from_environment().world > 1:
        raise UserError(f"--method {recipe.method} writes its completions in one process; run it with NPROC=1")
    folder = recipe.output_dir / "rollouts"
    prompts = _prompts(recipe, rows, workspace)
    planner = open_planner(_options(recipe), recipe.model_name_or_path)
    queries, places = _queries(recipe, prompts)
    settings = {"planner": planner.identity(), "seed": recipe.seed, "completions": recipe.num_generations}
    with (
        only_writer(folder),
        claimed_journals(folder, (COMPLETIONS_FILE, FAILURES_FILE), settings, ALONE, overwrite=False) as journals,
    ):

        def lines(query: Query, result: Answer | MachineFailure) -> list[dict[str, Any]]:
            line = {"key": query.key, **places[query.key]}
            if isinstance(result, MachineFailure):
                return [line | {"kind": result.kind, "reason": str(result)}]
            return [line | {"text": result.text, "stop": result.stop, "tokens": result.new_tokens}]

        open_queries = OpenQueries(queries, journals.answered_keys, lines)
        settled = len(queries) - len(open_queries.keys)
        with Progress("completions", len(queries), "completion", settled) as progress:
            log = AnswerLog(journals.answers, journals.failures, progress, None)
            spent = _Seconds(folder / SECONDS_FILE)
            if open_queries.keys:
                batches = spent.within(open_queries.batches(planner), recipe.max_seconds)
                answer_in_turn([(open_queries, planner.answer(batches))], log)
                spent.save()
        if log.failed:
            say(f"{log.failed} completions could not be written; {folder / FAILURES_FILE} says why")
        by_key = {line["key"]: line for line in journals.answers.read()}
    rollouts: dict[str, list[Rollout]] = {}
    for row in rows:
        keys = (_key(prompts[row.where], number) for number in range(recipe.num_generations))
        texts = [by_key[key] for key in keys if key in by_key]
        rollouts[row.where] = [_judged(line, row, recipe) for line in texts]
    return rollouts, spent.total


class _Seconds:
    """The seconds that completions took, over all runs of a command."""

    def __init__(self, path: Path) -> None:
        self.path, self._started = path, time.monotonic()
        self._earlier = float(read_json(path)["seconds"]) if path.is_file() else 0.0

    @property
    def total(self) -> float:
        return self._earlier + time.monotonic() - self._started

    def within(self, batches: Sequence[T], most: float | None) -> Iterator[T]:
        """The batches that are begun within half of `most` seconds. How long it took is kept after each."""
        for batch in batches:
            if most and self.total > most / 2:
                return
            yield batch
            self.save()

    def save(self) -> None:
        write_json(self.path, {"seconds": round(self.total, 1)})


def _judged(line: dict[str, Any], row: PlanningRow, recipe: ReinforcementRecipe) -> Rollout:
    terms = terms_of(line["text"], row, recipe)
    right = terms["plan"] == 1 if "plan" in terms else terms["step"] == 1
    return Rollout(line["text"], reward(terms, recipe.reward_weights), right, line["tokens"])


def _prompts(
    recipe: ReinforcementRecipe, rows: Sequence[PlanningRow], workspace: WorkspaceConfig
) -> dict[str, BlindRow]:
    """The prompt of each row, by where the row stands."""
    prompts = [blind_row(number, row, recipe.image_root, workspace.root) for number, row in enumerate(rows)]
    for prompt in prompts:
        if prompt.problem:
            raise UserError(prompt.problem)
    return {prompt.row.where: prompt for prompt in prompts}


def _options(recipe: ReinforcementRecipe) -> DrawingOptions:
    return DrawingOptions(
        base_model=base_folder(recipe),
        max_new_tokens=recipe.max_completion_length,
        image_tokens_min=recipe.image_tokens_min,
        image_tokens_max=recipe.image_tokens_max,
        batch_size=recipe.per_device_train_batch_size,
        stop_at_plan=recipe.stop_at_plan and recipe.think_characters is None,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        seed=recipe.seed,
    )


def _queries(
    recipe: ReinforcementRecipe, prompts: dict[str, BlindRow]
) -> tuple[list[Query], dict[str, dict[str, Any]]]:
    """Each query once, and where the row of each stands: rows with the same prompt share their completions."""
    queries: dict[str, Query] = {}
    places: dict[str, dict[str, Any]] = {}
    for where, prompt in prompts.items():
        for number in range(recipe.num_generations):
            key, seed = _key(prompt, number), prompt.seed(recipe.seed + 1_000_003 * number)
            queries.setdefault(key, Query(key, prompt.task_name or "", prompt.messages, seed=seed))
            places.setdefault(key, {"where": where, "number": number})
    return list(queries.values()), places


def _key(prompt: BlindRow, number: int) -> str:
    return sha256_json([prompt.sha256, number])[:24]
