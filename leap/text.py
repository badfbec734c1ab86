"""Numbers, sizes, durations, tables and names as people read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def plural(number: int, noun: str) -> str:
    """A count with its noun: "1 row", "1,200 rows"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def size_text(size: float) -> str:
    """A number of bytes in powers of 1000: "512 bytes", "5.6 MB", "123 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float) -> str:
    """A time span in two units at most: 52s, 12m05s, 3h07m, 2d04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    hours = minutes // 60
    return f"{hours // 24}d{hours % 24:02}h"


def count_text(number: float) -> str:
    """A large count in three digits or so: 2.13 B, 15.20 M, 8,402."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.2f} {letter}"
    return f"{number:,.0f}"


def markdown_table(rows: Sequence[Sequence[str]], right_from: int | None = None) -> str:
    """Rows, the first one the head, as Markdown whose columns also line up on a terminal.

    Columns from `right_from` on are flush right. A cell is one line: line breaks become blanks, bars are escaped.
    """
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    right = [right_from is not None and column >= right_from for column in range(len(widths))]
    rule = ["-" * (width - flush) + ":" * flush for width, flush in zip(widths, right, strict=True)]
    pad = [str.rjust if flush else str.ljust for flush in right]
    padded = ([align(cell, width) for align, cell, width in zip(pad, line, widths, strict=True)] for line in lines)
    head, *body = ("| " + " | ".join(line) + " |" for line in padded)
    return "\n".join([head, "| " + " | ".join(rule) + " |", *body])


def printable(text: str) -> str:
    """Text from elsewhere for a terminal: what steers it, or cannot be encoded, becomes "?"."""
    return "".join(letter if _is_harmless(letter) else "?" for letter in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines, whose tabs stay too."""
    return "".join(letter if letter in "\n\t" or _is_harmless(letter) else "?" for letter in text)


def _is_harmless(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"  # blanks of other widths, as in Chinese


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
