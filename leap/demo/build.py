"""Write the demo: the tabletop benchmark in VLABench's folder format and planning rows in LEAP's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image

from configs.config import REPOSITORY, WorkspaceConfig
from configs.errors import UserError
from leap.archives import work_folder
from leap.demo.tabletop import Scene, draw, split_of
from leap.demo.tasks import MAX_OBJECTS, TASKS, TabletopEpisode, TabletopTask, random_episode
from leap.files import replacing, write_json, write_text
from leap.plans.reading import fenced
from leap.progress import Progress, say
from leap.rows.chat import planning_prompt
from leap.vlabench.grounding_rows import LISTING_PROMPT
from leap.vlabench.prompts import builtin_texts

# Shares of the kinds of rows. Rows that list every tag by name train the step from a name to its tag densely, so that
# the look-up of a single object emerges within a few hundred steps; without them ids are guessed.
ROW_SHARES = {"listing": 0.5, "plan": 0.42, "prose": 0.08}
TRAINING_OBJECTS = (1, 2, 3, 4)  # easy and hard tables
BLIND_OBJECTS = 3

# Where the quickstart's planner guesses: right plans are luck there. Their groups of completions have the most spread,
# so that with them what is learned is mostly noise (docs/reinforcement.md has the numbers).
AT_CHANCE = ("Spatial",)


def demo_workspace() -> WorkspaceConfig:
    """The workspace that a demo is written into. UserError for the repository itself."""
    workspace = WorkspaceConfig.from_environment()
    if workspace.root == REPOSITORY:
        raise UserError("the demo wants a workspace of its own; set LEAP_WORKSPACE=output/quickstart")
    return workspace


def build_folder(folder: Path, build: Callable[[Path], None]) -> None:
    """Build a folder beside its place and rename it there, so that what has the name is whole. UserError if another
    process builds it."""
    with work_folder(folder.with_name(f".{folder.name}.part")) as part:
        if folder.exists() and any(folder.iterdir()):
            say(f"already there: {folder}")
            return
        build(part)
        part.replace(folder)  # an empty folder gives way
    say(f"made: {folder}")


def build_benchmark(folder: Path, examples_per_task: int, seed: int) -> None:
    """Draw the benchmark: `<dimension>/<task>/example<N>/` with pictures, instruction, ground truth and env_config."""
    rng = random.Random(f"benchmark {seed}")
    with Progress("benchmark", len(TASKS) * examples_per_task, "example") as progress:
        for task in TASKS:
            for number in range(examples_per_task):
                episode = episode_of_split(rng, task, "benchmark", MAX_OBJECTS)
                write_example(folder / task.dimension / task.name / f"example{number}", episode)
                progress.advance()


def build_rows(path: Path, split: str, count: int, seed: int) -> None:
    """Write `count` planning rows over scenes of `split` to `path`, their pictures to `images/` beside it."""
    rng = random.Random(f"{split} {seed}")
    kinds, shares = list(ROW_SHARES), list(ROW_SHARES.values())

    def rows() -> Iterator[tuple[str, TabletopEpisode]]:
        for _ in range(count):
            episode = episode_of_split(rng, rng.choice(TASKS), split, rng.choice(TRAINING_OBJECTS))
            yield rng.choices(kinds, shares)[0], episode

    _write_rows(path, split, rows(), count)


def build_reward_rows(path: Path, split: str, count: int, seed: int) -> None:
    """Write `count` rows with skill plans over full tables of the scenes of `split` to `path`: what a planner learns
    from by rewards, or is watched by while it does. Training leaves the tasks in AT_CHANCE out."""
    rng = random.Random(f"reward {split} {seed}")
    tasks = [task for task in TASKS if split != "train" or task.dimension not in AT_CHANCE]
    episodes = (episode_of_split(rng, rng.choice(tasks), split, MAX_OBJECTS) for _ in range(count))
    _write_rows(path, f"reward-{split}", (("plan", episode) for episode in episodes), count)


def build_blind_rows(path: Path, seed: int, count: int = 10) -> None:
    """Write the rows of the blind review: prose plans of as many different tasks, over scenes of nobody else's."""
    rng = random.Random(f"blind {seed}")
    episodes = (episode_of_split(rng, task, "blind", BLIND_OBJECTS) for task in rng.sample(TASKS, count))
    _write_rows(path, "blind", (("prose", episode) for episode in episodes), count)


def _write_rows(path: Path, split: str, rows: Iterable[tuple[str, TabletopEpisode]], count: int) -> None:
    """Write rows of these kinds to `path`, numbered, and their pictures, named after `split`."""
    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, Progress(f"{split} rows", count, "row") as progress:
        for number, (kind, episode) in enumerate(rows):
            prompt, answer = _row_text(kind, episode)
            pictures = []
            for tags in {"plan": (False, True), "prose": (False,)}.get(kind, (True,)):
                name = f"{split}-{number:06d}-{'tags' if tags else 'plain'}.png"
                _save(draw(episode.scene, tags=tags), images / name)
                pictures.append({"type": "image", "image": f"images/{name}"})
            text = {"type": "text", "text": prompt}
            # The benchmark's prompt puts its fixed text first, then the pictures, then the instruction.
            content = [{"type": "text", "text": builtin_texts("en")["preamble"]}] if kind == "plan" else []
            record = {
                "id": f"{split}-{number:06d}",
                "task_name": episode.instruction,
                "scene": episode.scene.key(),
                "messages": [{"role": "user", "content": [*content, *pictures, text]}],
                "target": {"steps": answer},
            }
            file.write((json.dumps(record) + "\n").encode())
            progress.advance()


def episode_of_split(rng: random.Random, task: TabletopTask, split: str, objects: int) -> TabletopEpisode:
    """The next random episode whose scene belongs to `split`."""
    while True:
        episode = random_episode(rng, task, objects)
        if split_of(episode.scene) == split:
            return episode


def training_texts(path: Path) -> list[str]:
    """All texts of a planning JSONL, and the chat roles: what the tiny planner's tokenizer is trained on."""
    texts = ["system\n", "user\n", "assistant\n"]
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        texts += [item["text"] for turn in record["messages"] for item in turn["content"] if item["type"] == "text"]
        texts.append(record["target"]["steps"])
    return texts


def _row_text(kind: str, episode: TabletopEpisode) -> tuple[str, str]:
    """(prompt, answer) of one kind of row."""
    if kind == "listing":
        by_name = sorted(episode.scene.objects, key=lambda placed: placed.kind)
        return LISTING_PROMPT, " ".join(f"{placed.kind} {placed.tag}" for placed in by_name)
    if kind == "plan":
        instruction = builtin_texts("en")["instruction"].replace("{instruction}", episode.instruction)
        return instruction, fenced(episode.skill_sequence)
    return planning_prompt(episode.instruction), episode.steps


def write_example(folder: Path, episode: TabletopEpisode) -> None:
    """Write an episode as the example in `folder`, which may not be there yet."""
    (folder / "input").mkdir(parents=True, exist_ok=True)
    _save(draw(episode.scene, tags=False), folder / "input" / "input.png")
    _save(draw(episode.scene, tags=True), folder / "input" / "input_mask.png")
    write_text(folder / "input" / "instruction.txt", episode.instruction)
    write_json(folder / "output" / "operation_sequence.json", {"skill_sequence": episode.skill_sequence})
    write_json(folder / "env_config" / "env_config.json", _env_config(episode.scene))


def _env_config(scene: Scene) -> dict:
    return {
        "scene": scene.key(),
        "objects": [{"name": placed.kind, "cell": placed.cell, "tag": placed.tag} for placed in scene.objects],
    }


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
