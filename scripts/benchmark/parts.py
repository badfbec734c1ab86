#!/usr/bin/env python3
"""Time the parts of a training step of the 2B shape alone: where the milliseconds of a step go.

    python scripts/benchmark/parts.py --output eva_results/gpu/parts.json    # under a minute on a GPU
    python scripts/benchmark/parts.py --small                                # a few rows and one layer, on a CPU too

Patch embedding as convolution and as product, a layer of text and a block of vision under autocast and in bfloat16,
attention within rows by a loop and by the variable-length kernel, the optimiser. Random weights; nothing is downloaded.
A part that fails is noted with its error, the others go on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import configs  # noqa: F401  says what is missing where the environment is not active
from leap.cli import knob, parse_knobs, run
from leap.files import write_json
from leap.progress import say
from leap.text import markdown_table


@dataclass(frozen=True)
class Options:
    small: bool = knob(False, "two rows and narrow layers instead of a pack of 8,192 tokens")
    repeats: int = knob(5, "times a part is measured", check="> 0")
    device: str = knob("auto", "auto, cpu or cuda:0")
    output: Path | None = knob(None, "file to write everything measured to (JSON)")


@dataclass(frozen=True)
class Sizes:
    """A pack: rows alike, with two pictures each."""

    rows: int
    visual: int  # tokens a row
    text: int

    @property
    def row_tokens(self) -> int:
        return self.visual + self.text

    @property
    def tokens(self) -> int:
        return self.rows * self.row_tokens

    @property
    def patches(self) -> int:
        return self.rows * self.visual * 4  # a merged token is 2 x 2 patches


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    import torch

    from leap.models.loading import pick_device
    from leap.provenance import hardware, library_versions, utc_now

    device = pick_device(options.device)
    sizes = Sizes(2, 16, 8) if options.small else Sizes(12, 500, 180)
    say(
        f"{sizes.tokens} tokens in {sizes.rows} rows, {sizes.patches} patches in {sizes.rows * 2} pictures, on {device}"
    )
    milliseconds: dict[str, float | str] = {}

    def measure(name: str, work: Callable[[], Any]) -> None:
        say(f"  {name}")
        try:
            milliseconds[name] = median_ms(work, options.repeats, device)
        except Exception as error:  # whatever a kernel raises; the other parts are still worth knowing
            milliseconds[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"

    torch.manual_seed(0)
    with torch.device(device):
        for name, work in [
            *launches(),
            *patch_embedding(sizes),
            *layers(sizes, options),
            *attention_in_rows(sizes),
            *optimiser(options),
        ]:
            measure(name, work)
    lines = [[name, f"{value:.2f}" if isinstance(value, float) else value] for name, value in milliseconds.items()]
    say(markdown_table([["part", "ms"], *lines], right_from=1))
    if options.output:
        made_by = {"time": utc_now(), "hardware": hardware(), "versions": library_versions()}
        write_json(options.output, {**made_by, "device": device, "milliseconds": milliseconds})


def median_ms(work: Callable[[], Any], repeats: int, device: str) -> float:
    import torch

    def finish() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    work()
    finish()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        finish()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


Part = tuple[str, Callable[[], Any]]


def launches() -> list[Part]:
    import torch

    numbers = torch.zeros(1000)
    return [("1,000 launches of a tiny kernel", lambda: [numbers.add_(1) for _ in range(1000)])]


def patch_embedding(sizes: Sizes) -> list[Part]:
    import torch
    from torch import nn

    from leap.models.patch_embedding import embed_patches_by_product

    on_gpu = torch.get_default_device().type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32  # a CPU takes minutes to convolve in bfloat16
    patches = torch.randn(sizes.patches, 3, 2, 16, 16, dtype=dtype)
    parts = []
    for name in ("convolution", "product"):
        embedding = nn.Sequential(nn.Conv3d(3, 1024, (2, 16, 16), (2, 16, 16), dtype=dtype))
        if name == "product":
            embed_patches_by_product(embedding)
        parts.append((f"patch embedding as {name}, forward", lambda layer=embedding: layer(patches)))
        parts.append((f"patch embedding as {name}, and backward", lambda e=embedding: e(patches).sum().backward()))
    return parts


def layers(sizes: Sizes, options: Options) -> list[Part]:
    """A layer of text and a block of vision, with float32 masters under autocast and with bfloat16 weights."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from leap.models.attention import ISOLATED_SDPA, attend_to_pictures_at_once
    from leap.training.accounting import QWEN3_VL

    config = AutoConfig.for_model(**QWEN3_VL["2b"])
    config.text_config.num_hidden_layers = config.vision_config.depth = 1
    config.vision_config.deepstack_visual_indexes = [0]
    config.text_config.vocab_size = 64  # the embedding is not measured
    if options.small:  # a CPU takes minutes for the backward pass of wide layers in bfloat16
        config.text_config.hidden_size, config.text_config.intermediate_size = 128, 256
        config.vision_config.hidden_size, config.vision_config.intermediate_size = 64, 128
        config.vision_config.out_hidden_size = 128
    width, vision_width = config.text_config.hidden_size, config.vision_config.hidden_size
    head = vision_width // config.vision_config.num_heads
    borders = torch.arange(0, sizes.tokens + 1, sizes.row_tokens, dtype=torch.int32)
    pictures = torch.arange(0, sizes.patches + 1, sizes.visual * 2, dtype=torch.int32)
    longest = int(pictures.diff().max())
    parts = []
    for precision, dtype, at_once in (
        ("autocast, pictures one by one", torch.float32, False),
        ("autocast, pictures at once", torch.float32, True),
        ("bfloat16 weights", torch.bfloat16, True),
    ):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation=ISOLATED_SDPA)
        if at_once:
            attend_to_pictures_at_once(model)
        layer, block = model.model.language_model.layers[0], model.model.visual.blocks[0]
        hidden = torch.randn(1, sizes.tokens, width, dtype=dtype, requires_grad=True)
        places = torch.arange(sizes.tokens)[None].expand(3, 1, -1)
        rope = model.model.language_model.rotary_emb(hidden, places)
        patches = torch.randn(sizes.patches, vision_width, dtype=dtype, requires_grad=True)
        angles = (torch.randn(sizes.patches, head), torch.randn(sizes.patches, head))

        def text(layer: Any = layer, hidden: Any = hidden, rope: Any = rope) -> Any:
            return layer(
                hidden,
                position_embeddings=rope,
                attention_mask=None,
                sample_borders=borders,
                longest_sample=sizes.row_tokens,
            )

        def vision(block: Any = block, patches: Any = patches, angles: Any = angles) -> Any:
            return block(patches, cu_seqlens=pictures, max_seqlen=longest, position_embeddings=angles)

        for name, forward in ((f"text layer, {precision} (x 28)", text), (f"vision block, {precision} (x 24)", vision)):
            parts.append((f"{name}, forward", lambda f=forward, d=dtype: _forward(f, d)))
            parts.append((f"{name}, and backward", lambda f=forward, d=dtype: _forward(f, d).sum().backward()))
    return parts


def _forward(work: Callable[[], Any], dtype: Any) -> Any:
    import torch

    device = torch.get_default_device().type
    with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.float32):
        output = work()
    return output[0] if isinstance(output, tuple) else output


def attention_in_rows(sizes: Sizes) -> list[Part]:
    """Causal attention within the rows of a pack: by a loop over them, and as `within_segments` does it here."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from leap.models.attention import within_segments

    query = torch.randn(1, 16, sizes.tokens, 128, dtype=torch.bfloat16)
    key = torch.randn(1, 8, sizes.tokens, 128, dtype=torch.bfloat16)
    borders = torch.arange(0, sizes.tokens + 1, sizes.row_tokens, dtype=torch.int32)

    def loop() -> Any:
        rows = zip(query.split(sizes.row_tokens, 2), key.split(sizes.row_tokens, 2), strict=True)
        return torch.cat(
            [scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True) for q, k in rows], dim=2
        )

    def at_once() -> Any:
        return within_segments(query, key, key, borders, sizes.row_tokens, causal=True)

    return [("attention row by row", loop), ("attention of all rows at once", at_once)]


def optimiser(options: Options) -> list[Part]:
    import torch

    matrices = [torch.nn.Parameter(torch.randn(2048, 2048)) for _ in range(4 if options.small else 500)]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    adamw = torch.optim.AdamW(matrices, fused=True)
    count = f"{sum(matrix.numel() for matrix in matrices) / 1e6:,.0f} M float32 parameters"
    return [
        (f"fused AdamW on {count}", adamw.step),
        (f"norm and clipping of {count}", lambda: torch.nn.utils.clip_grad_norm_(matrices, 1.0)),
    ]


if __name__ == "__main__":
    run(main)
