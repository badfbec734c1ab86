#!/usr/bin/env python3
"""Compare measured speed-ups with stored ones: has a change made training or evaluation slower?

    python scripts/benchmark/evaluation.py --examples 28 --rounds 2 --output eva_results/evaluation.json
    python scripts/benchmark/check.py --results eva_results/evaluation.json
    python scripts/benchmark/check.py --results eva_results/gpu/trl.json eva_results/gpu/evaluation.json --store

Reads what against_trl.py and evaluation.py write: how many times as fast as TRL a training is, and as plain generate,
one at a time, each mode of an evaluation is. Both take turns with what they are compared with, so that a busy machine
slows both. Stored ones are in scripts/benchmark/ratios.json, by kind of machine. Exit status 1 if a ratio fell by over
20 %; one that is not stored is only shown. --store writes what was measured in place of what was stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.config import REPOSITORY
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.files import read_json, write_json
from leap.text import markdown_table

_LEAST = 0.8  # of the stored ratio; rounds of one run on a busy two-core machine differed by up to 18 %
_REFERENCE = "plain, one at a time"  # 1 by definition
_RATE = "times_plain_one_at_a_time"

Ratios = dict[str, dict[str, float]]  # kind of machine -> name of a ratio -> how many times as fast


@dataclass(frozen=True)
class Options:
    results: list[Path] = knob([], "JSON files that against_trl.py and evaluation.py wrote")
    ratios: Path = knob(REPOSITORY / "scripts" / "benchmark" / "ratios.json", "file of the stored ratios")
    store: bool = knob(False, "store what was measured")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    if not options.results:
        raise UserError("name the files that against_trl.py or evaluation.py wrote with --results")
    stored: Ratios = read_json(options.ratios) if options.ratios.is_file() else {}
    measured: Ratios = {}
    for path in options.results:
        content = read_json(path)
        ratios = ratios_in(content)
        if not ratios:
            raise UserError(f"{path} holds no ratios; it must be what against_trl.py or evaluation.py --output wrote")
        measured.setdefault(machine_kind(content), {}).update(ratios)
    print(table(measured, stored))
    if options.store:
        for machine, ratios in measured.items():
            stored.setdefault(machine, {}).update(ratios)
        write_json(options.ratios, stored)
        print(f"stored: {options.ratios}")
        return 0
    return 1 if any(fell(*row[2:]) for row in compared(measured, stored)) else 0


def machine_kind(content: dict[str, Any]) -> str:
    """What two machines must share for their ratios to be compared: the GPU or, where none was used, the cores."""
    hardware = content["hardware"]
    gpu = None if content.get("device") == "cpu" else hardware["gpu"]
    return gpu or f"{hardware['machine']}, {hardware['cores']} cores"


def ratios_in(content: Any) -> dict[str, float]:
    """The ratios in the JSON of either script, by name; empty if it is none of theirs."""
    if not isinstance(content, dict) or "hardware" not in content:
        return {}
    ratios = {f"{name}, {content['options']['size']}": ratio for name, ratio in content.get("ratios", {}).items()}
    for workload, result in content.items():
        if isinstance(result, dict) and "modes" in result:
            for mode, rates in result["modes"].items():
                if mode != _REFERENCE and _RATE in rates:
                    ratios[f"evaluation {workload}, {mode}"] = rates[_RATE]
    return ratios


def compared(measured: Ratios, stored: Ratios) -> list[tuple[str, str, float, float | None]]:
    """(machine, name, measured, stored or None) of every measured ratio."""
    return [
        (machine, name, ratio, stored.get(machine, {}).get(name))
        for machine, ratios in measured.items()
        for name, ratio in ratios.items()
    ]


def fell(ratio: float, stored: float | None) -> bool:
    return stored is not None and ratio < _LEAST * stored


def table(measured: Ratios, stored: Ratios) -> str:
    """Markdown, a line a measured ratio."""
    lines = [["machine", "ratio", "stored", "measured", "change"]]
    for machine, name, ratio, earlier in compared(measured, stored):
        change = "not stored" if earlier is None else f"{ratio / earlier - 1:+.0%}"
        fall = ", slower" if fell(ratio, earlier) else ""
        lines.append([machine, name, "" if earlier is None else f"{earlier:.2f}", f"{ratio:.2f}", change + fall])
    return markdown_table(lines, right_from=2)


if __name__ == "__main__":
    run(main)
