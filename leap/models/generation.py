"""Answers to a batch of prompts, greedy or drawn: what planners and the validation of a training run share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from PIL import Image
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    StoppingCriteria,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from leap.models.answer import Answer
from leap.models.decoding_graph import graphed_decoding
from leap.models.prefix_cache import PrefixCache, keeps_keys_only
from leap.models.roomy_cache import roomy_cache
from leap.models.shared_pictures import encode_shared_pictures
from leap.plans.reading import ends_with_a_plan


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: logits divided by `temperature` (above 0), then the fewest likeliest tokens that make up
    `top_p` of the probability (1 keeps all)."""

    temperature: float
    top_p: float = 1.0


def encode(processor: Any, prompts: Sequence[str], pictures: Sequence[Sequence[Image.Image]]) -> Any:
    """Prompts with the pictures of each, in the order in which it shows them, as one left-padded batch on the CPU.

    input_ids, attention_mask  # (batch, seq), and what else this processor makes
    """
    images = [list(prompt_pictures) for prompt_pictures in pictures] if any(pictures) else None
    return processor(
        text=list(prompts),
        images=images,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=not begins_itself(processor.tokenizer, prompts),
    )


def begins_itself(tokenizer: Any, prompts: Sequence[str]) -> bool:
    """Whether the chat template has written the token that begins a text; the tokenizer would put a second one before
    it."""
    begin = tokenizer.bos_token
    return begin is not None and all(prompt.startswith(begin) for prompt in prompts)


@dataclass(frozen=True)
class Continuation:
    """What a model wrote behind a prompt: its tokens, without padding, the one that ends a turn among them, and why it
    stopped ("plan", "end" or "length", as in Answer)."""

    tokens: list[int]
    stop: str

    def answer(self, tokenizer: Any) -> Answer:
        words = self.tokens[:-1] if self.stop == "end" else self.tokens
        return Answer(_text(words, tokenizer), len(self.tokens), self.stop)


def answer_batch(model: Any, tokenizer: Any, inputs: Any, max_new_tokens: int, **options: Any) -> list[Answer]:
    """The texts of `complete_batch`, whose options it takes."""
    completions = complete_batch(model, tokenizer, inputs, max_new_tokens, **options)
    return [completion.answer(tokenizer) for completion in completions]


@torch.no_grad()
def complete_batch(
    model: Any,
    tokenizer: Any,
    inputs: Any,
    max_new_tokens: int,
    *,
    stop_at_plan: bool = False,
    prefixes: PrefixCache | None = None,
    in_step: bool = False,
    sampling: Sampling | None = None,
    seeds: Sequence[int] = (),
    graphed: bool = False,
    never: Collection[int] = (),
) -> list[Continuation]:
    """One completion a row of `inputs`, which `encode` made; greedy without `sampling`.

    What is drawn for a row follows from its logits and its own one of `seeds`, whatever rows stand beside it.

    `stop_at_plan` ends an answer where a fence closes on a valid skill list, but never inside a thought; `prefixes`
    keeps the keys and values of text with which batches begin. `in_step`: the model is spread over several processes,
    which must call this together. `graphed`: steps are replayed from a CUDA graph where the model's can be. `never` are
    tokens that no answer holds.
    Running out of memory raises what torch raises.
    """
    inputs = inputs.to(model.device, non_blocking=True)
    model_inputs = encode_shared_pictures(model, inputs)
    reused = prefixes.begin(model, inputs, max_new_tokens) if prefixes else {}
    if not reused and keeps_keys_only(model):
        reused = {"past_key_values": roomy_cache(model.config, max_new_tokens)}
    length = inputs["input_ids"].shape[1]
    ends = end_tokens(model.generation_config, tokenizer)
    stops = [_PlanFinished(tokenizer, length)] if stop_at_plan else []
    processors: list[LogitsProcessor] = (
        [SuppressTokensLogitsProcessor(sorted(never), device=model.device)] if never else []
    )
    if sampling:
        processors.append(DrawnTokens(sampling, seeds))
    with graphed_decoding(model, reused["past_key_values"]) if graphed and reused else nullcontext():
        output = model.generate(
            **model_inputs,
            **reused,
            **_plain_decoding() | {"max_new_tokens": max_new_tokens, "eos_token_id": ends},
            logits_processor=processors,
            stopping_criteria=stops,
            synced_gpus=in_step,
        )
    new = output[:, length:].tolist()  # (batch, new tokens), padded on the right
    finished = stops[0].lengths if stops else {}
    return [_completion(tokens, set(ends), finished.get(row)) for row, tokens in enumerate(new)]


def end_tokens(settings: GenerationConfig, tokenizer: Any) -> list[int]:
    """The ids that end an answer: those that the model's own `settings` name, and the tokenizer's end of turn."""
    named = settings.eos_token_id
    named = named if isinstance(named, list) else [named]
    return [token for token in dict.fromkeys([*named, tokenizer.eos_token_id]) if token is not None]


@cache
def _plain_decoding() -> dict[str, Any]:
    """Greedy decoding with every setting at transformers' default, so that what a model's generation_config.json says
    (beams, penalties, bans, time limits) does not count. Only the ids of a text's begin and of padding are the
    model's."""
    defaults = {name: default for name, default in vars(GenerationConfig()).items() if not name.startswith("_")}
    defaults |= GenerationConfig._get_default_generation_params()
    defaults |= {"max_length": None, "temperature": None, "top_p": None, "top_k": None}
    for name in ("bos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version"):
        defaults.pop(name, None)
    return defaults


class DrawnTokens(LogitsProcessor):
    """Makes greedy decoding draw from the distribution: by the Gumbel-max trick, the largest of log-probability plus
    Gumbel noise is a draw from it.

    Each row has its own noise, one number a token of the vocabulary and step, so that neither the other rows nor those
    that have finished matter. It comes from the CPU, where it is the same for every device.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self._warpers = [TemperatureLogitsWarper(float(sampling.temperature)), TopPLogitsWarper(sampling.top_p)]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(scores) != len(self._generators):
            raise ValueError(f"{len(scores)} rows, but {len(self._generators)} seeds")
        scores = scores.double()  # (batch, vocabulary); in float32 a tiny temperature would make them infinite
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        size = scores.shape[1]
        uniform = torch.stack([torch.rand(size, generator=each, dtype=torch.float64) for each in self._generators])
        return scores - torch.log(-torch.log(uniform.to(scores.device)))  # uniform is below 1, so never +infinity


class _PlanFinished(StoppingCriteria):
    """Ends a row whose new text ends with a finished plan; `lengths` are the new tokens of such rows."""

    def __init__(self, tokenizer: Any, prompt_length: int) -> None:
        self.tokenizer, self.prompt_length = tokenizer, prompt_length
        self.lengths: dict[int, int] = {}
        self._closing = _tokens_with_a_backtick(tokenizer)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        for row, token in enumerate(input_ids[:, -1].tolist()):  # input_ids  # (batch, prompt + new)
            if token in self._closing and row not in self.lengths:
                tokens = input_ids[row, self.prompt_length :].tolist()
                if ends_with_a_plan(_text(tokens, self.tokenizer)):
                    self.lengths[row] = len(tokens)
        finished = [row in self.lengths for row in range(len(input_ids))]
        return torch.tensor(finished, device=input_ids.device)


@cache
def _tokens_with_a_backtick(tokenizer: Any) -> frozenset[int]:
    """The tokens that can close a fence. Looked up by their spelling, in which byte-level tokenizers keep ASCII."""
    return frozenset(token for spelling, token in tokenizer.get_vocab().items() if "`" in spelling)


def answer_in(tokens: list[int], ends: set[int], tokenizer: Any, *, stop_at_plan: bool) -> Answer:
    """The answer in the new tokens of a row, up to the first of the tokens `ends`, which end a turn.

    With `stop_at_plan` what stands behind the first finished plan is cut off, as if it had been stopped there.
    """
    closing = _tokens_with_a_backtick(tokenizer) if stop_at_plan else frozenset()
    lengths = (length for length, token in enumerate(tokens, 1) if token in closing)
    finished = next((length for length in lengths if ends_with_a_plan(_text(tokens[:length], tokenizer))), None)
    return _completion(tokens, ends, finished).answer(tokenizer)


def _text(tokens: list[int], tokenizer: Any) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _completion(tokens: list[int], ends: set[int], finished: int | None) -> Continuation:
    """The completion in a row's new tokens, padding behind it; `finished` is its length if it stopped at a plan."""
    if finished is not None:
        return Continuation(tokens[:finished], "plan")
    length = next((i for i, token in enumerate(tokens) if token in ends), None)
    return Continuation(tokens, "length") if length is None else Continuation(tokens[: length + 1], "end")
