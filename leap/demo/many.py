"""The demo at any size, to measure with: many rows, examples, answers and journal lines over few distinct pictures.

No planner is trained and nothing here is to be learned: an instruction and its plan belong together, a picture is any
of the pool. A row, an example and an answer has words of its own, so that none is a copy of another.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS
from leap.demo.build import write_example
from leap.demo.tabletop import draw
from leap.demo.tasks import TASKS, TabletopEpisode, TabletopTask, random_episode
from leap.files import read_jsonl, write_json, write_jsonl
from leap.plans.reading import fenced
from leap.rows.chat import planning_prompt
from leap.vlabench.prompts import builtin_texts

SCENES = 64  # pictures in a pool

# How much of what the first and the last model answer is right; those between lie between.
_RIGHT = (0.2, 0.9)
_INPUTS = ("input.png", "input_mask.png")


def write_many_rows(path: Path, count: int, seed: int = 0, scenes: int = SCENES) -> None:
    """Write `count` planning rows of one picture to `path`, and `scenes` pictures to images/ beside it."""
    rng = random.Random(f"many rows {seed}")
    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for number in range(scenes):
        draw(random_episode(rng, rng.choice(TASKS)).scene, tags=False).save(images / f"{number}.png")

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(count):
            episode = _episode(rng, rng.choice(TASKS), number)
            picture = {"type": "image", "image": f"images/{number % scenes}.png"}
            text = {"type": "text", "text": planning_prompt(episode.instruction)}
            yield {
                "id": f"many-{number:07d}",
                "task_name": episode.instruction,
                "messages": [{"role": "user", "content": [picture, text]}],
                "target": {"steps": episode.steps},
            }

    write_jsonl(path, rows())


def write_many_examples(folder: Path, count: int, seed: int = 0, scenes: int = SCENES) -> None:
    """Write a benchmark of `count` examples, as many a task, to `folder`. Pictures are links to those of the first
    `scenes` examples of a task."""
    rng = random.Random(f"many examples {seed}")
    for number in range(count):
        of_task, which = divmod(number, len(TASKS))
        episode = _episode(rng, TASKS[which], number)
        task_folder = folder / episode.task.dimension / episode.task.name
        example = task_folder / f"example{of_task}"
        if of_task < scenes:
            write_example(example, episode)
            continue
        first = task_folder / f"example{of_task % scenes}"
        for name in ("input", "output", "env_config"):
            (example / name).mkdir(parents=True)
        for name in (*(f"input/{name}" for name in _INPUTS), "env_config/env_config.json"):
            os.link(first / name, example / name)
        # Written in place: a fresh folder needs neither a rename nor a sync for each of its files.
        (example / "input" / "instruction.txt").write_text(episode.instruction)
        (example / "output" / "operation_sequence.json").write_text(
            json.dumps({"skill_sequence": episode.skill_sequence})
        )


def write_many_answers(results: Path, count: int, models: Sequence[str], seed: int = 0) -> None:
    """Write the journals of `models` that answered the `count` examples of `write_many_examples` with `seed`; they are
    not scored yet. Every hundredth example fails, differently by model."""
    for place, model in enumerate(models):
        share = _RIGHT[0] + (_RIGHT[1] - _RIGHT[0]) * place / max(1, len(models) - 1)
        rng, answers = random.Random(f"many examples {seed}"), random.Random(f"many answers {seed} {model}")
        lines: dict[str, list[dict]] = {dimension: [] for dimension in DIMENSIONS}
        failures: dict[str, list[dict]] = {dimension: [] for dimension in DIMENSIONS}
        for number in range(count):
            of_task, which = divmod(number, len(TASKS))
            episode = _episode(rng, TASKS[which], number)
            where = {"key": f"{model} {number}", "task": episode.task.name, "example": of_task}
            if answers.random() < 0.01:
                failures[episode.task.dimension].append(where | {"kind": "machine", "reason": "out of memory"})
            else:
                lines[episode.task.dimension].append(where | _answer(answers, episode, share))
        for dimension, of_dimension in lines.items():
            if not (of_dimension or failures[dimension]):
                continue
            folder = results / dimension / model
            write_jsonl(folder / "generations.jsonl", of_dimension)
            write_jsonl(folder / "failures.jsonl", failures[dimension])
            settings = {"planner": {"planner": "huggingface", "model_sha256": model}, "prompt": {"style": "builtin"}}
            write_json(folder / "settings.json", settings)


def write_many_outputs(path: Path, rows: Path, models: Sequence[str], seed: int = 0) -> None:
    """Write what `models` planned for the planning rows in `rows` to `path`, as the outputs of a blind review."""
    rng = random.Random(f"many outputs {seed}")

    def outputs() -> Iterator[dict[str, Any]]:
        for sample, record in enumerate(read_jsonl(rows)):
            picture, text = record["messages"][0]["content"]
            plan, folder = record["target"]["steps"], str(rows.parent)
            for model in models:
                wrong = " ".join(rng.sample(words := plan.split(), len(words)))
                yield {
                    "key": f"{model} {sample}",
                    "model": model,
                    "sample": sample,
                    "id": record["id"],
                    "task_name": record["task_name"],
                    "images": [picture["image"]],
                    "folder": folder,
                    "prompt": text["text"],
                    "reference": plan,
                    "text": rng.choice((plan, f"{plan} Lift it.", wrong)),
                    "new_tokens": None,
                    "stop": "end",
                    "failure": None,
                }

    write_jsonl(path, outputs())


def _answer(rng: random.Random, episode: TabletopEpisode, share: float) -> dict[str, Any]:
    """The answer's part of a journal line: right with probability `share`."""
    plan = episode.skill_sequence
    kind = "right" if rng.random() < share else rng.choice(("ids", "ids", "short", "long", "prose"))
    if kind == "ids":
        plan = [{**step, "params": {name: rng.randint(1, 9) for name in step["params"]}} for step in plan]
    elif kind == "short":
        plan = plan[:-1]
    elif kind == "long":
        plan = [*plan, {"name": "lift", "params": {}}]
    text = episode.steps if kind == "prose" else fenced(plan)
    texts = builtin_texts("en")
    prompt = f"{texts['preamble']}<image><image>{texts['instruction'].replace('{instruction}', episode.instruction)}"
    return {
        "text": f"I see {rng.randint(1, 9)} and {rng.randint(1, 9)} in the picture. {text}",
        "new_tokens": len(text) // 3,
        "stop": "end",
        "prompt": prompt,
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        "shots": [],
    }


def _episode(rng: random.Random, task: TabletopTask, number: int) -> TabletopEpisode:
    """A random episode whose instruction no other number has, not even with its digits aside."""
    episode = random_episode(rng, task)
    return replace(episode, instruction=f"{episode.instruction}, for order {_in_letters(number)}")


def _in_letters(number: int) -> str:
    return ("" if number < 26 else _in_letters(number // 26 - 1)) + chr(97 + number % 26)
