"""Tags of a picture: the numbers by which a plan names objects, and where they lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from PIL import Image, ImageDraw, ImageFont

from configs.errors import UserError

Tags = Mapping[int, tuple[int, int]]  # number -> (x, y) in pixels of the upright picture

_TAG = re.compile(r"(?:(?P<number>\d{1,4})=)?(?P<x>\d{1,6}),(?P<y>\d{1,6})")
_LEAST_FONT = 10  # pixels


def tags_in(words: Iterable[str]) -> dict[int, tuple[int, int]]:
    """The tags that words like "120,80" (numbered from 1 in their order) and "3=120,80" name. UserError for another
    word, or a number that is there twice."""
    tags: dict[int, tuple[int, int]] = {}
    for word in words:
        match = _TAG.fullmatch(word.replace(" ", ""))
        if match is None:
            raise UserError(f"--tag {word!r:.80} is no X,Y or NUMBER=X,Y in pixels, as in 3=120,80")
        number = int(match["number"]) if match["number"] else next_number(tags)
        if number in tags:
            raise UserError(f"--tag: the number {number} is there twice")
        tags[number] = int(match["x"]), int(match["y"])
    return tags


def next_number(tags: Tags) -> int:
    """The lowest number from 1 that no tag has."""
    return next(number for number in range(1, len(tags) + 2) if number not in tags)


def check_places(tags: Tags, size: tuple[int, int], where: str) -> None:
    """UserError if a tag lies outside of a picture of `size` (width, height)."""
    for number, (x, y) in tags.items():
        if not (0 <= x < size[0] and 0 <= y < size[1]):
            raise UserError(
                f"{where}: tag {number} at {x},{y} lies outside of the picture, {size[0]} x {size[1]} pixels"
            )


def with_tags(picture: Image.Image, tags: Tags) -> Image.Image:
    """A copy of the picture with each number in a white box around its place, the box moved inwards at an edge."""
    tagged = picture.copy()
    pen = ImageDraw.Draw(tagged)
    font = ImageFont.load_default(size=font_size(picture.size))
    for number, place in tags.items():
        left, top, right, bottom = box_of(str(number), place, picture.size)
        pen.rectangle((left, top, right, bottom), fill="white", outline="black", width=max(1, (bottom - top) // 12))
        pen.text(((left + right) / 2, (top + bottom) / 2), str(number), fill="black", font=font, anchor="mm")
    return tagged


def box_of(text: str, place: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a tag's box around `place`, within a picture of `size`."""
    font = font_size(size)
    height = round(font * 1.4)
    width = max(height, round(font * (0.62 * len(text) + 0.5)))
    left = min(max(0, place[0] - width // 2), max(0, size[0] - width - 1))
    top = min(max(0, place[1] - height // 2), max(0, size[1] - height - 1))
    return left, top, left + width, top + height


def font_size(size: tuple[int, int]) -> int:
    """The height of digits that can be read in a picture of this size, also once a model has shrunk it."""
    return max(_LEAST_FONT, min(size) // 22)
