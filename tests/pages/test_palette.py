"""Looks of models: grey for the base, different for each of many, the same on the page as in the figures."""

from __future__ import annotations

import re

from leap.pages.palette import COLORS, MARKERS, looks, looks_of_models
from tests.conftest import REPOSITORY


def test_the_base_is_grey_and_others_keep_their_order():
    numbers = looks_of_models(["checkpoint-1", "baseline", "checkpoint-2", "baseline_blank"])
    assert numbers["baseline"] == (len(COLORS) - 1, len(MARKERS) - 1)
    assert [numbers[name][0] for name in ("checkpoint-1", "checkpoint-2", "baseline_blank")] == [0, 1, 2]


def test_forty_nine_models_differ_in_colour_or_marker():
    assert len(set(looks(map(str, range(49))).values())) == 49


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2."""
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_each_colour_stands_out_from_paper():
    assert all(1.05 / (luminance(color) + 0.05) >= 3 for color in COLORS)


def test_the_page_has_the_colours_of_the_figures():
    style = (REPOSITORY / "leap/report/assets/report.css").read_text()
    light = style[: style.index("@media")]
    assert tuple(re.findall(r"--c\d: (#\w{6})", light)) == COLORS
