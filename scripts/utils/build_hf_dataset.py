#!/usr/bin/env python3
"""Build the benchmark in Hugging Face datasets form, for other harnesses such as lmms-eval.

    python scripts/utils/build_hf_dataset.py
    python scripts/utils/build_hf_dataset.py --data_path dataset/vlm_evaluation_v1.0 --dimension Spatial --language zh

Writes <dimension>/test.parquet and a README.md to dataset/vlabench_hf (or --output_dir), prompts included.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig, dimensions_named
from leap.cli import knob, parse_knobs, run
from leap.progress import say
from leap.text import plural, size_text
from leap.vlabench.examples import find_examples
from leap.vlabench.prompts import LANGUAGES, STYLES, PromptWriter


@dataclass(frozen=True)
class Options:
    data_path: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the benchmark")
    dimension: list[str] = knob(["all"], "dimensions to take, or all")
    output_dir: Path = knob(Path("dataset/vlabench_hf"), "folder to write to")
    prompt: str = knob("auto", "wording: VLABench's own, ours, or its own if the submodule is there", choices=STYLES)
    language: str = knob("en", "language of the prompt", choices=LANGUAGES)
    with_cot: bool = knob(False, "ask for a chain of thought before the plan")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    workspace.require(options.data_path, "benchmark")
    benchmark = find_examples(options.data_path, dimensions_named(options.dimension))
    writer = PromptWriter(workspace, options.prompt, options.language, with_cot=options.with_cot)

    from leap.publish.benchmark_dataset import write_benchmark

    for dimension, path in write_benchmark(options.output_dir, benchmark, writer).items():
        say(f"{path}: {plural(len(benchmark[dimension]), 'example')}, {size_text(path.stat().st_size)}")
    folder = shlex.quote(str(options.output_dir))
    say(f"with lmms-eval: integrations/lmms_eval/README.md (dataset_path: {folder})")
    say(f"to the Hub: hf upload me/vlabench {folder} --repo-type dataset")


if __name__ == "__main__":
    run(main)
