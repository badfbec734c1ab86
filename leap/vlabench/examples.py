"""Benchmark examples on disk: find them, read them, check them.

<data_path>/<dimension>/<task>/example<N>/
    input/input.png               the scene (VLABench: four views in one picture)
    input/input_mask.png          the same with numbered tags
    input/instruction.txt
    output/operation_sequence.json   {"skill_sequence": [{"name": ..., "params": {...}}, ...]}
    env_config/env_config.json    never shown to a model
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import sha256_json
from leap.plans.reading import SKILLS, TARGETS, subtasks
from leap.rows.images import aspect_problem, decode_image, intact_bytes

T = TypeVar("T")
_EXAMPLE = re.compile(r"example(\d+)")


@dataclass(frozen=True)
class Example:
    """One example; `number` is the N of its folder `example<N>`."""

    dimension: str
    task: str
    number: int
    folder: Path

    @property
    def plain_image(self) -> Path:
        return self.folder / "input" / "input.png"

    @property
    def tagged_image(self) -> Path:
        return self.folder / "input" / "input_mask.png"

    @property
    def instruction_file(self) -> Path:
        return self.folder / "input" / "instruction.txt"

    @property
    def plan_file(self) -> Path:
        return self.folder / "output" / "operation_sequence.json"

    @property
    def env_config_file(self) -> Path:
        return self.folder / "env_config" / "env_config.json"

    @property
    def place(self) -> str:
        """Its name within a dimension: <task>/example<N>."""
        return f"{self.task}/{self.folder.name}"

    def instruction(self) -> str:
        """The instruction as written. UserError if the file is missing, empty or no text."""
        return _or_user_error(_instruction_in, self.instruction_file)

    def picture_sha256s(self) -> tuple[str, str]:
        """Content hashes of the plain and the tagged picture. UserError if one is missing or damaged."""
        plain, tagged = (_or_user_error(_picture_sha256, path) for path in (self.plain_image, self.tagged_image))
        return plain, tagged

    def sha256(self) -> str:
        """Content hash of the whole example: task, number, pictures, instruction and ground truth."""
        return sha256_json([self.task, self.number, *self.picture_sha256s(), self.instruction(), self.ground_truth()])

    def operation_sequence(self) -> dict:
        """The content of the ground-truth file. UserError if it is not one that can be scored."""
        return _or_user_error(_plan_in, self.plan_file)

    def ground_truth(self) -> list[dict]:
        """The skill sequence of the ground truth. UserError if it is not one that can be scored."""
        return self.operation_sequence()["skill_sequence"]

    def problem(self) -> str | None:
        """Why this example can be neither asked nor shown, or None."""
        try:
            self.sha256()
        except UserError as error:
            return str(error)
        return None


VERIFY_ADVICE = "Check the whole folder with: python scripts/utils/verify_dataset.py"


def _or_user_error(read: Callable[[Path], T], path: Path) -> T:
    try:
        return read(path)
    except ValueError as error:
        raise UserError(f"{path} {error}. {VERIFY_ADVICE}") from error


def _picture_sha256(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        raise ValueError("is missing") from None
    return _hashed_picture(path, state.st_size, state.st_mtime_ns)


@cache
def _hashed_picture(path: Path, size: int, mtime_ns: int) -> str:
    """Reads a picture once, as long as size and time of change stay; several models ask for the same ones."""
    return hashlib.sha256(intact_bytes(path)).hexdigest()


def _text_in(path: Path) -> str:
    """A text file's content; ValueError says why there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read ({error})") from error


def _instruction_in(path: Path) -> str:
    text = _text_in(path)
    if not text.strip():
        raise ValueError("is empty")
    return text


def _json_in(path: Path) -> Any:
    try:
        return json.loads(_text_in(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"is not valid JSON ({error})") from error


def _plan_in(path: Path) -> dict:
    content = _json_in(path)
    problem = plan_problem(content)
    if problem:
        raise ValueError(f"is no scorable plan: {problem}")
    return content


def _picture_in(path: Path) -> None:
    content = intact_bytes(path)
    try:
        picture = decode_image(content)
    except ValueError as error:
        raise ValueError(f"does not decode ({error})") from error
    if problem := aspect_problem(*picture.size):
        raise ValueError(f"has {problem}, which Qwen-VL's image processor refuses")


def plan_problem(content: object) -> str | None:
    """Why this ground truth cannot be scored by the official rules, or None."""
    sequence = content.get("skill_sequence") if isinstance(content, dict) else None
    if not isinstance(sequence, list) or not sequence:
        return "no skill_sequence list"
    for position, item in enumerate(sequence):
        if not isinstance(item, dict) or not isinstance(item.get("params"), dict):
            return f"skill {position} is no object with name and params"
        if item.get("name") not in SKILLS:
            return f"skill {position} has the unknown name {item.get('name')!r}"
        for target, value in item["params"].items():
            if target in TARGETS and (not isinstance(value, int) or isinstance(value, bool)):
                return f"skill {position}: {target} is {value!r}, not an integer id"
    if not subtasks([item["name"] for item in sequence]):
        return "no official sub-task pattern matches"
    return None


def find_examples(
    data_path: Path,
    dimensions: list[str],
    tasks: list[str] | None = None,
    max_tasks: int | None = None,
    num_episodes: int | None = None,
    allow_empty: bool = False,
) -> dict[str, list[Example]]:
    """Examples by dimension, ordered by task and number; only `tasks` if named, at most `max_tasks` a dimension and
    `num_episodes` a task. UserError if a dimension or task is not there or, unless `allow_empty`, nothing is left."""
    by_dimension: dict[str, list[Example]] = {}
    known_tasks: set[str] = set()
    for dimension in dimensions:
        folder = data_path / dimension
        if not folder.is_dir():
            present = [name for name in DIMENSIONS if (data_path / name).is_dir()]
            raise UserError(f"dimension folder not found: {folder}. There: {', '.join(present) or 'none of the six'}")
        names = sorted(task.name for task in folder.iterdir() if task.is_dir() and not task.name.startswith("."))
        known_tasks.update(names)
        chosen = [name for name in names if not tasks or name in tasks][:max_tasks]
        by_dimension[dimension] = [e for name in chosen for e in _examples_of(folder / name, dimension)[:num_episodes]]
    unknown = sorted(set(tasks or []) - known_tasks)
    if unknown:
        raise UserError(
            f"unknown task {unknown[0]!r} in {', '.join(dimensions)}; there: {', '.join(sorted(known_tasks))}"
        )
    if not any(by_dimension.values()) and not allow_empty:
        raise UserError(f"no examples below {data_path} for {', '.join(dimensions)}. {VERIFY_ADVICE}")
    return {dimension: examples for dimension, examples in by_dimension.items() if examples}


def examples_below(data_path: Path) -> list[Example]:
    """The examples of every folder that stands for a dimension there, in the order of `find_examples`; none where
    there is no such folder."""
    if not data_path.is_dir():
        return []
    dimensions = sorted(path.name for path in data_path.iterdir() if path.is_dir() and not path.name.startswith("."))
    by_dimension = find_examples(data_path, dimensions, allow_empty=True)
    return [example for examples in by_dimension.values() for example in examples]


def _examples_of(folder: Path, dimension: str) -> list[Example]:
    numbered = [(int(match.group(1)), path) for path in folder.iterdir() if (match := _EXAMPLE.fullmatch(path.name))]
    return [Example(dimension, folder.name, number, path) for number, path in sorted(numbered)]


def example_problems(example: Example) -> list[tuple[Path, str]]:
    """Every defect of an example as (file, reason): a file missing, a picture that does not decode, a bad plan."""
    problems: list[tuple[Path, str]] = []
    for read, path in (
        (_picture_in, example.plain_image),
        (_picture_in, example.tagged_image),
        (_instruction_in, example.instruction_file),
        (_plan_in, example.plan_file),
        (_json_in, example.env_config_file),
    ):
        try:
            read(path)
        except ValueError as error:
            problems.append((path, str(error)))
    return problems
