"""Drawn tabletop scenes: what lies where, which tag it carries, and how it looks.

A picture is 64 x 64 pixels in four cells of 32, so that one visual token of Qwen3-VL
(16-pixel patches merged 2 x 2) covers one object. Tags are random digits from 1 to 9, no two alike,
drawn on the object: who does not look cannot know an id.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL_PIXELS = 32
GRID = 2  # cells a side
PICTURE_PIXELS = CELL_PIXELS * GRID
MOST_TAG = 9
CELL_NAMES = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class ObjectKind:
    """Something that can lie on the table; `shape` and `color` together are unique."""

    name: str
    family: str
    shape: str
    color: str


KINDS = {
    kind.name: kind
    for kind in (
        ObjectKind("apple", "fruit", "disc", "#d62728"),
        ObjectKind("lemon", "fruit", "disc", "#f5d90a"),
        ObjectKind("lime", "fruit", "disc", "#2ca02c"),
        ObjectKind("plum", "fruit", "disc", "#7b3fa0"),
        ObjectKind("rose", "flower", "star", "#d62728"),
        ObjectKind("tulip", "flower", "star", "#f5d90a"),
        ObjectKind("iris", "flower", "star", "#2f6fdf"),
        ObjectKind("salt", "condiment", "bottle", "#f4f4f4"),
        ObjectKind("pepper", "condiment", "bottle", "#222222"),
        ObjectKind("ketchup", "condiment", "bottle", "#d62728"),
        ObjectKind("atlas", "book", "slab", "#2f6fdf"),
        ObjectKind("novel", "book", "slab", "#d62728"),
        ObjectKind("diary", "book", "slab", "#2ca02c"),
        ObjectKind("iron", "block", "square", "#6b7280"),
        ObjectKind("cork", "block", "square", "#b0713a"),
        ObjectKind("gold", "block", "square", "#f5b70a"),
        ObjectKind("plate", "container", "ring", "#f4f4f4"),
        ObjectKind("vase", "container", "vase", "#2f6fdf"),
        ObjectKind("pan", "container", "pan", "#222222"),
        ObjectKind("shelf", "container", "frame", "#7a4a1e"),
    )
}


def family(name: str) -> list[str]:
    """Names of all kinds of one family, in a fixed order."""
    return [kind.name for kind in KINDS.values() if kind.family == name]


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene: which kind, in which cell (0..3, row by row), with which tag (1..9)."""

    kind: str
    cell: int
    tag: int


@dataclass(frozen=True)
class Scene:
    """Objects on the table, ordered by cell, and the seed of their small shifts and of the table's tone."""

    objects: tuple[SceneObject, ...]
    look: int

    def key(self) -> str:
        """What makes two scenes the same: the kinds, their cells and their tags, whatever the shifts."""
        return " ".join(f"{o.cell}:{o.kind}:{o.tag}" for o in self.objects)

    def tag_of(self, kind: str) -> int:
        return next(o.tag for o in self.objects if o.kind == kind)


def split_of(scene: Scene) -> str:
    """The one split a scene belongs to (70 % train, 10 % validation), by a hash of its key.

    Of the last 20 %, full tables are the benchmark's, which has no others, and the rest the blind review's.
    """
    bucket = int(hashlib.sha256(scene.key().encode()).hexdigest()[:8], 16) % 10
    if bucket < 8:
        return "train" if bucket < 7 else "validation"
    return "benchmark" if len(scene.objects) == GRID * GRID else "blind"


def random_scene(rng: random.Random, kinds: list[str]) -> Scene:
    """Place `kinds` (at most four, no two alike) in random cells with random tags."""
    cells = sorted(rng.sample(range(GRID * GRID), len(kinds)))
    tags = rng.sample(range(1, MOST_TAG + 1), len(kinds))
    kinds = rng.sample(kinds, len(kinds))
    return Scene(tuple(map(SceneObject, kinds, cells, tags)), look=rng.randrange(2**31))


def draw(scene: Scene, *, tags: bool) -> Image.Image:
    """The scene as an RGB picture of PICTURE_PIXELS a side, with or without number tags."""
    rng = random.Random(scene.look)
    tone = rng.randint(-8, 8)
    picture = Image.new("RGB", (PICTURE_PIXELS, PICTURE_PIXELS), (214 + tone, 196 + tone, 165 + tone))
    pen = ImageDraw.Draw(picture)
    for placed in scene.objects:
        row, column = divmod(placed.cell, GRID)
        x = column * CELL_PIXELS + CELL_PIXELS // 2 + rng.randint(-2, 2)
        y = row * CELL_PIXELS + CELL_PIXELS // 2 + rng.randint(-2, 2)
        _draw_object(pen, KINDS[placed.kind], x, y)
        if tags:
            # Within one 16-pixel patch, at the same place in it: a tiny vision tower learns to read it sooner.
            left, top = column * CELL_PIXELS + 1, row * CELL_PIXELS + 1
            pen.rectangle((left, top, left + 13, top + 13), fill="white", outline="black")
            pen.text((left + 7, top + 7), str(placed.tag), fill="black", font=_tag_font(), anchor="mm")
    return picture


def _draw_object(pen: ImageDraw.ImageDraw, kind: ObjectKind, x: int, y: int) -> None:
    color, edge = kind.color, "#333333"
    if kind.shape == "disc":
        pen.ellipse((x - 12, y - 12, x + 12, y + 12), fill=color, outline=edge)
    elif kind.shape == "ring":
        pen.ellipse((x - 13, y - 13, x + 13, y + 13), fill=color, outline=edge)
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), outline=edge)
    elif kind.shape == "star":
        for dx, dy in ((-8, 0), (8, 0), (0, -8), (0, 8)):
            pen.ellipse((x + dx - 5, y + dy - 5, x + dx + 5, y + dy + 5), fill=color, outline=edge)
    elif kind.shape == "bottle":
        pen.rectangle((x - 3, y - 13, x + 3, y - 7), fill=edge)
        pen.rectangle((x - 8, y - 7, x + 8, y + 13), fill=color, outline=edge)
    elif kind.shape == "slab":
        pen.rectangle((x - 9, y - 13, x + 9, y + 13), fill=color, outline=edge)
        pen.line((x - 6, y - 13, x - 6, y + 13), fill="white")
    elif kind.shape == "square":
        pen.rectangle((x - 11, y - 11, x + 11, y + 11), fill=color, outline=edge)
    elif kind.shape == "vase":
        pen.polygon(((x - 6, y - 13), (x + 6, y - 13), (x + 11, y + 12), (x - 11, y + 12)), fill=color, outline=edge)
    elif kind.shape == "pan":
        pen.ellipse((x - 11, y - 11, x + 11, y + 11), fill=color, outline=edge)
        pen.rectangle((x + 9, y - 2, x + 14, y + 2), fill=color)
    elif kind.shape == "frame":
        pen.rectangle((x - 13, y - 13, x + 13, y + 13), outline=kind.color, width=3)
        pen.line((x - 13, y + 9, x + 13, y + 9), fill=kind.color, width=3)
    else:
        raise AssertionError(f"no drawing for shape {kind.shape!r}")


_FONT: list = []


def _tag_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if not _FONT:
        _FONT.append(ImageFont.load_default(size=14))
    return _FONT[0]
