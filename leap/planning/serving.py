"""A model's folder as `transformers serve` should have it.

That server takes processor and decoding from the folder it is given. So it is given one of links to the weights, with
the processor that an evaluation would use (an adapter's base may lend it, a picture budget may be set) and greedy
decoding that ends where an evaluation's does: who asks without parameters gets the answers of an evaluation.
"""

from __future__ import annotations

import importlib.util
import json
import socket
from pathlib import Path

from configs.config import runnable
from configs.errors import UserError
from leap.models.checkpoints import weight_files
from leap.models.image_budget import set_pixel_budget
from leap.models.loading import generation_settings, load_processor

_PACKAGES = ("fastapi", "uvicorn")
_QUESTION = "Put the cup on the shelf"


def require_packages() -> None:
    """UserError that names the extra if the packages for serving are not installed."""
    if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
        raise UserError(f'serving needs {" and ".join(_PACKAGES)}: pip install -e ".[serve]"')


def require_free_port(host: str, port: int) -> None:
    """UserError if nothing can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen at {host}:{port} ({error.strerror}); name another --port") from error


def write_served_folder(model: Path, folder: Path, image_tokens: tuple[int, int] | None, max_new_tokens: int) -> None:
    """Make `folder` one that `transformers serve` serves as an evaluation asks the full `model`. `image_tokens` bounds
    the visual tokens of a picture."""
    from transformers import GenerationConfig

    from leap.models.generation import end_tokens

    processor = load_processor(model)
    if image_tokens:
        set_pixel_budget(processor, *image_tokens)
    settings = generation_settings(model)
    folder.mkdir(parents=True)
    for path in [*weight_files(model), *model.glob("*.index.json"), model / "config.json"]:
        (folder / path.name).symlink_to(path.resolve())
    processor.save_pretrained(folder)
    GenerationConfig(
        do_sample=False,
        eos_token_id=end_tokens(settings, processor.tokenizer),
        pad_token_id=settings.pad_token_id,
        max_new_tokens=max_new_tokens,
    ).save_pretrained(folder)


def how_to_ask(host: str, port: int, name: str) -> str:
    """Commands that ask a served model, to paste."""
    address = f"http://{host}:{port}/v1"
    flags = f"--planner openai --base_url {address} --model {name}"
    picture = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,'$(base64 -w0 photo.jpg)'"}}
    content = [picture, {"type": "text", "text": f"Task name: {_QUESTION}."}]
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": content}]})
    lines = "\n".join(
        [
            f"serving {name} at {address}; Ctrl-C ends it. Ask it, from another terminal:",
            "",
            f'  python scripts/evaluation/plan.py {flags} --image photo.jpg "{_QUESTION}"',
            f"  python scripts/evaluation/run_vlm_evaluation.py {flags} --dimension all",
            f"  echo '{body}' \\",
            f'    | curl {address}/chat/completions -H "Content-Type: application/json" -d @-',
        ]
    )
    return runnable(lines)
