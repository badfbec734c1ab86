"""Progress of anything long: a tqdm bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from tqdm import tqdm

from leap.text import printable, printable_lines

_SECONDS_BETWEEN_LINES = 10.0


def say(text: object, file: TextIO | None = None) -> None:
    """Print, on the first of several processes only; what would steer the terminal is replaced."""
    if _is_first():
        print(printable_lines(str(text)), file=file, flush=True)


def print_some(lines: Sequence[str], rest_in: str, most: int = 20) -> None:
    """Print the first lines, and how many more there are and where."""
    say("\n".join(lines[:most]))
    if len(lines) > most:
        say(f"... and {len(lines) - most} more, in {rest_in}")


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


class Progress:
    """Counts up to `total`; use as a context manager and call `advance`."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._first, self._started, self._last_line_s = done, time.monotonic(), time.monotonic()
        bar = sys.stderr.isatty() and _is_first()
        self._bar = tqdm(total=total, initial=done, desc=printable(what), unit=unit) if bar else None

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now_s = time.monotonic()
        if now_s - self._last_line_s >= _SECONDS_BETWEEN_LINES or self.done == self.total:
            rate = (self.done - self._first) / max(now_s - self._started, 1e-9)
            left = (self.total - self.done) / rate if rate else float("nan")
            say(f"{self.what}: {self.done}/{self.total} {self.unit}s, {rate:.1f}/s, {left:.0f} s left")
            self._last_line_s = now_s

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
