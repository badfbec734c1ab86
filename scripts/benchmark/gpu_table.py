#!/usr/bin/env python3
"""The table of what scripts/benchmark/gpu.sh measured; or whether two folders of results hold the same answers.

python scripts/benchmark/gpu_table.py --results eva_results/gpu
python scripts/benchmark/gpu_table.py --same_scores eva_results_cpu eva_results_gpu
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.files import read_json
from leap.text import markdown_table, size_text
from leap.vlabench.folder import ResultFolder, Summary

_TRAININGS = ("packed", "padded", "pure_bf16", "lora")


@dataclass(frozen=True)
class Options:
    results: Path | None = knob(None, "folder that gpu.sh wrote")
    same_scores: list[Path] = knob([], "two folders of results to compare")


def main() -> int | None:
    options = parse_knobs(Options, None, __doc__)
    if options.same_scores:
        if len(options.same_scores) != 2:
            raise UserError("--same_scores compares two folders")
        return None if same_scores(*options.same_scores) else 1
    if options.results is None or not options.results.is_dir():
        raise UserError("name the folder that gpu.sh wrote with --results")
    lines = [["measured", "value"], *made_by(options.results), *measured(options.results)]
    if len(lines) == 1:
        raise UserError(f"{options.results} holds no results of gpu.sh")
    print(markdown_table(lines))
    return None


def made_by(folder: Path) -> list[list[str]]:
    """Machine, versions and date of the first result there is."""
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        if "hardware" in content:
            versions = content.get("versions") or content.get("library_versions") or {}
            names = [name for name in ("torch", "transformers") if name in versions]
            named_versions = ", ".join(f"{name} {versions[name]}" for name in names)
            hardware = ", ".join(f"{name} {value}" for name, value in content["hardware"].items())
            return [["machine", hardware], ["versions", named_versions], ["date", content["time"]]]
    return []


def measured(folder: Path) -> list[list[str]]:
    """A line a measured thing; what was not measured has none."""
    lines = []
    for name in _TRAININGS:
        results = _result(folder / f"{name}.json").get("results", {})
        for kind, result in results.items():
            for rates in result.get("real_command", []):
                mfu = f", MFU {rates['mfu']:.1%}" if rates["mfu"] else ""
                memory = f", peak {size_text(rates['peak_memory_bytes'])} (estimated {rates['estimated']})"
                wait = f", {rates['data_wait_share']:.1%} waiting for data"
                label = f"real command, {kind}, {name}"
                lines.append([label, f"{rates['tokens_per_second']:,.0f} tokens/s{mfu}{memory}{wait}"])
                lines.append([f"{label}, of the bare step's speed", f"{rates['share_of_step']:.0%}"])
    for workload, result in _result(folder / "evaluation.json").items():
        if isinstance(result, dict) and "modes" in result:
            for mode, rates in result["modes"].items():
                lines.append([f"evaluation {workload}, {mode}", f"{rates['examples_per_second']:.2f} examples/s"])
    for name, ratio in _result(folder / "trl.json").get("ratios", {}).items():
        lines.append([name, f"{ratio:.2f}"])
    for name in ("resume", "scores"):
        log = folder / f"{name}.log"
        if log.is_file():
            lines.append([name, log.read_text().strip().splitlines()[-1]])
    return lines


def same_scores(first: Path, second: Path) -> bool:
    """Print how many answers, and which means, two evaluations share; whether they are the same."""
    equal = True
    for path in sorted(first.glob("*/*/")):
        results = [ResultFolder(root / path.relative_to(first)) for root in (first, second)]
        if results[0].summary is None or results[1].summary is None:
            raise UserError(f"{path} or its counterpart in {second} has no summary")
        answers, others = (folder.answers for folder in results)
        same = sum(key in others and others[key].text == answer.text for key, answer in answers.items())
        means = [_means(folder.summary) for folder in results]
        equal &= means[0] == means[1]
        differ = [
            f"{name} {mean} and {means[1].get(name)}" for name, mean in means[0].items() if means[1].get(name) != mean
        ]
        text = f"other means: {', '.join(differ)}" if differ else f"all {len(means[0])} means equal"
        print(f"{path.relative_to(first)}: {same} of {len(answers)} answers equal, {text}")
    return equal


def _means(summary: Summary | None) -> dict[str, float]:
    assert summary is not None
    return {
        f"{scorer}.{metric}": round(estimate.mean, 2)
        for scorer, metrics in summary.scores.items()
        for metric, estimate in metrics.items()
        if estimate.mean is not None
    }


def _result(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


if __name__ == "__main__":
    run(main)
