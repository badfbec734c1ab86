"""Experimental: models that answer through a `chat` method in Python files of their own folder (InternVL2.5 and
MiniCPM-V 2.6).

Their code runs only with --trust_remote_code. Written after the two models' published interfaces and tried only
against a stand-in with the same `chat`: their weights were not at hand, and their code was written for transformers 4.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from configs.errors import UserError
from leap.files import read_json, sha256_file
from leap.models.answer import Answer
from leap.models.checkpoints import kind_of, weights_sha256, why_incomplete
from leap.models.loading import UnusableModel, is_out_of_memory, pick_device, quiet_transformers
from leap.planners import MachineFailure, Query, QueryResult, UnusablePrompt
from leap.planners.options import AnsweringOptions

TILE_PIXELS = 448
MOST_TILES = 12
# Of ImageNet, (3, 1, 1).
_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class ChatPlanner:
    """A model folder with code of its own, asked one prompt at a time. With a `temperature` above 0 an answer
    is drawn by the seed of its query."""

    name: str
    notes = ()
    language_model: str  # attribute of the model whose `generate` writes the answer

    def __init__(self, folder: Path, options: AnsweringOptions) -> None:
        """Runs no code of the folder yet. UnusableModel if it holds none, or names code that lies elsewhere."""
        problem = why_incomplete(folder)
        if kind_of(folder) == "adapter":
            problem = "it is an adapter; merge it into its base first"
        if problem:
            raise UnusableModel(f"cannot use {folder}: {problem}")
        self.folder, self.options, self.device = folder, options, pick_device(options.device)
        self.dtype = "bfloat16" if self.device.startswith("cuda") else "float32"
        self._identity = {
            "planner": self.name,
            "weights_sha256": weights_sha256(folder),
            "code_sha256": _code_sha256(folder),
            "config_sha256": sha256_file(folder / "config.json"),
            "dtype": self.dtype,
            "decoding": self._decoding(),
        }

    def identity(self) -> dict[str, Any]:
        return self._identity

    def batches(self, queries: Sequence[Query]) -> list[list[Query]]:
        return [[query] for query in queries]

    def answer(self, batches: Iterable[Sequence[Query]]) -> Iterator[list[QueryResult]]:
        """UnusableModel if the model cannot be loaded. Turns that are not the user's and the model's by turns fail
        their own prompt only."""
        for batch in batches:
            for query in batch:
                yield [(query, self._answer(query))]

    def _answer(self, query: Query) -> Answer | MachineFailure:
        roles = [turn["role"] for turn in query.messages]
        if roles != (["user", "assistant"] * len(roles))[: len(roles)] or roles[-1:] != ["user"]:
            return UnusablePrompt(f"--planner {self.name} takes turns of user and assistant, found {', '.join(roles)}")
        model, tokenizer = self._model  # loads on first use, outside the guard below
        try:
            pictures = query.pictures()
            self._written = []
            torch.manual_seed(query.seed)
            with torch.no_grad():
                text = self._chat(model, tokenizer, query.messages, pictures)
            return Answer(text, *self._end())
        except MachineFailure as failure:
            return failure
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except block, so that the failed attempt's tensors are free already.
        torch.cuda.empty_cache()
        return MachineFailure("out of memory with one prompt")

    def _decoding(self) -> dict[str, Any]:
        """What is asked of `generate`."""
        raise NotImplementedError

    def _drawing(self) -> dict[str, Any]:
        return {"temperature": self.options.temperature, "top_p": self.options.top_p, "top_k": 0}

    def _chat(self, model: Any, tokenizer: Any, turns: list[dict], pictures: list[Image.Image]) -> str:
        raise NotImplementedError

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        """Model and tokenizer, loaded at the first prompt."""
        from transformers import AutoModel, AutoTokenizer, __version__

        quiet_transformers()
        loading = {"trust_remote_code": True, "local_files_only": True}
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, **loading)
            model = AutoModel.from_pretrained(self.folder, dtype=self.dtype, **loading).to(self.device).eval()
            writer = getattr(model, self.language_model)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UnusableModel(f"not enough memory on {self.device} to load {self.folder}; free some") from None
        except (OSError, ValueError, ImportError, AttributeError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnusableModel(
                f"the code in {self.folder} does not load with transformers {__version__}: {reason}. "
                "It may need another version, or be served elsewhere and asked by --planner openai"
            ) from error

        # `chat` returns words only; how many tokens they were, and whether the limit cut them, is seen here.
        generate = writer.generate

        def noting(*args: Any, **options: Any) -> Any:
            output = generate(*args, **options)
            ends = options.get("eos_token_id", writer.generation_config.eos_token_id)
            self._written.append((output[0].tolist(), ends if isinstance(ends, list) else [ends]))
            return output

        writer.generate = noting
        return model, tokenizer

    def _end(self) -> tuple[int | None, str]:
        """(new tokens, stop) of the last answer. The prompt went in as embeddings, so all that came out is new."""
        if len(self._written) != 1:
            return None, "end"
        [(tokens, ends)] = self._written
        cut = len(tokens) >= self.options.max_new_tokens and tokens[-1] not in ends
        return len(tokens), "length" if cut else "end"


class InternVLChat(ChatPlanner):
    """InternVL2.5: `chat(tokenizer, pixel_values, question, generation_config, history, num_patches_list)`.

    A picture is `<image>` in the words, and 1 to 12 tiles of 448 pixels, with more than one also the whole as a tile.
    """

    name = "internvl-chat"
    language_model = "language_model"

    def _decoding(self) -> dict[str, Any]:
        drawn = {"do_sample": True, **self._drawing()}
        return {
            **(drawn if self.options.temperature else {"do_sample": False}),
            "num_beams": 1,
            "repetition_penalty": 1.0,
            "max_new_tokens": self.options.max_new_tokens,
        }

    def _chat(self, model: Any, tokenizer: Any, turns: list[dict], pictures: list[Image.Image]) -> str:
        words = [_with_placeholders(turn) for turn in turns]
        tiled = [tiles(picture) for picture in pictures]
        pixels = torch.cat(tiled).to(self.device, getattr(torch, self.dtype)) if tiled else None
        return model.chat(
            tokenizer,
            pixels,
            words[-1],
            self._decoding(),
            history=list(zip(words[:-1:2], words[1::2], strict=True)) or None,
            num_patches_list=[len(picture_tiles) for picture_tiles in tiled],
        )


class MiniCPMChat(ChatPlanner):
    """MiniCPM-V 2.6: `chat(image=None, msgs, tokenizer, sampling=False, ...)`, pictures among the words."""

    name = "minicpm-chat"
    language_model = "llm"

    def _decoding(self) -> dict[str, Any]:
        # Without sampling, its own choice would be three beams and a repetition penalty of 1.2; and it cuts a prompt
        # at 8192 tokens without a word.
        drawn = {"sampling": True, **self._drawing()}
        return {
            **(drawn if self.options.temperature else {"sampling": False}),
            "num_beams": 1,
            "repetition_penalty": 1.0,
            "max_new_tokens": self.options.max_new_tokens,
            "max_inp_length": 32768,
        }

    def _chat(self, model: Any, tokenizer: Any, turns: list[dict], pictures: list[Image.Image]) -> str:
        images = iter(pictures)
        turns = [
            {
                "role": turn["role"],
                "content": [next(images) if item["type"] == "image" else item["text"] for item in turn["content"]],
            }
            for turn in turns
        ]
        return model.chat(image=None, msgs=turns, tokenizer=tokenizer, **self._decoding())


def tile_grid(width: int, height: int) -> tuple[int, int]:
    """(columns, rows) of the tiles for a picture of this size in pixels.

    Of all grids of at most 12 tiles that are nearest to the picture's shape: the largest whose tiles the picture fills
    more than half, by area; else the smallest. Source: InternVL 1.5 (arXiv 2404.16821) and its published code.
    """
    sides = range(1, MOST_TILES + 1)
    grids = sorted(((c, r) for c in sides for r in sides if c * r <= MOST_TILES), key=prod)
    nearest = min(abs(width / height - c / r) for c, r in grids)
    alike = [(c, r) for c, r in grids if abs(width / height - c / r) == nearest]
    filled = [grid for grid in alike if width * height > 0.5 * TILE_PIXELS**2 * prod(grid)]
    return (filled or alike[:1])[-1]


def tiles(picture: Image.Image) -> torch.Tensor:
    """The tiles of a picture, row by row, and the whole as the last if there is more than one: (tiles, 3, 448, 448)."""
    columns, rows = tile_grid(*picture.size)
    parts = _pixels(picture, columns, rows)
    if len(parts) > 1:
        parts = torch.cat([parts, _pixels(picture, 1, 1)])
    return (parts / 255 - _MEAN) / _STD


def _pixels(picture: Image.Image, columns: int, rows: int) -> torch.Tensor:
    """The picture stretched over a grid of tiles, values 0 to 255: (columns * rows, 3, 448, 448)."""
    size = TILE_PIXELS
    whole = picture.resize((columns * size, rows * size), Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.array(whole)).view(rows, size, columns, size, 3)
    return values.permute(0, 2, 4, 1, 3).reshape(-1, 3, size, size)


def _with_placeholders(turn: dict) -> str:
    """The words of a turn, with `<image>` and a line break for each picture. MachineFailure if the words hold one."""
    if any("<image>" in item["text"] for item in turn["content"] if item["type"] == "text"):
        raise MachineFailure("the prompt's own words hold <image>, which this model takes for a picture")
    return "".join(item["text"] if item["type"] == "text" else "<image>\n" for item in turn["content"])


def _code_sha256(folder: Path) -> str:
    """Hash of the Python files in a model's folder. UnusableModel if there are none, or others lie elsewhere."""
    for path in sorted(folder.glob("*config.json")):
        if "--" in json.dumps(read_json(path).get("auto_map", {})):
            raise UnusableModel(
                f"auto_map in {path} names code of another repository. Copy its .py files into {folder}, and take all "
                "up to -- off the names"
            )
    files = sorted(folder.rglob("*.py"))
    if not files:
        raise UnusableModel(f"{folder} holds no Python files, so no chat of its own; use --planner huggingface")
    hashes = [[str(path.relative_to(folder)), sha256_file(path)] for path in files]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def open_planner(options: AnsweringOptions, folder: Path | None) -> ChatPlanner:
    """The planner that --planner names, on a model folder. UserError without --trust_remote_code."""
    [kind] = [kind for kind in (InternVLChat, MiniCPMChat) if kind.name == options.planner]
    if folder is None:
        raise UserError(f"--planner {kind.name} needs a model folder; give --base_model or --model_path")
    if not options.trust_remote_code:
        raise UserError(
            f"--planner {kind.name} runs the Python files in {folder} with all your rights. Read them, and if you "
            "trust them, give --trust_remote_code"
        )
    return kind(folder, options)
