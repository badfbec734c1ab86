#!/usr/bin/env python3
"""Serve a model by `transformers serve`, an OpenAI-compatible endpoint, with its own processor and greedy decoding.

    python scripts/evaluation/serve.py --checkpoint output/checkpoint-200
    python scripts/evaluation/serve.py --checkpoint output/lora_standard/checkpoint-200 --port 8001
    python scripts/evaluation/serve.py --image_tokens_min 256 --image_tokens_max 768         # the base model

Prints how to ask it once it answers. An adapter is merged into its base first, once, as merge_adapter.py does. It
listens on this machine only unless --host says otherwise; whoever reaches it may ask. Needs pip install -e ".[serve]".
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.models.checkpoints import kind_of, merged_folder, read_manifest
from leap.models.loading import pick_device
from leap.planning.options import PlanningOptions
from leap.planning.photos import planning_models
from leap.planning.serving import how_to_ask, require_free_port, require_packages, write_served_folder
from leap.progress import say


@dataclass(frozen=True)
class Options:
    checkpoint: Path | None = knob(
        None, "folder of the model, full or adapter; none means the base model", flags=("--model_path",)
    )
    base_model: Path | None = knob(None, "the base model, also an adapter's (default: models/Qwen3-VL-2B-Instruct)")
    image_tokens_min: int | None = knob(None, "fewest visual tokens a picture (default: the processor's)", check="> 0")
    image_tokens_max: int | None = knob(None, "most visual tokens a picture (default: the processor's)", check="> 0")
    max_new_tokens: int = knob(512, "longest answer in tokens where a request names none", check="> 0")
    device: str = knob("auto", "auto, cpu or cuda:0")
    host: str = knob("127.0.0.1", "address to listen at")
    port: int = knob(8000, "port to listen at", check="> 0")


def main(argv: list[str] | None = None) -> int:
    options = parse_knobs(Options, argv, __doc__)
    require_packages()
    require_free_port(options.host, options.port)
    image_tokens = (options.image_tokens_min, options.image_tokens_max)
    [model] = planning_models(
        PlanningOptions(
            checkpoint=[options.checkpoint] if options.checkpoint else [],
            base_model=options.base_model,
            image_tokens_min=options.image_tokens_min,
            image_tokens_max=options.image_tokens_max,
        )
    )
    device = pick_device(options.device)
    folder = merged(model.folder, options.base_model) if kind_of(model.folder) == "adapter" else model.folder
    with tempfile.TemporaryDirectory(prefix="leap-serve-") as home:
        write_served_folder(
            folder, Path(home) / model.name, image_tokens if all(image_tokens) else None, options.max_new_tokens
        )
        os.chdir(home)  # requests name the model by the path that the server was given: its name alone
        serve(model.name, device, options)
    return 0


def merged(adapter: Path, base_model: Path | None) -> Path:
    """The full model that an adapter makes, beside it. UserError if another one lies there."""
    from leap.training.adapters import merge

    folder = merged_folder(adapter)
    manifest = read_manifest(adapter)
    if not folder.exists():
        say(f"merging the adapter into its base: {folder}")
        merge(adapter, folder, base_model)
        return folder
    whole = read_manifest(folder)
    if manifest is None or whole is None or replace(whole, kind="adapter", files=manifest.files) != manifest:
        raise UserError(
            f"{folder} is not known to be {adapter} merged; remove it, or serve it as --checkpoint {folder}"
        )
    return folder


def serve(name: str, device: str, options: Options) -> None:
    """Serve the folder `name` of the current directory until Ctrl-C."""
    from transformers.cli.serve import Serve

    say(f"loading {name}")
    threading.Thread(target=announce, args=(name, options), daemon=True).start()
    dtype = "bfloat16" if device.startswith("cuda") else "float32"
    try:
        Serve(name, host=options.host, port=options.port, device=device, dtype=dtype)
    except KeyboardInterrupt:
        say(f"{name} is served no more")


def announce(name: str, options: Options) -> None:
    """Print how to ask the server as soon as it answers."""
    while True:
        try:
            with urllib.request.urlopen(f"http://{options.host}:{options.port}/health", timeout=5):
                break
        except OSError:
            time.sleep(0.2)
    say(how_to_ask(options.host, options.port, name))


if __name__ == "__main__":
    run(main)
