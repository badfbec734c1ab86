"""Planning rows of mixed lengths to measure training on: real files, seeded, with texts and pictures of drawn size.

The visual tokens, the prompt and the plan of a row are drawn apart, each log-normally and cut at both ends. Of 1,000
rows (seed 0), in tokens of the tiny planner, shortest / median / 95 % / longest:

    tiny   visual 4 / 68 / 272 / 288      prompt 43 / 131 / 451 / 455   plan 10 / 40 / 200 / 244
           row 76 / 284 / 599 / 807
    2b     visual 240 / 485 / 765 / 782   prompt 50 / 115 / 285 / 335   plan 10 / 50 / 200 / 244
           row 341 / 689 / 1,001 / 1,250

The tiny planner's vision tower is large beside its language model. Its rows are mixed so that tower and mergers take as
much of the model FLOPs (42 % in full fine-tuning, 26 % with LoRA) as those of Qwen3-VL-2B on the rows of `2b` (43 and
27 %): no order of rows makes that share faster.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from leap.demo.tabletop import CELL_PIXELS, KINDS, draw, random_scene
from leap.files import replacing
from leap.rows.chat import planning_prompt

_PLACES = ("on the left", "on the right", "at the front", "at the back", "near the edge", "in the middle")
_VERBS = ("Take", "Move", "Turn", "Lift", "Push", "Check")
_PIECE = re.compile(r"\d|\w+|[^\w\s]|\n")  # about what the tiny planner's tokenizer makes one token of


@dataclass(frozen=True)
class TokenCounts:
    """A log-normal distribution of token counts; what falls outside is put on the edge."""

    median: float
    sigma: float  # of the logarithm
    least: int
    most: int

    def draw(self, rng: random.Random) -> int:
        return round(min(max(rng.lognormvariate(math.log(self.median), self.sigma), self.least), self.most))


@dataclass(frozen=True)
class RowMix:
    """How rows are mixed. The chat template adds about 30 tokens to a prompt."""

    visual: TokenCounts  # of all pictures of a row together
    pictures: int  # most in a row; one is as likely as two
    prompt: TokenCounts
    plan: TokenCounts


MIXES = {
    "tiny": RowMix(TokenCounts(65, 0.9, 4, 280), 3, TokenCounts(95, 1.0, 5, 420), TokenCounts(40, 1.0, 5, 250)),
    "2b": RowMix(TokenCounts(480, 0.4, 256, 768), 3, TokenCounts(80, 0.7, 20, 300), TokenCounts(55, 0.8, 5, 250)),
}


def write_mixed_rows(path: Path, count: int, mix: RowMix, seed: int) -> None:
    """Write `count` planning rows to `path`, their pictures to `images/` beside it."""
    rng = random.Random(f"mixed {seed}")
    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for number in range(count):
            tokens = mix.visual.draw(rng)
            picture_count = rng.randint(1, min(mix.pictures, tokens // 4))
            content = []
            for i in range(picture_count):
                name = f"mixed-{number:06d}-{i}.png"
                _picture(rng, tokens // picture_count).save(images / name)
                content.append({"type": "image", "image": f"images/{name}"})
            prompt = planning_prompt(f"Tidy up table {number}") + "\n" + _lines(rng, mix.prompt.draw(rng), _note)
            record = {
                "id": f"mixed-{number:06d}",
                "messages": [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}],
                "target": {"steps": _lines(rng, mix.plan.draw(rng), _step)},
            }
            file.write((json.dumps(record) + "\n").encode())


def _picture(rng: random.Random, tokens: int) -> Image.Image:
    """A drawn table of about this many visual tokens, each of which covers a square of 32 pixels."""
    width = max(1, round(math.sqrt(tokens) * rng.uniform(0.8, 1.25)))
    height = max(1, round(tokens / width))
    scene = draw(random_scene(rng, rng.sample(sorted(KINDS), 3)), tags=True)
    return scene.resize((width * CELL_PIXELS, height * CELL_PIXELS))


def _lines(rng: random.Random, tokens: int, line: Callable[[random.Random, int], str]) -> str:
    """Lines of at most about this many tokens together; the first one is always there."""
    # Lines stay short: the tokenizer of the tiny planner takes 60 characters without a digit for one piece.
    text, number = line(rng, 1), 1
    while True:
        number += 1
        longer = f"{text}\n{line(rng, number)}"
        if len(_PIECE.findall(longer)) > tokens:
            return text
        text = longer


def _note(rng: random.Random, number: int) -> str:
    return f"The {rng.choice(sorted(KINDS))} lies {rng.choice(_PLACES)}."


def _step(rng: random.Random, number: int) -> str:
    return f"{number}) {rng.choice(_VERBS)} the {rng.choice(sorted(KINDS))} {rng.choice(_PLACES)}."
