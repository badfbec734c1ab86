#!/usr/bin/env python3
"""Measure training beside TRL's SFTTrainer: the real commands of both, on the same rows, pictures and model.

    pip install -r scripts/benchmark/requirements.txt
    python scripts/benchmark/against_trl.py
    python scripts/benchmark/against_trl.py --repeats 5 --output eva_results/against_trl.json
    python scripts/benchmark/against_trl.py --size 2b --rows 288          # on a GPU; nothing is downloaded

Compared are `run-finetuning.py` with default batches, the same with --packing, and `python -m trl.scripts.sft`. All see
the same picture budget, precision, rows a step and optimiser, and train every token of the plans. Each command runs
twice, for few epochs and for more; the difference, divided by the epochs between, is what an epoch takes without
imports, checks and saving. On a CPU that is CPU-seconds of one thread, on a GPU seconds. The commands take turns; a
ratio is the median over repeats of TRL's time over ours in the same repeat. Where the tokens of an epoch differ by over
1 % there is nothing to compare, and the run ends with an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.config import REPOSITORY
from configs.errors import UserError
from leap.cli import as_plain, knob, parse_knobs, run
from leap.demo.mixed import MIXES, write_mixed_rows
from leap.files import read_json, write_json
from leap.progress import say
from leap.text import markdown_table

_IMAGE_TOKENS = (1, 1024)  # pictures are drawn in the size that is wanted
_LONGEST_S = 3600  # of one command
_FEW, _MORE = 1, 4  # epochs of the two runs
_LONGEST_ROW = 4096  # tokens, for both; none is that long
_MOST_DIFFERENCE = 0.01  # of the tokens of an epoch
_PACK_TOKENS = {"tiny": 4096, "2b": 8192}
_PEER = "TRL"


@dataclass(frozen=True)
class Options:
    size: str = knob("tiny", "the model: the demo's, or the shape of Qwen3-VL-2B", choices=tuple(MIXES))
    rows: int = knob(144, "rows of an epoch", check="> 0")
    repeats: int = knob(3, "how often every command is measured", check="> 0")
    batch_size: int = knob(6, "rows of a padded batch", check="> 0")
    rows_per_step: int = knob(36, "rows of an optimiser step", check="> 0")
    seed: int = knob(0, "seed of rows, order and weights", check=">= 0")
    output: Path | None = knob(None, "file to write everything measured to (JSON)")


@dataclass(frozen=True)
class Spent:
    """What a command took, and the tokens that it says it trained on."""

    seconds: float
    tokens: float


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if importlib.util.find_spec("trl") is None:
        raise UserError("TRL is not installed: pip install -r scripts/benchmark/requirements.txt")

    import torch

    on_gpu = torch.cuda.is_available()
    if options.size == "2b" and not on_gpu:
        raise UserError("--size 2b is for a GPU and none is here; use --size tiny")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder), on_gpu)
    if options.output:
        from leap.provenance import code_revision, hardware, library_versions, utc_now

        made_by = {"time": utc_now(), "code": code_revision(), "hardware": hardware(), "versions": library_versions()}
        peers = {"trl": importlib.metadata.version("trl")}
        write_json(options.output, {"options": as_plain(options), **made_by, "peers": peers, **results})
        say(f"written: {options.output}")


def measure(options: Options, folder: Path, on_gpu: bool) -> dict[str, Any]:
    """Every command `repeats` times in turns; prints the table and returns what JSON holds."""
    planner, row_tokens = prepare(options, folder)
    commands = {
        _PEER: trl_command(options, folder, planner, on_gpu),
        "LEAP": leap_command(options, folder, planner, row_tokens),
        "LEAP --packing": leap_command(options, folder, planner, row_tokens, packing=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    tokens: dict[str, float] = {}
    for number in range(options.repeats):
        for name, command in commands.items():
            few, more = (spent_by(name, command, folder, epochs, on_gpu) for epochs in (_FEW, _MORE))
            seconds[name].append((more.seconds - few.seconds) / (_MORE - _FEW))
            tokens[name] = (more.tokens - few.tokens) / (_MORE - _FEW)
            say(f"repeat {number + 1} of {options.repeats}: {name:16} {seconds[name][-1]:.2f} s an epoch")
        refuse_other_work(tokens)
    ratios = {
        name: [peer / ours for peer, ours in zip(seconds[_PEER], spent, strict=True)] for name, spent in seconds.items()
    }
    say(table(seconds, tokens, ratios, "s" if on_gpu else "CPU-s"))
    medians = {f"training, {name} over {_PEER}": statistics.median(r) for name, r in ratios.items() if name != _PEER}
    return {"seconds_an_epoch": seconds, "tokens_an_epoch": tokens, "ratios": medians}


def prepare(options: Options, folder: Path) -> tuple[Path, float]:
    """Rows in both forms; the folder of the model, whose processor holds the picture budget for both, and the tokens of
    a row on average."""
    import torch
    from datasets import Dataset, Image
    from datasets import Sequence as Sequences
    from transformers import AutoModelForImageTextToText

    from leap.demo.build import training_texts
    from leap.demo.tiny_planner import build_tiny_planner
    from leap.models.image_budget import set_pixel_budget
    from leap.models.loading import load_processor
    from leap.training.accounting import sized_config
    from leap.training.preflight import check_file
    from leap.training.supervision import PlanningCollator

    file, planner = folder / "rows.jsonl", folder / "planner"
    write_mixed_rows(file, options.rows, MIXES[options.size], options.seed)
    build_tiny_planner(planner, training_texts(file), options.seed)
    if options.size != "tiny":
        config = sized_config(options.size, planner)
        torch.manual_seed(options.seed)
        with torch.device("cuda"):
            AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).save_pretrained(planner)
    processor = load_processor(planner)
    set_pixel_budget(processor, *_IMAGE_TOKENS)
    processor.save_pretrained(planner)

    rows = [conversation(json.loads(line), folder) for line in file.read_text().splitlines()]
    dataset = Dataset.from_list(rows).cast_column("images", Sequences(Image()))
    (folder / "peer").mkdir()
    dataset.to_parquet(str(folder / "peer" / "train.parquet"))
    checked = check_file(file, PlanningCollator(processor, None, folder), max_length=_LONGEST_ROW)
    return planner, statistics.mean(length.total for length in checked.lengths)


def conversation(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A row as TRL reads it: prompt, completion and pictures apart."""
    items = record["messages"][0]["content"]
    words = "\n".join(item["text"] for item in items if item["type"] == "text")
    return {
        "prompt": [{"role": "user", "content": words}],
        "completion": [{"role": "assistant", "content": record["target"]["steps"]}],
        "images": [str(folder / item["image"]) for item in items if item["type"] == "image"],
    }


def leap_command(
    options: Options, folder: Path, planner: Path, row_tokens: float, *, packing: bool = False
) -> list[str]:
    """Our command without output folder and epochs; `row_tokens` are those of a row on average."""
    accumulation = max(1, options.rows_per_step // options.batch_size)
    batches: list[Any] = ["--per_device_train_batch_size", options.batch_size]
    if packing:
        batches = ["--packing", "--packing_tokens", _PACK_TOKENS[options.size]]
        accumulation = max(1, round(options.rows_per_step * row_tokens / _PACK_TOKENS[options.size]))
    knobs = {
        "--model_name_or_path": planner,
        "--train_file": folder / "rows.jsonl",
        "--image_tokens_min": _IMAGE_TOKENS[0],
        "--image_tokens_max": _IMAGE_TOKENS[1],
        "--gradient_accumulation_steps": accumulation,
        "--warmup_steps": 0,
        "--logging_steps": 1000,
        "--save_steps": 100_000,
        "--dataloader_num_workers": 4 if options.size == "2b" else 0,
        "--report_to": "none",
        "--seed": options.seed,
    }
    if options.size == "tiny":
        knobs["--no-gradient_checkpointing"] = None
    script = REPOSITORY / "scripts" / "training" / "run-finetuning.py"
    return [sys.executable, str(script), *map(str, batches), *_flags(knobs)]


def trl_command(options: Options, folder: Path, planner: Path, on_gpu: bool) -> list[str]:
    knobs = {
        "--model_name_or_path": planner,
        "--dataset_name": folder / "peer",
        "--per_device_train_batch_size": options.batch_size,
        "--gradient_accumulation_steps": options.rows_per_step // options.batch_size,
        "--learning_rate": 1.5e-5,
        "--max_length": _LONGEST_ROW,
        "--dtype": "float32",
        "--attn_implementation": "sdpa",
        "--bf16": on_gpu,
        "--use_cpu": not on_gpu,
        "--gradient_checkpointing": options.size == "2b",
        "--dataloader_num_workers": 4 if options.size == "2b" else 0,
        "--save_strategy": "no",
        "--report_to": "none",
        "--disable_tqdm": True,
        "--seed": options.seed,
    }
    return [sys.executable, "-m", "trl.scripts.sft", *_flags(knobs)]


def _flags(knobs: dict[str, Any]) -> list[str]:
    return [str(part) for name, value in knobs.items() for part in ([name] if value is None else [name, value])]


def spent_by(name: str, command: Sequence[str], folder: Path, epochs: int, on_gpu: bool) -> Spent:
    """Run a command for `epochs` in a folder of its own. UserError with the end of its output if it fails."""
    run_folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    output = run_folder / "output"
    steps = epochs * -(-len((folder / "rows.jsonl").read_text().splitlines()) // Options.rows_per_step)
    ends = _flags({"--output_dir": output, "--num_train_epochs": epochs})
    if name == _PEER:
        ends += _flags({"--logging_steps": steps})  # a line at the end
    environment = os.environ | {
        "LEAP_WORKSPACE": str(run_folder),
        "TOKENIZERS_PARALLELISM": "false",
        **({} if on_gpu else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")),
    }
    started, cpu_before = time.perf_counter(), _children_cpu_s()
    done = subprocess.run(
        [*command, *ends], env=environment, cwd=run_folder, capture_output=True, text=True, timeout=_LONGEST_S
    )
    seconds = time.perf_counter() - started if on_gpu else _children_cpu_s() - cpu_before
    if done.returncode:
        raise UserError(f"{name} failed with status {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    if name == _PEER:
        tokens = float(re.findall(r"'num_tokens': '?([\d.e+]+)", done.stdout)[-1])
    else:
        tokens = read_json(output / "run.json")["tokens_seen"]
    return Spent(seconds, tokens)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def refuse_other_work(tokens: dict[str, float]) -> None:
    """UserError if a command trains on other tokens than TRL does."""
    for name, count in tokens.items():
        if abs(count / tokens[_PEER] - 1) > _MOST_DIFFERENCE:
            raise UserError(
                f"{name} trains on {count:,.0f} tokens an epoch and {_PEER} on {tokens[_PEER]:,.0f}: that cannot be "
                "compared"
            )


def table(seconds: dict[str, list[float]], tokens: dict[str, float], ratios: dict[str, list[float]], unit: str) -> str:
    """Markdown, a line a command: medians, and the range over repeats."""
    lines = [["command", "tokens an epoch", f"{unit} an epoch", f"times as fast as {_PEER}"]]
    for name, spent in seconds.items():
        ratio = f"{statistics.median(ratios[name]):.2f} ({min(ratios[name]):.2f} to {max(ratios[name]):.2f})"
        lines.append([name, f"{tokens[name]:,.0f}", f"{statistics.median(spent):.2f}", "" if name == _PEER else ratio])
    return markdown_table(lines, right_from=1)


if __name__ == "__main__":
    run(main)
