"""What a monitor saw, as lines for a terminal of any width."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import Any

from leap.runs.monitor import Gpu, MonitoredRun, Snapshot
from leap.runs.status import DIED, FINISHED, RUNNING, SILENT, RunStatus, is_here
from leap.text import duration_text, printable

_KINDS = {"evaluation": "eval", "training": "train"}
_COLUMNS = ("kind", "model or run", "dimension", "state", "done", "rate", "left", "failed", "GPU")
_NAME = _COLUMNS.index("model or run")
_RIGHT = ("done", "rate", "left", "failed")
_DROPPED_IN_ORDER = ("GPU", "rate", "kind", "failed", "dimension", "left")  # where the terminal is too narrow for all
_SHORTEST_NAME = 20
_NO_NEWS_AFTER_S = 120.0


def table(snapshot: Snapshot, width: int | None = None, height: int | None = None) -> list[str]:
    """The lines of a snapshot, each at most `width` columns. Of more than `height` lines, those below each run go
    first, then the last runs. None is no limit."""
    lines = _head(snapshot) + _rows(snapshot.runs, width, with_details=True) + _foot(snapshot)
    if height and len(lines) > height:
        lines = _head(snapshot) + _rows(snapshot.runs, width, with_details=False) + _foot(snapshot)
    if height and len(lines) > height:
        more = len(lines) - max(height - 1, 0)
        lines = [*lines[: max(height - 1, 0)], f"... {more} more lines: --once shows them"]
    return [_cut(line, width).rstrip() for line in lines]


def _head(snapshot: Snapshot) -> list[str]:
    counts = Counter(run.status.state for run in snapshot.runs)
    lines = [", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing is running"]
    lines += [
        f"GPU {gpu.index} {printable(gpu.name)}: {_busy(gpu)} busy, {_memory(gpu)}" for gpu in snapshot.gpus or []
    ]
    return [*lines, ""] if snapshot.runs else lines


def _foot(snapshot: Snapshot) -> list[str]:
    lines = [f"unreadable: {printable(reason)}" for reason in snapshot.unreadable.values()]
    if snapshot.left_out:
        lines.append(f"{snapshot.left_out} more ended a while ago: --all shows them")
    return ["", *lines] if lines and snapshot.runs else lines


def _rows(runs: list[MonitoredRun], width: int | None, with_details: bool) -> list[str]:
    if not runs:
        return []
    rows = [_COLUMNS, *map(_cells, runs)]
    columns, gap, longest = _layout(rows, width)
    widths = [max(_width(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    widths[_NAME] = min(widths[_NAME], longest)
    lines = []
    for number, row in enumerate(rows):
        cells = []
        for column in columns:
            text = _shortened(row[column], longest) if column == _NAME else row[column]
            space = " " * (widths[column] - _width(text))
            cells.append(space + text if _COLUMNS[column] in _RIGHT else text + space)
        lines.append((" " * gap).join(cells))
        if number and with_details and (details := _details(runs[number - 1].status)):
            lines.append("    " + details)
    return lines


def _layout(rows: list[tuple[str, ...]], width: int | None) -> tuple[list[int], int, int]:
    """(columns that fit, gap between them, longest name): names are shortened first, then gaps, then columns go."""
    widths = [max(_width(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    columns, name = list(range(len(_COLUMNS))), widths[_NAME]
    if width is None:
        return columns, 2, name
    shortest = min(name, _SHORTEST_NAME)
    gap = 2
    order = list(map(_COLUMNS.index, _DROPPED_IN_ORDER))
    order.sort(key=lambda column: any(row[column] != "-" for row in rows[1:]))  # first those that say nothing
    for dropped in (None, None, *order):
        if dropped is not None:
            columns.remove(dropped)
        room = width - sum(widths[column] for column in columns if column != _NAME) - gap * (len(columns) - 1)
        if room >= shortest:
            return columns, gap, min(name, room)
        gap = 1
    return columns, gap, max(room, 1)


def _cells(run: MonitoredRun) -> tuple[str, ...]:
    status = run.status
    return (
        printable(_KINDS.get(status.kind, status.kind)),
        printable(run.name),
        printable(run.dimension or "-"),
        status.state,
        f"{status.done}/{status.total}",
        _rate(status.rate),
        "-" if status.left_s is None else duration_text(status.left_s),
        "-" if status.kind == "training" else str(status.failures),
        " ".join(f"{gpu.index}: {_busy(gpu)}" for gpu in run.gpus) or "-",
    )


def _details(status: RunStatus) -> str:
    """What there is to say beside the columns, on one line."""
    ago = duration_text(status.silent_s)
    if status.state == RUNNING:
        parts = [status.phase, *(f"{name.replace('_', ' ')} {_value(value)}" for name, value in status.counts.items())]
        if status.silent_s > _NO_NEWS_AFTER_S:
            parts.append(f"no news for {ago}")
    elif status.state == SILENT:
        parts = [f"silent for {ago}"]
    elif status.state == DIED:
        parts = [f"{ago} ago: process {status.pid} ended without a word (killed, out of memory?)"]
    elif status.state == FINISHED:
        parts = [f"{ago} ago, took {duration_text(status.seconds)}"]
    else:
        parts = [f"{ago} ago: {status.reason}"]
    if not is_here(status):
        parts.append(f"process {status.pid} on {status.host}")
    return printable(", ".join(part for part in parts if part))


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return "-"
    count, unit = next(
        (per_second * seconds, unit)
        for seconds, unit in ((1, "s"), (60, "min"), (3600, "h"))
        if per_second * seconds >= 1 or unit == "h"
    )
    return f"{count:.0f}/{unit}" if count >= 10 else f"{count:.1f}/{unit}"


def _value(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _busy(gpu: Gpu) -> str:
    return "-" if gpu.busy_percent is None else f"{gpu.busy_percent}%"


def _memory(gpu: Gpu) -> str:
    if gpu.used_mib is None or gpu.total_mib is None:
        return "memory -"
    return f"{gpu.used_mib / 1024:.1f} of {gpu.total_mib / 1024:.1f} GiB"


def _width(text: str) -> int:
    """How many columns a terminal shows it in."""
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    return 0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _cut(text: str, width: int | None) -> str:
    """The text, cut at the end where it is too wide."""
    if width is None or _width(text) <= width:
        return text
    head, used = "", 0
    for letter in text:
        used += _columns(letter)
        if used > width - 2:
            break
        head += letter
    return head + ".."[: max(width, 0)]


def _shortened(name: str, width: int) -> str:
    """A name that keeps its end, which holds the step, and some of its beginning."""
    if _width(name) <= width:
        return name
    tail = ""
    for letter in reversed(name):
        if _width(letter + tail) > (width - 2) * 2 // 3:
            break
        tail = letter + tail
    return _cut(name, width - _width(tail)) + tail
