"""A plan as a picture: the photo with its tags on the left, the steps on the right.

Where the places of tags are known, each step of a skill list is marked at the object that it names, and an arrow goes
from what the robot holds to where it goes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from leap.planning.tags import Tags, box_of
from leap.plans.reading import Step

_SIDE = 640  # width of a picture, in pixels; small ones are enlarged
_PANEL = 420  # width of the steps
_MARGIN, _LINE = 20, 1.35
_TEXT, _TITLE = 18, 20  # height of letters
_COLORS = ("#0072B2", "#D55E00", "#007A5A", "#A2457E", "#7A5C00", "#4B4B9F")  # white digits can be read on each
_MOST_STEPS = 40

Point = tuple[float, float]


def draw_plan(
    title: str,
    pictures: Sequence[Image.Image],
    steps: Sequence[str],
    skills: Sequence[Step] = (),
    tags: Tags | None = None,
) -> Image.Image:
    """The pictures, as RGB, below each other beside the steps. `skills` are the steps as they were read, if they name
    objects, and `tags` lie in the first picture."""
    widened = [_widened(picture) for picture in pictures]
    if widened and tags:
        scale = widened[0].width / pictures[0].width
        places = {number: (x * scale, y * scale) for number, (x, y) in tags.items()}
        left, _, right, _ = box_of(str(max(tags)), (0, 0), pictures[0].size)
        _mark_steps(widened[0], skills, places, scale * (right - left) / 2)
    panel = _panel(title, steps)
    left = _SIDE if widened else 0
    height = max(panel.height, sum(picture.height for picture in widened))
    drawing = Image.new("RGB", (left + panel.width, height), "white")
    top = 0
    for picture in widened:
        drawing.paste(picture, (0, top))
        top += picture.height
    drawing.paste(panel, (left, 0))
    return drawing


def _widened(picture: Image.Image) -> Image.Image:
    scale = _SIDE / picture.width
    kind = Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.LANCZOS  # pixels of a tiny picture stay sharp
    return picture.resize((_SIDE, max(1, round(picture.height * scale))), kind)


def _mark_steps(picture: Image.Image, skills: Sequence[Step], places: dict[int, Point], half_tag: float) -> None:
    """Number each step beside the tag that it names, `half_tag` pixels to its edge, in the colour of its line in the
    panel."""
    pen = ImageDraw.Draw(picture)
    marks_at: dict[int, int] = {}
    held: Point | None = None
    badges = []
    for number, step in enumerate(skills[:_MOST_STEPS], 1):
        target = next((tag for tag in (step.container, step.entity) if tag in places), None)
        if target is None:
            continue
        place, color = places[target], _color(number)
        if target == step.container and held is not None and held != place:
            _arrow(pen, held, place, half_tag + 6, color)
        held = place
        count = marks_at[target] = marks_at.get(target, 0) + 1
        corner = place[0] + half_tag - 14, place[1] - half_tag - 14
        badges.append(((corner[0] + 26 * count, corner[1]), number, color))
    for center, number, color in badges:  # above all arrows
        x = min(max(center[0], 12), picture.width - 13)
        y = min(max(center[1], 12), picture.height - 13)
        _badge(pen, (x, y), number, color)


def _arrow(pen: ImageDraw.ImageDraw, start: Point, end: Point, gap: float, color: str) -> None:
    """An arrow between two tags, which leaves `gap` pixels at both; none where they lie closer than that."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    if math.dist(start, end) <= 2 * gap + 16:
        return
    tail = start[0] + gap * math.cos(angle), start[1] + gap * math.sin(angle)
    tip = end[0] - gap * math.cos(angle), end[1] - gap * math.sin(angle)
    for width, ink in ((8, "white"), (4, color)):
        pen.line((tail, tip), fill=ink, width=width)
    wings = [(tip[0] - 16 * math.cos(angle + turn), tip[1] - 16 * math.sin(angle + turn)) for turn in (-0.45, 0.45)]
    pen.polygon((tip, *wings), fill=color, outline="white")


def _badge(pen: ImageDraw.ImageDraw, center: Point, number: int, color: str) -> None:
    x, y = center
    pen.ellipse((x - 12, y - 12, x + 12, y + 12), fill=color, outline="white", width=2)
    pen.text((x, y), str(number), fill="white", font=_font(14), anchor="mm")


def _panel(title: str, steps: Sequence[str]) -> Image.Image:
    """The instruction and the numbered steps, in as many lines as they need."""
    width = _PANEL - 2 * _MARGIN
    heading = _wrapped(title, _font(_TITLE), width)
    blocks = [_wrapped(step, _font(_TEXT), width - 36) for step in steps[:_MOST_STEPS]]
    if len(steps) > _MOST_STEPS:
        blocks.append([f"... and {len(steps) - _MOST_STEPS} more"])
    line, gap = round(_TEXT * _LINE), 10
    title_line = round(_TITLE * _LINE)
    body = sum(len(block) * line + gap for block in blocks or [["no step"]])
    panel = Image.new("RGB", (_PANEL, 3 * _MARGIN + len(heading) * title_line + body), "white")
    pen = ImageDraw.Draw(panel)
    y = _MARGIN
    for words in heading:
        pen.text((_MARGIN, y), words, fill="black", font=_font(_TITLE))
        y += title_line
    y += _MARGIN
    if not blocks:
        pen.text((_MARGIN, y), "no step", fill="#777777", font=_font(_TEXT))
    for number, block in enumerate(blocks, 1):
        if number <= _MOST_STEPS:
            _badge(pen, (_MARGIN + 12, y + line / 2), number, _color(number))
        for words in block:
            pen.text((_MARGIN + 36, y), words, fill="black", font=_font(_TEXT))
            y += line
        y += gap
    return panel


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The text in lines of at most `width` pixels; a word that is longer is cut where it must be."""
    lines = [""]
    for word in text.split():
        while True:
            joined = f"{lines[-1]} {word}".strip()
            if font.getlength(joined) <= width:
                lines[-1] = joined
                break
            if lines[-1]:
                lines.append("")
                continue
            fitting = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            lines[-1], word = word[:fitting], word[fitting:]
            lines.append("")
    return lines


def _color(number: int) -> str:
    return _COLORS[(number - 1) % len(_COLORS)]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)  # type: ignore[return-value]  # a bitmap only without FreeType
