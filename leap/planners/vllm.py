"""A model folder answered by vLLM in this process: prompts and pictures of leap.planners.huggingface, another engine.

Written against vLLM's documented offline API. The package is an extra, `pip install -e ".[vllm]"`, and is imported here
only when this planner is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from safetensors import safe_open

from configs.errors import UserError
from leap.files import read_json
from leap.models.answer import Answer
from leap.models.checkpoints import weight_files
from leap.models.generation import answer_in
from leap.models.image_budget import pixel_budget, visual_tokens
from leap.models.loading import UnusableModel, free_memory, is_out_of_memory
from leap.planners import MachineFailure, Query, QueryResult, UnusablePrompt
from leap.planners.huggingface import HuggingFacePlanner
from leap.planners.options import AnsweringOptions
from leap.runs.ranks import Ranks
from leap.text import first_line

_AT_ONCE = 128  # prompts; vLLM makes its own batches of them, and they are on disk together
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has room for


def open_planner(options: AnsweringOptions, folder: Path) -> VllmPlanner:
    """UserError if vLLM is not installed, or for a knob of what it decides itself."""
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise UserError(f'--planner vllm needs the package vllm: pip install -e ".[vllm]" ({error})') from error
    if options.load_in:
        raise UserError("--load_in is for --planner huggingface; vLLM holds the weights in their own precision")
    if options.device != "auto":
        raise UserError(f"vLLM takes the first GPU: set CUDA_VISIBLE_DEVICES in place of --device {options.device}")
    if Ranks.from_environment().world > 1:
        raise UserError("--planner vllm answers in one process; start it without torchrun")
    return VllmPlanner(folder, options)


class Prompt(NamedTuple):
    """What vLLM is given, and how many tokens it must make of it, None where only the processor can tell."""

    request: dict[str, Any]
    tokens: int | None


class VllmPlanner(HuggingFacePlanner):
    """A model folder, full or adapter, whose answers have the form of the parent's.

    vLLM decides what it computes together: in bfloat16 a near tie may fall otherwise than there. A prompt of which it
    makes other tokens than the model's own processor is a failure of the machine.
    """

    def __init__(self, folder: Path, options: AnsweringOptions) -> None:
        """UnusableModel if the folder cannot be used, or vLLM would leave a part of the adapter out."""
        import vllm

        super().__init__(folder, options)
        problem = why_vllm_cannot_adapt(folder) if self.base else None
        if problem:
            raise UnusableModel(
                f"vLLM cannot answer with the adapter {folder}: {problem}. Fold it into its base with "
                f"python scripts/utils/merge_adapter.py --checkpoint {folder}, or use --planner huggingface"
            )
        self._identity |= {"planner": "vllm", "vllm": vllm.__version__}

    @cached_property
    def model(self) -> Any:
        """The engine, which starts at the first prompt."""
        from vllm import LLM

        free_memory()  # an engine that nobody uses any more holds the GPU until it is collected
        budget = {"size": pixel_budget(self.processor)} if self._counts_tokens else None
        adapting = {"enable_lora": True, "max_lora_rank": _rank_for(self.folder)} if self.base else {}
        try:
            return LLM(
                model=str(self._whole),
                dtype=self.dtype,
                seed=0,
                max_model_len=-1,  # as much of the model's context as memory has room for
                limit_mm_per_prompt={"video": 0},
                mm_processor_kwargs=budget,
                enable_prefix_caching=self.options.reuse_prefix,
                **adapting,
            )
        except Exception as error:  # the engine raises whatever ended its own process
            raise UnusableModel(f"vLLM cannot load {self.folder}: {first_line(error)}") from error

    @property
    def _whole(self) -> Path:
        return self.base or self.folder

    @cached_property
    def _adapter(self) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest(self.folder.name, 1, str(self.folder)) if self.base else None

    @cached_property
    def _ends(self) -> set[int]:
        """The tokens that end a turn, as the settings name them."""
        return set(self._identity["decoding"]["ends_at"])

    def _batch_size(self, longest_text: int, queries: Sequence[Query]) -> int:
        return _AT_ONCE

    def _inputs(self, texts: Sequence[str], pictures: Sequence[Sequence[Image.Image]]) -> list[Prompt]:
        """Tokens in which a picture is one token, as the template writes it; vLLM makes as many of it as it needs."""
        return [self._prompt(text, list(images)) for text, images in zip(texts, pictures, strict=True)]

    def _prompt(self, text: str, pictures: list[Image.Image]) -> Prompt:
        tokenizer = self.processor.tokenizer
        begun = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        tokens = tokenizer(text, add_special_tokens=not begun).input_ids
        request = {"prompt_token_ids": tokens} | ({"multi_modal_data": {"image": pictures}} if pictures else {})
        if not self._counts_tokens:
            return Prompt(request, None)
        return Prompt(request, len(tokens) + sum(visual_tokens(self.processor, *each.size) - 1 for each in pictures))

    def _batch_results(self, batch: Any) -> Iterator[list[QueryResult]]:
        yield self._results(batch.queries, batch.inputs)

    def _results(self, queries: Sequence[Query], prompts: Sequence[Prompt]) -> list[QueryResult]:
        """A result a query. vLLM refuses all prompts of a call for one that it cannot take: halves find that one."""
        from vllm.v1.engine.exceptions import EngineDeadError

        model = self.model  # loads on first use, outside the guard below
        try:
            outputs = model.generate(
                [prompt.request for prompt in prompts],
                [self._sampling_params(query.seed) for query in queries],
                use_tqdm=False,
                lora_request=self._adapter,
            )
        except ValueError as error:
            if len(queries) == 1:
                return [(queries[0], UnusablePrompt(f"vLLM refuses the prompt: {first_line(error)}"))]
            half = len(queries) // 2
            return self._results(queries[:half], prompts[:half]) + self._results(queries[half:], prompts[half:])
        except (EngineDeadError, RuntimeError) as error:
            if not isinstance(error, EngineDeadError) and not is_out_of_memory(error):
                raise
            failure = MachineFailure(f"vLLM's engine failed: {first_line(error)}")
            return [(query, failure) for query in queries]
        results = [self._result(prompt, output) for prompt, output in zip(prompts, outputs, strict=True)]
        return list(zip(queries, results, strict=True))

    def _sampling_params(self, seed: int) -> Any:
        from vllm import SamplingParams

        drawing = {"temperature": self.options.temperature, "top_p": self.options.top_p, "seed": seed}
        return SamplingParams(
            **(drawing if self.sampling else {"temperature": 0.0}),
            repetition_penalty=1.0,
            max_tokens=self.options.max_new_tokens,
            stop_token_ids=sorted(self._ends),
            detokenize=False,
        )

    def _result(self, prompt: Prompt, output: Any) -> Answer | MachineFailure:
        """The answer in a RequestOutput, or why it is none."""
        count = len(output.prompt_token_ids)
        if prompt.tokens not in (None, count):
            return MachineFailure(
                f"vLLM makes {count} tokens of the prompt, this model's own processor {prompt.tokens}: it was shown "
                "pictures of another size"
            )
        [completion] = output.outputs
        if completion.finish_reason not in ("stop", "length"):
            return MachineFailure(f"vLLM gave the answer up: finish_reason {completion.finish_reason!r}")
        tokens, most = list(completion.token_ids), self.options.max_new_tokens
        answer = answer_in(tokens, self._ends, self.processor.tokenizer, stop_at_plan=self.options.stops_at_plan)
        if answer.stop == "length" and len(tokens) < most:
            return MachineFailure(f"vLLM's context ended after {len(tokens)} of {most} new tokens")
        return answer


def why_vllm_cannot_adapt(folder: Path) -> str | None:
    """The reason why vLLM would refuse the adapter in `folder`, or leave a part of it out without a word, or None."""
    config = read_json(folder / "adapter_config.json")
    if config.get("use_dora"):
        return "it is a DoRA adapter"
    if config.get("modules_to_save") or config.get("bias", "none") != "none":
        return "it holds whole weights besides those of LoRA"
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        return f"it goes on a base that {config['init_lora_weights']} changes"
    with safe_open(weight_files(folder)[0], framework="pt") as weights:
        outside = [name for name in weights.keys() if "language_model" not in name]  # noqa: SIM118
    return f"{outside[0]} is outside the language model" if outside else None


def _rank_for(folder: Path) -> int:
    """The room that vLLM must keep for the adapter in `folder`."""
    config = read_json(folder / "adapter_config.json")
    rank = max(config["r"], *config.get("rank_pattern", {}).values(), 0)
    if rank > _LORA_RANKS[-1]:
        raise UnusableModel(f"{folder} has rank {rank}, vLLM takes {_LORA_RANKS[-1]} at most")
    return next(room for room in _LORA_RANKS if room >= rank)
