"""Colours and shapes that tell models apart, the same on a page and in a figure.

Okabe and Ito's hues (jfly.uni-koeln.de/color, 2008), darkened until each has a contrast of 3 to 1 on white (WCAG 2.2,
1.4.11); report.css has the same and lighter ones for a dark screen. The shapes are matplotlib's markers, which
figures.js draws by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from leap.models.names import base_suffix

T = TypeVar("T")

COLORS = ("#0072b2", "#c77c00", "#00805c", "#b0528b", "#2a8fc7", "#c14f00", "#8a7a00", "#6b6b6b")  # grey for the base
MARKERS = "osD^vP*X"


def looks(names: Iterable[T], base: str | None = None) -> dict[T, tuple[int, int]]:
    """The numbers of a colour and a marker for each name, the last ones for `base`. Where colours come again, markers
    are others: 49 names are told apart."""
    others = len(COLORS) - 1
    numbers: dict[T, tuple[int, int]] = {}
    for name in names:
        i = len(numbers) - (base in numbers)
        numbers[name] = (others, others) if name == base else (i % others, (i + i // others) % others)
    return numbers


def looks_of_models(models: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The looks of models, grey for the first base among them."""
    models = list(models)
    return looks(models, next((name for name in models if base_suffix(name) is not None), None))
