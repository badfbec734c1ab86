"""Evaluation prompts: VLABench's own where its submodule is present, else our wording of the same contract.

A prompt is the content of one user turn: {"type": "text", "text": str} and {"type": "image", "image": path} items in
order, texts without separators.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from configs.config import REPOSITORY, WorkspaceConfig
from configs.errors import UserError
from leap.plans.reading import fenced
from leap.vlabench.examples import Example

STYLES = ("auto", "official", "builtin")
LANGUAGES = ("en", "zh")
SHOT_FORMATS = ("auto", "official", "fenced")
PICTURES = ("own", "blank", "shuffled")


class PromptWriter:
    """Writes the prompt of an example in one style and language, with seeded shots from `pool`.

    Shots show their answer as VLABench does (`official`: {"skill_sequence": ...} without a fence, which its own parser
    scores 0) or as the parser wants it (`fenced`); `auto` is the one that goes with the style. With `shuffled` pictures
    the query shows those of another example of `examples`, a control; `blank` ones are the planner's to show.
    """

    def __init__(
        self,
        workspace: WorkspaceConfig,
        style: str = "auto",
        language: str = "en",
        few_shot_num: int = 0,
        with_cot: bool = False,
        pool: Sequence[Example] = (),
        seed: int = 42,
        shot_format: str = "auto",
        pictures: str = "own",
        examples: Sequence[Example] = (),
    ) -> None:
        official = workspace.vlabench / "VLABench"
        if style == "auto":
            style = "official" if (official / "configs/prompt").is_dir() else "builtin"
        self.style, self.language, self.few_shot_num, self.with_cot = style, language, few_shot_num, with_cot
        self.pool, self.seed = pool, seed
        if shot_format == "auto":
            shot_format = "official" if style == "official" else "fenced"
        self.shot_format = shot_format
        self.pictures = pictures
        self._donors = _shuffled(examples, seed) if pictures == "shuffled" else {}
        if style == "official":
            path = official / f"configs/prompt/eval_vlm_{language}.txt"
            self._preamble = workspace.require(path, "VLABench's prompt").read_text(encoding="utf-8")
            self._items = _official_assembly(workspace)
        else:
            self._text = builtin_texts(language)

    def fingerprint(self) -> dict[str, Any]:
        """What decides the wording, for the summary: style, language, shots, hash of the fixed text."""
        fixed = self._preamble if self.style == "official" else json.dumps(self._text, sort_keys=True)
        return {
            "style": self.style,
            "language": self.language,
            "few_shot_num": self.few_shot_num,
            "with_cot": self.with_cot,
            "shot_seed": self.seed if self.few_shot_num else None,
            "shot_format": self.shot_format if self.few_shot_num else None,
            "pictures": self.pictures if self.pictures != "shuffled" else f"shuffled by seed {self.seed}",
            "text_sha256": hashlib.sha256(fixed.encode()).hexdigest(),
        }

    def shots_for(self, example: Example) -> list[Example]:
        """The shots of one example: chosen by a seed of its own among those that can be shown, never the example
        itself. UserError if there are too few."""
        if not self.few_shot_num:
            return []
        others = [other for other in self.pool if other.folder != example.folder]
        random.Random(f"{self.seed} {example.task} {example.number}").shuffle(others)
        shots = list(itertools.islice((other for other in others if other.problem() is None), self.few_shot_num))
        if len(shots) < self.few_shot_num:
            raise UserError(
                f"{self.few_shot_num} shots wanted, {len(shots)} other examples there; lower --few-shot-num"
            )
        return shots

    def donor(self, example: Example) -> Example:
        """Whose pictures the prompt of `example` shows: its own, unless they are shuffled."""
        return self._donors.get(example, example)

    def write(self, example: Example) -> list[dict]:
        """The user turn of `example`. UserError if a file of it or of a shot is missing."""
        donor = self.donor(example)
        pictures = (donor.plain_image, donor.tagged_image)
        return self.write_for(pictures, example.instruction(), self.shots_for(example))

    def write_for(self, pictures: tuple[Path, Path], instruction: str, shots: Sequence[Example] = ()) -> list[dict]:
        """The user turn of an `instruction` for a scene, by the files of its picture without and with tags."""
        if self.style == "official":
            return self._write_official(pictures, instruction, shots)
        text = self._text
        items = [_text(text["preamble"])]
        for shot in shots:
            items += [
                _text(text["shot"]),
                *_pictures(shot.plain_image, shot.tagged_image),
                _text(self._instruction(shot.instruction())),
                _text(self._shot_answer(shot) + "\n"),
            ]
        items += [*_pictures(*pictures), _text(self._instruction(instruction))]
        if self.with_cot:
            items.append(_text(text["cot"]))
        return items

    def _shot_answer(self, shot: Example) -> str:
        return fenced(shot.ground_truth()) if self.shot_format == "fenced" else json.dumps(shot.operation_sequence())

    def _instruction(self, instruction: str) -> str:
        return self._text["instruction"].replace("{instruction}", instruction.strip())

    def _write_official(self, pictures: tuple[Path, Path], instruction: str, shots: Sequence[Example]) -> list[dict]:
        plain, tagged = map(str, pictures)
        fields: dict[str, Any] = {
            "pre_prompt": self._preamble,
            "input_pic": plain,
            "input_pic_gt": tagged,
            "input_instruction": instruction,
        }
        if shots:
            by_number = {str(i): shot for i, shot in enumerate(shots)}
            fields |= {
                "shot_input_pic": {i: str(shot.plain_image) for i, shot in by_number.items()},
                "shot_input_pic_gt": {i: str(shot.tagged_image) for i, shot in by_number.items()},
                "shot_input_instruction": {i: shot.instruction() for i, shot in by_number.items()},
                "shot_output": {i: shot.operation_sequence() for i, shot in by_number.items()},
            }
        items = [{"type": kind, kind: value} for kind, value in self._items(fields, self.language, self.with_cot)]
        if self.shot_format == "fenced":
            answers = {json.dumps(shot.operation_sequence()): self._shot_answer(shot) for shot in shots}
            items = [_text(answers.get(item["text"], item["text"])) if "text" in item else item for item in items]
        return items


def prompt_text(items: list[dict]) -> str:
    """The prompt as one text, pictures as <image>: what its hash is taken of."""
    return "".join(item["text"] if item["type"] == "text" else "<image>" for item in items)


@cache
def builtin_texts(language: str) -> dict[str, str]:
    """The parts of the built-in prompt: preamble, shot, instruction, cot."""
    return yaml.safe_load((REPOSITORY / f"configs/prompts/builtin_{language}.yaml").read_text(encoding="utf-8"))


def _text(text: str) -> dict:
    return {"type": "text", "text": text}


def _shuffled(examples: Sequence[Example], seed: int) -> dict[Example, Example]:
    """Each example mapped to another one, each used once: the next in a shuffled circle."""
    circle = [example for example in examples if example.problem() is None]
    random.Random(f"{seed} pictures").shuffle(circle)
    if len(circle) < 2:
        raise UserError("shuffled pictures need two examples of a dimension at least")
    return dict(zip(circle, [*circle[1:], circle[0]], strict=True))


def _pictures(*paths: Path) -> list[dict]:
    return [{"type": "image", "image": str(path)} for path in paths]


def _official_assembly(workspace: WorkspaceConfig) -> Any:
    """VLABench's own `get_ti_list`, loaded from its file without importing the package (which wants a simulator)."""
    path = workspace.require(workspace.vlabench / "VLABench/evaluation/model/vlm/base.py", "VLABench's prompt assembly")
    spec = importlib.util.spec_from_file_location("vlabench_prompt_assembly", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_ti_list
