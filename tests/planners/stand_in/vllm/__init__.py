"""Stands in for vLLM where a test puts this folder on sys.path: as much of its offline API as LEAP uses, by its
documentation, over transformers. It takes no argument that vLLM does not document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from vllm.lora.request import LoRARequest

__version__ = "0.0.0+standin"


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    repetition_penalty: float = 1.0
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    detokenize: bool = True


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None
    stop_reason: int | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = True


class LLM:
    context = 1_000_000  # tokens that a prompt and its answer may have where the model has more

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int = 0,
        max_model_len: int | None = None,
        limit_mm_per_prompt: dict[str, int] | None = None,
        mm_processor_kwargs: dict[str, Any] | None = None,
        enable_prefix_caching: bool | None = None,
        enable_lora: bool = False,
        max_lora_rank: int = 16,
    ) -> None:
        assert set(limit_mm_per_prompt or {}) <= {"image", "video"}
        if not Path(model, "config.json").is_file():
            raise ValueError(f"no model in {model}")
        self.processor = AutoProcessor.from_pretrained(model)
        self.processor_kwargs = mm_processor_kwargs or {}
        self.model = AutoModelForImageTextToText.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.max_lora_rank = max_lora_rank if enable_lora else 0
        self.requests = 0

    def generate(
        self,
        prompts: list[dict[str, Any]],
        sampling_params: list[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        """As vLLM does, it takes all prompts before it answers any, and answers none if it refuses one."""
        inputs = [self._inputs(prompt) for prompt in prompts]
        if lora_request and not isinstance(self.model, PeftModel):
            self.model = PeftModel.from_pretrained(self.model, lora_request.lora_path).eval()
            assert self.model.peft_config["default"].r <= self.max_lora_rank
        return [self._output(each, params) for each, params in zip(inputs, sampling_params, strict=True)]

    def _inputs(self, prompt: dict[str, Any]) -> Any:
        assert prompt.keys() <= {"prompt_token_ids", "multi_modal_data"}
        text = self.processor.tokenizer.decode(prompt["prompt_token_ids"])
        images = prompt.get("multi_modal_data", {}).get("image")
        inputs = self.processor(text=[text], images=images, return_tensors="pt", **self.processor_kwargs)
        length = inputs["input_ids"].shape[1]
        if length > self.context:
            raise ValueError(f"The decoder prompt (length {length}) is longer than the maximum model length")
        return inputs

    @torch.no_grad()
    def _output(self, inputs: Any, params: SamplingParams) -> RequestOutput:
        prompt = inputs["input_ids"][0].tolist()
        room = min(params.max_tokens, self.context - len(prompt))
        drawing = {"do_sample": params.temperature > 0}
        if params.temperature:
            drawing |= {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k}
            torch.manual_seed(params.seed)
        output = self.model.generate(
            **inputs,
            **drawing,
            max_new_tokens=room,
            repetition_penalty=params.repetition_penalty,
            eos_token_id=params.stop_token_ids,
        )
        tokens = output[0, len(prompt) :].tolist()
        reason = "stop" if tokens[-1] in params.stop_token_ids else "length"
        text = self.processor.tokenizer.decode(tokens) if params.detokenize else ""
        self.requests += 1
        return RequestOutput(str(self.requests), prompt, [CompletionOutput(0, text, tokens, reason)])
