"""One page of small panels: what planning files hold, out of their description (leap/data/description.py)."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from leap.data.description import (
    OBJECTS,
    SIZES,
    STEP_WORDS,
    STEPS,
    TASK_ROWS,
    UNREADABLE,
    VERBS,
    Description,
    distribution,
    most_frequent,
)
from leap.plots.labels import short_names
from leap.plots.style import FAINT, Style, clean, finish, plt, styles_of

MOST_FILES = 4  # side by side; more are drawn as one
MOST_NAMES = 12  # lines of a panel

_NAMED = (VERBS, OBJECTS, SIZES, TASK_ROWS)
_PAGE = (13.5, 8.6)  # inches
_MOST_BARS = 24  # of a histogram with a bar a value
_BINS = 20
_WIDEST_NAME, _WIDEST_TASK = 34, 64  # Latin letters

# Fonts with Chinese and Japanese characters, by system and package.
_WIDE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
)
_NO_FONT = (
    "[no. N] stands for characters that no font of this machine draws; the N-th name in description.md has them. To "
    "have them here, install a font such as Noto Sans CJK and draw again."
)

FileDescriptions = Mapping[str, Mapping[str, Any]]


def data_description(description: Description) -> Figure:
    """Shares of steps a plan, words a step, verbs, objects, picture sizes (one size alone is a note) and tasks.

    Up to MOST_FILES files are compared, more are drawn as one.
    """
    files: FileDescriptions = description["files"]
    if len(files) > MOST_FILES:
        files = {f"all {len(files)} files": _together(files.values())}
    styles = styles_of(files)
    frequent = {quantity: most_frequent(files.values(), quantity, MOST_NAMES)[0] for quantity in _NAMED}
    names = [*files, *(name for of_panel in frequent.values() for name in of_panel)]
    fonts, drawn = _fonts(names)
    with matplotlib.rc_context({"font.family": fonts}):
        figure = plt.figure(figsize=_PAGE, layout="constrained")
        halves: Any = figure.subfigures(2, 1)  # an array of both
        above, below = halves  # each row has columns of its own
        one_size = _only_size(files)
        steps, words, *sizes = above.subplots(1, 2 if one_size else 3)
        verbs, objects, tasks = below.subplots(1, 3)
        _histogram(steps, "Steps a plan", "plans", STEPS, files, styles)
        _histogram(words, "Words a step", "steps", STEP_WORDS, files, styles)
        _names(verbs, "Verbs", "steps with one", VERBS, files, styles, drawn)
        _names(objects, "Objects", "steps with one", OBJECTS, files, styles, drawn)
        for axes in sizes:
            _names(axes, "Picture sizes, pixels", "pictures", SIZES, files, styles, drawn)
        _names(tasks, "Tasks", "rows with a task", TASK_ROWS, files, styles, drawn, _WIDEST_TASK)
        short = short_names(files, 40)
        entries = {
            f"{short[name]}: {file['rows']:,} row{'s' * (file['rows'] != 1)}": Patch(
                facecolor=styles[name].color, hatch=styles[name].hatch, edgecolor="white"
            )
            for name, file in files.items()
        }
        notes = [f"All pictures are {one_size} pixels."] if one_size else []
        notes += [] if all(_is_drawn(character, drawn) for name in names for character in name) else [_NO_FONT]
        return finish(figure, "What the planning files hold", entries, notes)


def _only_size(files: FileDescriptions) -> str | None:
    """The size of all pictures, if it is one and known."""
    sizes = {size for file in files.values() for size in file["counts"][SIZES]}
    return sizes.pop() if len(sizes) == 1 and UNREADABLE not in sizes else None


def _histogram(
    axes: plt.Axes, title: str, unit: str, quantity: str, files: FileDescriptions, styles: Mapping[str, Style]
) -> None:
    """Shares of values in each file, a bar a value or a bin of values; the last one takes the rest."""
    distributions = {name: file["distributions"] for name, file in files.items()}
    counts = {name: of_file[quantity] for name, of_file in distributions.items() if quantity in of_file}
    if not counts:
        _empty(axes, title)
        return
    low = min(file_counts["min"] for file_counts in counts.values())
    high = max(file_counts["max"] for file_counts in counts.values())
    cap = max(low + 1, *(_quantile(file_counts["values"], 0.995) for file_counts in counts.values()))
    step = 1 if cap - low < _MOST_BARS else -(-(cap - low + 1) // _BINS)
    bins = (min(cap, high) - low) // step + 1
    width = 0.86 / len(counts)
    for i, (name, file_counts) in enumerate(counts.items()):
        shares = np.zeros(bins)
        for value, count in file_counts["values"].items():
            shares[min((int(value) - low) // step, bins - 1)] += 100 * count / file_counts["count"]
        places = np.arange(bins) - 0.43 + (i + 0.5) * width
        style = styles[name]
        axes.bar(places, shares, width, color=style.color, hatch=style.hatch, edgecolor="white", linewidth=0.4)
    every = max(1, -(-bins // 8))
    ticks = list(range(0, bins, every))
    labels = [
        str(low + tick * step) if step == 1 else f"{low + tick * step}-{low + tick * step + step - 1}" for tick in ticks
    ]
    if high >= low + bins * step:
        if bins - 1 - ticks[-1] < every:
            ticks.pop(), labels.pop()
        ticks.append(bins - 1)
        labels.append(f"{low + (bins - 1) * step}+")
    axes.set_xticks(ticks, labels, fontsize=8)
    axes.set_xlim(*((-0.8, bins - 0.2) if bins > 2 else (-1.3, bins + 0.3)))
    axes.set_ylabel(f"% of {unit}", fontsize=8.5)
    axes.tick_params(axis="y", labelsize=8)
    medians = ", ".join(f"{file_counts['median']:,}" for file_counts in counts.values())
    axes.set_title(f"{title} (median {medians})", fontsize=10)
    clean(axes)


def _names(
    axes: plt.Axes,
    title: str,
    unit: str,
    quantity: str,
    files: FileDescriptions,
    styles: Mapping[str, Style],
    drawn: frozenset[int],
    widest: int = _WIDEST_NAME,
) -> None:
    """Shares of the most frequent names, a line a name, a bar a file; n is what was counted in each file, in order."""
    counts_by_file = {name: file["counts"][quantity] for name, file in files.items() if file["counts"][quantity]}
    names, number = most_frequent(files.values(), quantity, MOST_NAMES)
    if not names:
        _empty(axes, title)
        return
    height = 0.8 / len(counts_by_file)
    for i, (name, counts) in enumerate(counts_by_file.items()):
        total = sum(counts.values())
        shares = [100 * counts.get(name, 0) / total for name in names]
        ys = np.arange(len(names)) - 0.4 + (i + 0.5) * height
        style = styles[name]
        axes.barh(ys, shares, height, color=style.color, hatch=style.hatch, edgecolor="white", linewidth=0.4)
    axes.set_yticks(range(len(names)), _labels(names, drawn, widest), fontsize=8)
    axes.set_ylim(max(len(names), 4) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    counts_of = ", ".join(f"{sum(file['counts'][quantity].values()):,}" for file in files.values())
    axes.set_xlabel(f"% of {unit}{', ' if len(files) < 3 else chr(10)}n = {counts_of}", fontsize=8.5)
    counted = f"{number:,}" if number == len(names) else f"{len(names)} of {number:,}"
    axes.set_title(f"{title} ({counted})", fontsize=10)
    clean(axes, "x")


def _empty(axes: plt.Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.annotate("none counted", (0.5, 0.5), xycoords="axes fraction", ha="center", color=FAINT, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _labels(names: Sequence[str], drawn: frozenset[int], widest: int) -> list[str]:
    """Names on one line, short, all different; one that no font draws has its number in place of what is not drawn."""
    drawable = []
    for number, name in enumerate(names, 1):
        text = "".join(character if _is_drawn(character, drawn) else " " for character in name)
        drawable.append(" ".join([*text.split(), *([f"[no. {number}]"] if text != name else [])]))
    wide = [any(unicodedata.east_asian_width(character) in "WF" for character in name) for name in drawable]
    short: dict[str, str] = {}
    for kind, most in ((False, widest), (True, widest // 2)):
        short |= short_names([name for name, is_wide in zip(drawable, wide, strict=True) if is_wide == kind], most)
    return [short[name] for name in drawable]


def _quantile(values: Mapping[str, int], share: float) -> int:
    """The smallest value that at least this share is not above."""
    left = share * sum(values.values())
    for value, count in values.items():
        left -= count
        if left <= 0:
            return int(value)
    raise ValueError(f"no such share: {share}")


def _fonts(names: Iterable[str]) -> tuple[list[str], frozenset[int]]:
    """The usual font and, if the names need one, another that is installed, and the characters these have."""
    fonts = [font_manager.FontProperties().get_name()]
    drawn = _characters_of(fonts[0])
    text = "".join(names)
    for font in _WIDE_FONTS:
        if all(_is_drawn(character, drawn) for character in text):
            break
        if font in _installed():
            fonts.append(font)
            drawn |= _characters_of(font)
    return fonts, drawn


def _is_drawn(character: str, drawn: frozenset[int]) -> bool:
    return character.isspace() or ord(character) in drawn


@functools.cache
def _installed() -> frozenset[str]:
    return frozenset(font.name for font in font_manager.fontManager.ttflist)


@functools.cache
def _characters_of(font: str) -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(font)).get_charmap())


def _together(files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several files' descriptions as one, as far as the page needs it."""
    rows = 0
    counts: dict[str, Counter[str]] = {}
    values: dict[str, Counter[int]] = {}
    for file in files:
        rows += file["rows"]
        for quantity, names in file["counts"].items():
            counts.setdefault(quantity, Counter()).update(names)
        for quantity, distribution_of_file in file["distributions"].items():
            into = values.setdefault(quantity, Counter())
            for value, count in distribution_of_file["values"].items():
                into[int(value)] += count
    return {
        "rows": rows,
        "counts": counts,
        "distributions": {quantity: distribution(file) for quantity, file in values.items()},
    }
