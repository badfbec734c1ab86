#!/usr/bin/env python3
"""Measure how fast a training step is with plain, grouped and packed batches of the same rows of mixed lengths.

    python scripts/benchmark/training.py
    python scripts/benchmark/training.py --rounds 9 --output eva_results/training_speed.json
    python scripts/benchmark/training.py --modes packed --real_command   # beside run-finetuning.py itself
    python scripts/benchmark/training.py --size 2b --kind full lora      # on a GPU; nothing is downloaded

plain: rows in shuffled order, padded to the longest of their batch, as a default Trainer does. grouped: the rows of an
optimiser step sorted by length (leap's default). packed: rows end to end in one sequence (--packing). All modes see the
same rows, as many tokens of rows a forward pass on average, and one model, in turns; medians over rounds.

With --real_command the training script itself then trains on the same rows in the same batches, and what its log says
of its speed stands beside the step's: what loading, checks and bookkeeping cost.

Rows are made up (leap/demo/mixed.py). `tiny` is the model of the demo, on a CPU too; `2b` has the shape of Qwen3-VL-2B
and random weights. Speed is the model's: batches are collated beforehand, and that time is reported apart.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs.config import REPOSITORY
from configs.errors import UserError
from leap.cli import as_plain, knob, parse_knobs, run
from leap.demo.mixed import MIXES, write_mixed_rows
from leap.files import read_json, read_jsonl, write_json
from leap.progress import say
from leap.text import markdown_table, size_text
from leap.training.recipes import LoraRecipe, TrainingRecipe

_LONGEST_S = 1800  # of the real command
_WARM_UP_STEPS = 2  # of the real command, left out
_IMAGE_TOKENS = (1, 1024)  # pictures are drawn in the size that is wanted
_LONGEST_ROW = 4096  # tokens
_BUDGETS = {"tiny": 4096, "2b": 8192}  # tokens a forward pass


@dataclass(frozen=True)
class Options:
    size: str = knob("tiny", "the model: the demo's, or the shape of Qwen3-VL-2B", choices=tuple(MIXES))
    kind: list[str] = knob(["full"], "what trains", choices=("full", "lora"))
    modes: list[str] = knob(
        ["plain", "grouped", "packed"], "batches to measure", choices=("plain", "grouped", "packed")
    )
    real_command: bool = knob(False, "measure the training script itself too, in the modes it has (not plain)")
    rows: int = knob(144, "rows of a pass", check="> 0")
    rounds: int = knob(3, "measured rounds, in each of which every mode passes over all rows once", check="> 0")
    tokens: int | None = knob(None, "tokens of a pack (default: 4096 for tiny, 8192 for 2b)", check="> 0")
    batch_size: int | None = knob(None, "rows of a padded batch (default: as a pack holds on average)", check="> 0")
    rows_per_step: int = knob(36, "rows of an optimiser step, about", check="> 0")
    gradient_checkpointing: bool | None = knob(None, "recompute activations (default: where memory is short)")
    torch_compile: bool | None = knob(None, "compile every layer (default: on a GPU)")
    bf16: bool = knob(True, "bfloat16 autocast (CUDA only)")
    pure_bf16: bool = knob(False, "real command: weights in bfloat16 (torchao)")
    attn_implementation: str = knob("sdpa", "attention kernel", choices=("sdpa", "flash_attention_2"))
    device: str = knob("auto", "auto, cpu or cuda:0")
    seed: int = knob(0, "seed of rows, order and weights", check=">= 0")
    output: Path | None = knob(None, "file to write everything measured to (JSON)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    import torch

    from leap.models.loading import pick_device
    from leap.provenance import code_revision, hardware, library_versions, utc_now

    device = pick_device(options.device)
    if options.size == "2b" and device == "cpu" and options.device != "cpu":
        raise UserError("--size 2b is for a GPU and none is here; use --size tiny, or --device cpu for hours of it")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder), device)
    if options.output:
        made_by = {
            "time": utc_now(),
            "code": code_revision(),
            "hardware": hardware() | {"threads": torch.get_num_threads()},
            "library_versions": library_versions(),
        }
        write_json(options.output, {"options": as_plain(options), "device": device, **made_by, **results})
        say(f"written: {options.output}")


def measure(options: Options, folder: Path, device: str) -> dict[str, Any]:
    """Rows, model, batches, rounds; prints as it goes and returns what JSON holds."""
    from leap.models.image_budget import set_pixel_budget
    from leap.models.loading import load_processor
    from leap.training.packing import Packer
    from leap.training.preflight import check_file
    from leap.training.supervision import PlanningCollator
    from leap.training.throughput import collate, plan_modes

    write_mixed_rows(folder / "rows.jsonl", options.rows, MIXES[options.size], options.seed)
    planner = write_planner(folder, options)
    processor = load_processor(planner)
    set_pixel_budget(processor, *_IMAGE_TOKENS)
    padded = PlanningCollator(processor, None, folder)
    packed = PlanningCollator(processor, None, folder, Packer(planner, options.attn_implementation))
    data = check_file(folder / "rows.jsonl", padded, max_length=_LONGEST_ROW)
    say(data.text())

    lengths = [length.total for length in data.lengths]
    budget = options.tokens or _BUDGETS[options.size]
    if max(lengths) > budget:
        raise UserError(f"--tokens {budget} is below the longest row; it must be at least {max(lengths)}")
    plans, per_step = plan_modes(lengths, budget, options.batch_size, options.rows_per_step, options.seed)
    chosen = {name: plan for name, plan in plans.items() if name in options.modes}
    modes = [collate(n, plan, data.rows, packed if n == "packed" else padded) for n, plan in chosen.items()]
    say(
        f"{modes[0].rows} rows of {modes[0].tokens:,} tokens in {len(plans['packed'])} packs of up to {budget:,}, "
        f"and in {len(plans['plain'])} batches of {len(plans['plain'][0])} rows; {per_step} forward passes a step"
    )
    recipes = {kind: fitted(options, kind, planner, device, chosen, data.lengths) for kind in options.kind}
    results = {
        kind: measure_kind(options, recipe, planner, device, modes, per_step) for kind, recipe in recipes.items()
    }
    if options.real_command:
        shape = RealBatches(len(plans["plain"][0]), budget, per_step)
        for kind in options.kind:
            steps = results[kind]["modes"]
            results[kind]["real_command"] = measure_real(options, recipes[kind], planner, device, shape, steps)
    return {
        "row_lengths": [asdict(length) | {"total": length.total} for length in data.lengths],
        "pack_tokens": budget,
        "batch_size": len(plans["plain"][0]),
        "batches_per_step": per_step,
        "results": results,
    }


def write_planner(folder: Path, options: Options) -> Path:
    """Processor and config of the model, its tokenizer trained on the rows; of weights, which are random, a file only
    where the real command reads one."""
    import torch
    from transformers import AutoModelForImageTextToText

    from leap.demo.build import training_texts
    from leap.demo.tiny_planner import build_tiny_planner
    from leap.training.accounting import sized_config

    planner = folder / "planner"
    build_tiny_planner(planner, training_texts(folder / "rows.jsonl"), options.seed)
    if options.size != "tiny":
        config = sized_config(options.size, planner)
        config.save_pretrained(planner)
        if options.real_command:
            with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
                AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).save_pretrained(planner)
    return planner


def fitted(
    options: Options, kind: str, planner: Path, device: str, plans: dict[str, list[list[int]]], lengths: list[Any]
) -> TrainingRecipe:
    """The recipe of a kind of training with what the options leave open decided as a run decides it."""
    from leap.training.accounting import Geometry
    from leap.training.resources import fitted_to_gpu, gpu_bytes, largest_step

    on_gpu = device.startswith("cuda")
    recipe = LoraRecipe() if kind == "lora" else TrainingRecipe()
    recipe = replace(
        recipe,
        gradient_checkpointing=options.gradient_checkpointing,
        torch_compile=on_gpu if options.torch_compile is None else options.torch_compile,
        bf16=options.bf16 and on_gpu,
    )
    if recipe.gradient_checkpointing is not None:
        return recipe
    if options.size != "2b":
        return replace(recipe, gradient_checkpointing=False)
    capacity = gpu_bytes() if on_gpu else 0
    geometry = Geometry.from_folder(planner)
    ways = [
        fitted_to_gpu(way, geometry, largest_step(geometry, way, plans[mode], lengths), capacity, precision=False)[0]
        for mode in plans
        for way in [replace(recipe, packing=mode == "packed")]
    ]
    return replace(recipe, gradient_checkpointing=any(way.gradient_checkpointing for way in ways))


def measure_kind(
    options: Options, recipe: TrainingRecipe, planner: Path, device: str, modes: list[Any], per_step: int
) -> dict[str, Any]:
    """Train one kind of model in all modes; prints the table and returns the results of the modes."""
    import torch

    from leap.training.accounting import Geometry, peak_flops
    from leap.training.throughput import Bench, flops_of_pass

    on_gpu = device.startswith("cuda")
    flops = flops_of_pass(modes, Geometry.from_folder(planner), recipe)
    say(
        f"{options.size}, {kind_of(recipe)}, {'bf16' if recipe.bf16 else 'float32'}, gradient checkpointing "
        f"{recipe.gradient_checkpointing}, compiled {recipe.torch_compile}:"
    )
    say(
        f"  vision tower and mergers are {(flops.vision + flops.merger) / flops.total:.0%} of the model FLOPs, in "
        "whatever order rows come"
    )
    fresh = [replace(mode, loss_sum=None, seconds=[], peak_memory_bytes=None, out_of_memory=False) for mode in modes]
    bench = Bench(build_model(planner, recipe, device, options), fresh, per_step, recipe)
    bench.run(options.rounds)

    peak = peak_flops(torch.cuda.get_device_name(device), recipe.bf16) if on_gpu else None
    results = [mode.result(fresh[0], flops.total, peak and peak.flops) for mode in fresh]
    say(table(results, "all" if on_gpu else "growth"))
    return {"recipe": as_plain(recipe), "model_flops_of_pass": asdict(flops), "modes": results}


def kind_of(recipe: TrainingRecipe) -> str:
    return "lora" if isinstance(recipe, LoraRecipe) else "full"


def build_model(planner: Path, recipe: TrainingRecipe, device: str, options: Options) -> Any:
    """Random weights on the device, in the precision that training holds them in."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from leap.models.attention import kernel_for_packs
    from leap.models.loading import use_fast_parts
    from leap.training.adapters import attach
    from leap.training.compiling import compile_layers

    adapter = isinstance(recipe, LoraRecipe)
    # Without sample_borders, which only packs have, it is plain SDPA.
    attention = kernel_for_packs(options.attn_implementation)
    dtype = torch.bfloat16 if adapter and recipe.bf16 else torch.float32
    torch.manual_seed(options.seed)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(planner, trust_remote_code=False), dtype=dtype, attn_implementation=attention
        )
        use_fast_parts(model)
        if adapter:
            model = attach(model, recipe)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if recipe.torch_compile:
        compile_layers(model)
    return model


@dataclass(frozen=True)
class RealBatches:
    """What the real command is told of batches."""

    batch_size: int
    pack_tokens: int
    batches_per_step: int


def measure_real(
    options: Options,
    recipe: TrainingRecipe,
    planner: Path,
    device: str,
    shape: RealBatches,
    steps: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Run the training script in every measured mode that it has; prints a table and returns what JSON holds. `steps`
    are the results of the bare step."""
    measured, kind = [], kind_of(recipe)
    for step in steps:
        if step["mode"] != "plain":
            say(f"{options.size}, {kind}, {step['mode']}: the real command")
            rates = real_rates(options, recipe, planner, device, shape, step["mode"])
            measured.append(rates | {"share_of_step": rates["tokens_per_second"] / step["tokens_per_second"]})
    head = ["real command", "tokens/s", "of the bare step's", "waiting for data", "MFU", "peak memory", "estimated"]
    lines = [
        [
            f"{kind}, {rates['mode']}",
            f"{rates['tokens_per_second']:,.0f}",
            f"{rates['share_of_step']:.0%}",
            f"{rates['data_wait_share']:.1%}",
            f"{rates['mfu']:.1%}" if rates["mfu"] else "",
            size_text(rates["peak_memory_bytes"]),
            rates["estimated"] or "",
        ]
        for rates in measured
    ]
    say(markdown_table([head, *lines], right_from=1))
    return measured


def real_rates(
    options: Options, recipe: TrainingRecipe, planner: Path, device: str, shape: RealBatches, mode: str
) -> dict[str, Any]:
    """What the log of the training script says of its speed, medians over the steps after the first ones. UserError
    with the end of its output if it fails."""
    kind = kind_of(recipe)
    workspace = planner.parent / f"real-{kind}-{mode}"
    output = workspace / "output" / "run"
    on_gpu = device.startswith("cuda")
    flags: dict[str, Any] = {
        "--model_name_or_path": planner,
        "--train_file": planner.parent / "rows.jsonl",
        "--output_dir": output,
        "--image_tokens_min": _IMAGE_TOKENS[0],
        "--image_tokens_max": _IMAGE_TOKENS[1],
        "--model_max_length": min(_LONGEST_ROW, shape.pack_tokens),
        "--gradient_accumulation_steps": shape.batches_per_step,
        "--num_train_epochs": options.rounds + 1,
        "--warmup_steps": 1,
        "--logging_steps": 1,
        "--save_steps": 100_000,
        "--dataloader_num_workers": 4 if on_gpu else 0,
        "--attn_implementation": options.attn_implementation,
        "--report_to": "none",
        "--seed": options.seed,
    }
    if mode == "packed":
        flags |= {"--packing": None, "--packing_tokens": shape.pack_tokens}
    else:
        flags |= {"--per_device_train_batch_size": shape.batch_size}
    flags[f"--{'' if recipe.gradient_checkpointing else 'no-'}gradient_checkpointing"] = None
    flags[f"--{'' if recipe.torch_compile else 'no-'}torch_compile"] = None
    flags[f"--{'' if options.bf16 else 'no-'}bf16"] = None
    if options.pure_bf16 and kind == "full":
        flags["--pure_bf16"] = None
    script = {"full": "training/run-finetuning.py", "lora": "ablation/run-lora-finetuning.py"}[kind]
    parts = [str(part) for flag, value in flags.items() for part in ([flag] if value is None else [flag, value])]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / script), *parts],
        env=os.environ | {"LEAP_WORKSPACE": str(workspace)} | ({} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}),
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
    )
    if done.returncode:
        raise UserError(f"{script} failed with status {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    log = [line for line in read_jsonl(workspace / "logs" / "run" / "train.jsonl") if "tokens_per_second" in line]
    warm = log[_WARM_UP_STEPS:] or log
    estimated = re.search(r"estimated GPU memory of the largest step .*?: ([\d.]+ GB)", done.stdout)
    medians = {
        name: statistics.median(line[name] for line in warm) if name in warm[0] else None
        for name in ("tokens_per_second", "data_wait_share", "mfu")
    }
    peak = read_json(output / "run.json")["peak_memory_bytes"]
    shutil.rmtree(workspace)  # its checkpoint has gigabytes
    return {"mode": mode, **medians, "peak_memory_bytes": peak, "estimated": estimated and estimated[1], "log": log}


def table(results: list[dict[str, Any]], memory: str) -> str:
    """Markdown, a line a mode."""
    lines = [
        f"| batches | x plain | samples/s | tokens/s | supervised tokens/s | padding | peak memory ({memory}) | MFU |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        peak, mfu = result["peak_memory_bytes"], result["mfu"]
        cells = [
            result["mode"],
            *(["out of memory"] + [""] * 3 if result["out_of_memory"] else _rates(result)),
            f"{result['padding_share']:.1%}",
            f"{peak / 2**20:,.0f} MiB" if peak else "",
            f"{mfu:.1%}" if mfu else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rates(result: dict[str, Any]) -> list[str]:
    ratio = result["times_plain"]
    names = ("samples_per_second", "tokens_per_second", "supervised_tokens_per_second")
    return [f"{ratio:.2f}" if ratio else "", *(f"{result[n]:,.{1 if n.startswith('sam') else 0}f}" for n in names)]


if __name__ == "__main__":
    run(main)
