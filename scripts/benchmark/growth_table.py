#!/usr/bin/env python3
"""The tables of docs/scale.md and its figure, out of what scripts/benchmark/growth.py measured.

    python scripts/benchmark/growth_table.py
    python scripts/benchmark/growth_table.py --document docs/scale.md --figure docs/images/growth.png

Prints both tables without --document; with it they take the place of what stands there between `<!-- name -->` and
`<!-- end of name -->`: `growth` is what was measured, `on paper` what follows from it for runs that nobody measured.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.files import read_jsonl, write_text
from leap.progress import say
from leap.text import markdown_table

# By part what is counted, in words.
_COUNTED = {
    "rows": "planning rows",
    "examples": "benchmark examples, 2 models",
    "models": "models, 280 examples each",
    "journals": "journal lines",
    "reviews": "items of a blind review, 2 models",
}

# On paper: many checkpoints of a run, and all of AgiBot World, 43.8 TB in a million trajectories of 217 tasks
# (arXiv:2503.06669), an archive a task.
_CHECKPOINTS, _EXAMPLES = 1_000, 4_500
_REPORTED = 10  # models of one report
_TRAJECTORIES, _ARCHIVE_BYTES = 1_000_000, 43.8e12
_BITS_A_SECOND = 1e9
_ARCHIVES = 217
_FRAME_BYTES = 0.5e6  # of a first frame, as scripts/benchmark/extraction.py makes them

Lines = Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]  # by part and step, then size


@dataclass(frozen=True)
class Options:
    results: Path | None = knob(None, "JSONL of growth.py (default: growth.jsonl in the workspace's output/)")
    document: Path | None = knob(None, "Markdown file whose tables are replaced")
    figure: Path | None = knob(None, "PNG file of the figure")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    lines = measured(options.results or WorkspaceConfig.from_environment().output / "growth.jsonl")
    tables = {"growth": growth_tables(lines), "on paper": on_paper(lines)}
    if options.document:
        text = options.document.read_text(encoding="utf-8")
        for name, table in tables.items():
            text = replaced(text, name, table, options.document)
        write_text(options.document, text)
        say(f"written: {options.document}")
    else:
        say("\n\n".join(tables.values()))
    if options.figure:
        from leap.plots.growth import growth
        from leap.plots.style import plt

        options.figure.parent.mkdir(parents=True, exist_ok=True)
        figure = growth(curves(lines))
        figure.savefig(options.figure, dpi=110)
        plt.close(figure)
        say(f"written: {options.figure}")


def measured(path: Path) -> Lines:
    """The last line of each measurement. UserError if there is none."""
    lines: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in read_jsonl(path):
        lines[line["part"], line["step"]][line["size"]] = line
    if not lines:
        raise UserError(f"{path} holds no measurements; make some with: python scripts/benchmark/growth.py")
    return {key: dict(sorted(by_size.items())) for key, by_size in lines.items()}


def replaced(text: str, name: str, table: str, path: Path) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    parts = re.split(f"({re.escape(begin)}|{re.escape(end)})", text)
    if parts[1::2] != [begin, end]:
        raise UserError(f"{path} must have one place for a table between {begin} and {end}")
    return f"{parts[0]}{begin}\n{table}\n{end}{parts[4]}"


def growth_tables(lines: Lines) -> str:
    """A table a part: seconds and memory by size, and the exponents of CPU time and memory between the last two sizes
    that were done."""
    tables = [made_by(lines)]
    for part, counted in _COUNTED.items():
        steps = {step: by_size for (name, step), by_size in lines.items() if name == part}
        sizes = sorted({size for by_size in steps.values() for size in by_size})
        if not sizes:
            continue
        rows = [[counted, *(f"{size:,}" for size in sizes), "CPU time", "memory"]]
        for step, by_size in steps.items():
            cells = [cell(by_size.get(size)) for size in sizes]
            rows.append([step, *cells, exponent(by_size, "cpu_seconds"), exponent(by_size, "peak_mb")])
        tables.append(markdown_table(rows, right_from=1))
    return "\n\n".join(tables)


def made_by(lines: Lines) -> str:
    """Machine, code and days of all measurements."""
    every = [line for by_size in lines.values() for line in by_size.values()]
    machines = sorted({", ".join(f"{name} {value}" for name, value in line["hardware"].items()) for line in every})
    days = sorted({line["time"][:10] for line in every})
    codes = sorted({str(line["code"])[:12] for line in every})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"Measured {span} with code {', '.join(codes)} on: {'; '.join(machines)}."


def cell(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "-"
    if line["ended"] != "done":
        return "failed" if line["ended"] == "failed" else f"over {line['seconds']:,.0f} s"
    memory = f", {line['peak_mb']:,.0f} MB" if line["peak_mb"] else ""
    return f"{seconds_text(line['seconds'])}{memory}"


def seconds_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"


def exponent(by_size: Mapping[int, Mapping[str, Any]], name: str) -> str:
    """The exponent of a power of the size, between the last two sizes that were done."""
    points = [(size, line[name]) for size, line in by_size.items() if line["ended"] == "done" and line[name]]
    if len(points) < 2:
        return "-"
    (smaller, low), (larger, high) = points[-2:]
    return f"{math.log(high / low) / math.log(larger / smaller):.2f}"


def curves(lines: Lines) -> dict[str, dict[str, list[tuple[int, float, float | None]]]]:
    """What the figure shows: by part and step the sizes that were done, with seconds and MB."""
    parts: dict[str, dict[str, list[tuple[int, float, float | None]]]] = {name: {} for name in _COUNTED.values()}
    for (part, step), by_size in lines.items():
        points = [(s, line["seconds"], line["peak_mb"]) for s, line in by_size.items() if line["ended"] == "done"]
        if points:
            parts[_COUNTED[part]][step] = points
    return {name: steps for name, steps in parts.items() if steps}


@dataclass(frozen=True)
class Rate:
    """What one more of the counted costs, by the largest size that was done."""

    size: int
    line: Mapping[str, Any]
    each: int = 1  # times the size were counted

    def a_unit(self, name: str) -> float:
        return self.line[name] / (self.size * self.each)

    @property
    def origin(self) -> str:
        return f"{self.line['step']} at {self.size:,} {self.line['part']}"


def rate(lines: Lines, part: str, step: str, each: int = 1) -> Rate | None:
    done = {size: line for size, line in lines.get((part, step), {}).items() if line["ended"] == "done"}
    return Rate(max(done), done[max(done)], each) if done else None


def on_paper(lines: Lines) -> str:
    """What follows for runs of another size, each number with the product that it is."""
    checkpoints = [["what", "comes to", "as"], *checkpoint_rows(lines)]
    agibot = [["what", "comes to", "as"], *agibot_rows(lines)]
    whole = f"All of AgiBot World, {_TRAJECTORIES:,} trajectories in {_ARCHIVE_BYTES / 1e12:g} TB:"
    return (
        f"{_CHECKPOINTS:,} checkpoints, {_EXAMPLES:,} examples each:\n\n{markdown_table(checkpoints)}\n\n"
        f"{whole}\n\n{markdown_table(agibot)}"
    )


def checkpoint_rows(lines: Lines) -> Iterator[Sequence[str]]:
    answers = _CHECKPOINTS * _EXAMPLES
    if scored := rate(lines, "examples", "scored", each=2):
        size, cpu_s = scored.a_unit("file_bytes"), scored.a_unit("cpu_seconds")
        yield "journals", f"{answers * size / 1e9:.1f} GB", f"{answers:,} answers x {size:,.0f} bytes ({scored.origin})"
        hours = answers * cpu_s / 3600
        yield "scoring", f"{hours:.1f} CPU hours", f"{answers:,} answers x {1000 * cpu_s:.2f} ms ({scored.origin})"
        memory = f"{scored.line['peak_mb']:,.0f} MB at most"
        yield "memory of scoring", memory, f"a folder at a time, however many there are ({scored.origin})"
    if report := rate(lines, "examples", "report", each=2):
        size, cpu_s = report.a_unit("file_bytes"), report.a_unit("cpu_seconds")
        answers_reported = _REPORTED * _EXAMPLES
        what = f"report of {_REPORTED} of them"
        yield (
            what,
            f"{answers_reported * size / 1e6:.0f} MB",
            f"{answers_reported:,} answers x {size:,.0f} bytes ({report.origin})",
        )
        yield (
            f"{what}, made in",
            f"{answers_reported * cpu_s / 60:.1f} CPU minutes",
            f"{answers_reported:,} answers x {1000 * cpu_s:.2f} ms",
        )
        text = f"{answers:,} answers x {size:,.0f} bytes: over --max-megabytes, so name --models"
        yield "report of all", f"{answers * size / 1e6:,.0f} MB", text


def agibot_rows(lines: Lines) -> Iterator[Sequence[str]]:
    hours = _ARCHIVE_BYTES * 8 / _BITS_A_SECOND / 3600
    yield "download", f"{hours:.0f} hours", f"{_ARCHIVE_BYTES / 1e12:g} TB x 8 bits / {_BITS_A_SECOND / 1e9:g} Gbit/s"
    archive = _ARCHIVE_BYTES / _ARCHIVES
    yield "archives", f"{_ARCHIVES}", f"one a task, {archive / 1e9:.0f} GB each if all were alike"
    yield "disk while they are read", f"under {2 * archive / 1e9:.0f} GB a worker", "two archives (docs/data.md)"
    yield "first frames, and rows at most", f"{_TRAJECTORIES:,}", "one a trajectory"
    frames = _TRAJECTORIES * _FRAME_BYTES
    derivation = f"{_TRAJECTORIES:,} x {_FRAME_BYTES / 1e6:g} MB, as those of scripts/benchmark/extraction.py"
    yield "disk of first frames", f"{frames / 1e9:.0f} GB", derivation
    if rows := rate(lines, "rows", "first check of a training"):
        size = rows.a_unit("file_bytes")
        yield (
            "disk of rows",
            f"{_TRAJECTORIES * size / 1e9:.2f} GB",
            f"{_TRAJECTORIES:,} x {size:,.0f} bytes ({rows.origin})",
        )
    steps = ("first check of a training", "start with known lengths", "pictures checked", "split", "described")
    for step in steps:
        if cost := rate(lines, "rows", step):
            cpu_s = cost.a_unit("cpu_seconds")
            derivation = f"{_TRAJECTORIES:,} x {1000 * cpu_s:.3f} ms ({cost.origin})"
            yield step, f"{_TRAJECTORIES * cpu_s / 60:.1f} CPU minutes", derivation


if __name__ == "__main__":
    run(main)
