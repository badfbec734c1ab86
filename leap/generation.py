"""Greedy decoding of a batch of prompts: what the evaluation and the validation of a training run share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from leap.planners import Answer


@torch.no_grad()
def greedy(
    model: Any,
    processor: Any,
    prompts: Sequence[str],
    pictures: Sequence[Image.Image],
    max_new_tokens: int,
    in_step: bool = False,
) -> list[Answer]:
    """One answer a prompt, left-padded; `pictures` in the order in which the prompts show them.

    `in_step`: the model is spread over several processes, which must call this together. Running out of memory raises
    what torch raises.
    """
    inputs = processor(
        text=list(prompts), images=list(pictures) or None, padding=True, padding_side="left", return_tensors="pt"
    )
    output = model.generate(
        **inputs.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=1.0,
        temperature=None,
        top_p=None,
        top_k=None,
        synced_gpus=in_step,
    )
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    new = output[:, inputs["input_ids"].shape[1] :].tolist()  # (batch, new tokens), padded on the right
    return [_answer(tokens, ends, processor.tokenizer) for tokens in new]


def _answer(tokens: list[int], ends: set[int], tokenizer: Any) -> Answer:
    length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    text = tokenizer.decode(tokens[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ended = length < len(tokens)
    return Answer(text, length + ended, "end" if ended else "length")
