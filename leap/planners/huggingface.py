"""A Hugging Face image-text-to-text model as planner: batches of prompts of like length, decoded greedily or drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig

from configs.errors import UserError
from leap.files import sha256_json
from leap.models.answer import Answer
from leap.models.batch_size import memory_of, prompts_at_once
from leap.models.bounds import TEMPLATE_S, within
from leap.models.checkpoints import kind_of, read_manifest, weight_files, weights_sha256, why_incomplete
from leap.models.control_tokens import ControlTokens, picture_tokens
from leap.models.generation import Sampling, answer_batch, encode, end_tokens
from leap.models.image_budget import pixel_budget, set_pixel_budget, takes_image_tokens, visual_tokens
from leap.models.loading import (
    UnusableModel,
    base_of,
    generation_settings,
    is_out_of_memory,
    keeps_order,
    load_for_planning,
    load_processor,
    pick_device,
    processor_folder,
    processor_sha256,
    resized_vocabulary,
    why_not_quantised,
)
from leap.models.prefix_cache import PrefixCache
from leap.planners import MachineFailure, Query, QueryResult, UnusablePrompt
from leap.planners.options import AnsweringOptions
from leap.rows.images import aspect_problem, image_size
from leap.text import first_line

_TOKENS = 2048  # a picture of a processor that does not tell, for the batch size
_AHEAD = 2  # batches that are decoded while one is answered


def open_planner(options: AnsweringOptions, folder: Path) -> HuggingFacePlanner:
    return HuggingFacePlanner(folder, options)


class HuggingFacePlanner:
    """A model folder, full or adapter, that answers prompts with its own processor.

    The answers depend neither on the batch size nor on whether a shared prefix is computed once, up to the rounding of
    sums (a test holds it in float32). `notes` are what a user should know about the model before trusting its numbers.
    """

    def __init__(self, folder: Path, options: AnsweringOptions) -> None:
        """With a `temperature` above 0 each answer is drawn by the seed of its query. UnusableModel if the folder
        cannot be used."""
        problem = why_incomplete(folder)
        if problem:
            raise UnusableModel(f"cannot use {folder}: {problem}")
        self.folder, self.options, self.device = folder, options, pick_device(options.device)
        self.base: Path | None
        self.base, base_weights = base_of(folder, options.base_model) if kind_of(folder) == "adapter" else (None, None)
        if options.load_in and (problem := why_not_quantised(self.base or folder, self.device)):
            raise UserError(f"cannot load {self.base or folder} in {options.load_in}: {problem}")
        self.dtype = "bfloat16" if self.device.startswith("cuda") else "float32"
        self.sampling = Sampling(options.temperature, options.top_p) if options.temperature else None
        home = processor_folder(folder, self.base)
        self.processor = load_processor(home)
        if options.image_tokens_min is not None and options.image_tokens_max is not None:
            set_pixel_budget(self.processor, options.image_tokens_min, options.image_tokens_max)
        picture_ids = picture_tokens(self.processor)
        self._control_tokens = ControlTokens(self.processor)
        self._counts_tokens = takes_image_tokens(self.processor)
        self._prefixes = PrefixCache(picture_ids) if options.reuse_prefix else None
        # By the key of the prompt. A template that loops is not tried again in a thread, where no timer interrupts it.
        self._refusals: dict[str, UnusablePrompt] = {}
        self._most_at_once: int | None = None  # once memory has run out
        self._identity: dict[str, Any] = {
            "planner": "huggingface",
            "weights_sha256": weights_sha256(folder),
            "base_weights_sha256": base_weights,
            "chat_template_sha256": sha256_json(self.processor.chat_template),
            "processor_sha256": processor_sha256(self.processor),
            "pixel_budget": pixel_budget(self.processor),
            "dtype": self.dtype,
            **({"load_in": options.load_in} if options.load_in else {}),
            "decoding": {
                **({"do_sample": True, **asdict(self.sampling)} if self.sampling else {"do_sample": False}),
                "repetition_penalty": 1.0,
                "max_new_tokens": options.max_new_tokens,
                "stop_at_plan": options.stops_at_plan,
                "ends_at": end_tokens(generation_settings(self.base or folder), self.processor.tokenizer),
            },
        }
        self.notes = self._differences_from_training()
        if home != folder:
            self.notes.append(f"{folder.name} has no processor of its own; that of {home} is used")
        if not keeps_order(self.processor):
            self.notes.append(
                f"the chat template of {home.name} shows all pictures before the text, so that those of shots do not "
                "stand beside their plans"
            )

    @cached_property
    def model(self) -> Any:
        """Loaded at the first prompt, so that a finished evaluation is seen to be finished at once."""
        try:
            model = load_for_planning(self.folder, self.device, self.dtype, self.base, self.options.load_in)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UnusableModel(
                f"not enough memory on {self.device} to load {self.folder}; free some or use --device"
            ) from None
        tokens, embedded = len(self.processor.tokenizer), model.get_input_embeddings().weight.shape[0]
        # Some families' own tokenizers have a token or two that is never embedded.
        if self.base and tokens > embedded and tokens > len(load_processor(self.base).tokenizer):
            raise UnusableModel(f"the adapter {self.folder} does not fit: {resized_vocabulary(tokens, embedded)}")
        return model

    def identity(self) -> dict[str, Any]:
        return self._identity

    def batches(self, queries: Sequence[Query]) -> list[list[Query]]:
        """Prompts of like length together, the longest first: if memory runs out, it does so at once."""
        self._refusals.clear()
        texts = [self._text_or_nothing(query) for query in queries]
        lengths = [len(ids) for ids in self.processor.tokenizer(texts).input_ids] if texts else []
        order = sorted(range(len(queries)), key=lambda i: (-lengths[i], i))
        size = self.options.batch_size or self._batch_size(max(lengths, default=0), queries)
        return [[queries[i] for i in order[start : start + size]] for start in range(0, len(order), size)]

    def _batch_size(self, longest_text: int, queries: Sequence[Query]) -> int:
        """What the device's memory is worth, for prompts as long as the longest text and the most pictures make one."""
        visual = max((self._visual_tokens(query) for query in queries), default=0)
        longest = longest_text + visual + self.options.max_new_tokens
        home = self.base or self.folder
        config = AutoConfig.from_pretrained(home, local_files_only=True, trust_remote_code=False)
        weights = sum(path.stat().st_size for path in weight_files(home))
        itemsize = 2 if self.dtype == "bfloat16" else 4
        return prompts_at_once(config, itemsize, longest, weights, memory_of(self.device))

    def _visual_tokens(self, query: Query) -> int:
        """The visual tokens of a prompt's pictures; those that cannot be read have none, they fail when asked."""
        total = 0
        for path in query.picture_paths():
            try:
                total += visual_tokens(self.processor, *image_size(path, "")) if self._counts_tokens else _TOKENS
            except (UserError, ValueError):
                continue
        return total

    def answer(self, batches: Iterable[Sequence[Query]]) -> Iterator[list[QueryResult]]:
        """Answers a batch at a time, or as much of one as fits into memory; an unreadable picture, or words and turns
        that the model cannot take, fail their own prompt only. UnusableModel if the model cannot be loaded."""
        with ThreadPoolExecutor(self.options.workers) as pool:
            for batch in _ahead(pool, self._prepared, batches):
                if batch.failed:
                    yield batch.failed
                if batch.queries:
                    yield from self._batch_results(batch)

    def _text(self, query: Query) -> str:
        if query.key in self._refusals:
            raise self._refusals[query.key]
        for item in (item for turn in query.messages for item in turn["content"] if item["type"] == "text"):
            if problem := self._control_tokens.problem(item["text"]):
                raise UnusablePrompt(f"the prompt's own words hold {problem}")
        try:
            return self.processor.apply_chat_template(query.messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program: it may raise anything
            reason = str(error) or type(error).__name__
            raise UnusablePrompt(f"the model's chat template refuses the prompt: {reason}") from error

    def _text_or_nothing(self, query: Query) -> str:
        try:
            with within(TEMPLATE_S, "it"):
                return self._text(query)
        except UnusablePrompt as refusal:
            self._refusals[query.key] = refusal
            return ""

    def _prepared(self, batch: Sequence[Query]) -> _PreparedBatch:
        failed: list[QueryResult] = []
        prepared: list[tuple[Query, str, list[Image.Image]]] = []
        for query in batch:
            try:
                prepared.append((query, self._text(query), query.pictures()))
            except MachineFailure as failure:
                failed.append((query, failure))
        try:
            inputs = self._encoded(prepared)
        except Exception as error:  # processors raise kinds of their own
            if is_out_of_memory(error):
                raise
            sound = [entry for entry in prepared if not self._refused(entry, failed)]
            inputs, prepared = self._encoded(sound), sound
        return _PreparedBatch(failed, [query for query, _, _ in prepared], inputs)

    def _encoded(self, prepared: Sequence[tuple[Query, str, list[Image.Image]]]) -> Any:
        if not prepared:
            return None
        _, texts, pictures = zip(*prepared, strict=True)
        return self._inputs(texts, pictures)

    def _refused(self, prepared: tuple[Query, str, list[Image.Image]], failed: list[QueryResult]) -> bool:
        """Whether the processor takes this prompt not even alone, which is then noted in `failed`."""
        try:
            self._encoded([prepared])
        except Exception as error:
            query, _, pictures = prepared
            paths = query.picture_paths()
            odd = [path for path, picture in zip(paths, pictures, strict=True) if aspect_problem(*picture.size)]
            reason = first_line(error)
            files = ", ".join(map(str, odd or paths)) or "no picture"
            failed.append((query, UnusablePrompt(f"the model's processor refuses the prompt: {reason} ({files})")))
            return True
        return False

    def _inputs(self, texts: Sequence[str], pictures: Sequence[Sequence[Image.Image]]) -> Any:
        """What the engine takes for these prompts with the pictures of each; for a GPU in the model's precision, as
        its tower would cast them, and where the copy to the GPU is fast."""
        inputs = encode(self.processor, texts, pictures)
        if not self.device.startswith("cuda"):
            return inputs
        inputs = inputs.to(getattr(torch, self.dtype))
        pinned = {name: value.pin_memory() for name, value in inputs.items() if torch.is_tensor(value)}
        return type(inputs)({**inputs, **pinned})

    def _batch_results(self, batch: _PreparedBatch) -> Iterator[list[QueryResult]]:
        """Answers of a prepared batch; where memory runs out, half as many are asked at once from then on."""
        count = len(batch.queries)
        if self._most_at_once is None or count <= self._most_at_once:
            answers = self._decoded(batch)
            if answers is not None:
                yield list(zip(batch.queries, answers, strict=True))
                return
            if count == 1:
                yield [(batch.queries[0], MachineFailure("out of memory with one prompt at once"))]
                return
            self._most_at_once = (count + 1) // 2
        batch.inputs = None
        size = self._most_at_once
        for start in range(0, count, size):
            yield from self._batch_results(self._prepared(batch.queries[start : start + size]))

    def _decoded(self, batch: _PreparedBatch) -> list[Answer] | None:
        """The answers, or None if memory ran out."""
        model = self.model  # loads on first use, outside the guard below
        try:
            return answer_batch(
                model,
                self.processor.tokenizer,
                batch.inputs,
                self.options.max_new_tokens,
                stop_at_plan=self.options.stops_at_plan,
                prefixes=self._prefixes,
                sampling=self.sampling,
                seeds=[query.seed for query in batch.queries],
                graphed=self.device.startswith("cuda"),
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except block, so that the failed attempt's tensors are free already.
        torch.cuda.empty_cache()
        return None

    def _differences_from_training(self) -> list[str]:
        manifest = read_manifest(self.folder)
        if manifest is None:
            return []
        notes = []
        if manifest.pixel_budget != self._identity["pixel_budget"]:
            notes.append(
                f"{self.folder.name} was trained with pictures of {manifest.pixel_budget} pixels and is evaluated with "
                f"{self._identity['pixel_budget']}"
            )
        if manifest.chat_template_sha256 != self._identity["chat_template_sha256"]:
            notes.append(f"{self.folder.name} was trained with another chat template than its processor has now")
        return notes


@dataclass
class _PreparedBatch:
    """A batch whose pictures are decoded: prompts that cannot be asked, those that can, and their model inputs."""

    failed: list[QueryResult]
    queries: list[Query]
    inputs: Any


def _ahead(
    pool: ThreadPoolExecutor, prepare: Callable[[Any], _PreparedBatch], batches: Iterable[Any]
) -> Iterator[_PreparedBatch]:
    """What `prepare` makes of each batch, in order, made a few batches before it is needed."""
    waiting: deque[Future] = deque()
    for batch in batches:
        waiting.append(pool.submit(prepare, batch))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
