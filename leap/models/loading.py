"""Load a planner's model with its own processor: base, full checkpoint or adapter, on the device at hand.

Every call that loads says trust_remote_code=False: where it is left out, transformers asks at the terminal, and
`yes |` answers.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import read_json, sha256_json
from leap.models.bounds import adapter_patterns, layers_problem, pattern_problem, template_problem
from leap.models.checkpoints import Manifest, may_be_path, read_manifest, weight_files, weights_sha256, why_incomplete
from leap.text import first_line

# Either holds the settings of a processor's picture part, which an adapter saved by PEFT alone is without.
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "tekken.json")
_LONGEST_REASON = 600  # characters
QUANTISATIONS = ("8bit", "4bit")


class UnusableModel(UserError):
    """A model cannot be loaded, for a reason in its folder, or for want of memory; another one may well be."""


def pick_device(name: str = "auto") -> str:
    """`auto` is the CUDA device of this process under torchrun, else the first one if there is one, else the CPU.
    UserError if a named one is absent."""
    import torch

    if name == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; use auto, cpu or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name} is not there; {torch.cuda.device_count()} CUDA device(s) found, or use --device cpu"
        )
    return name


def processor_folder(folder: Path, base: Path | None = None) -> Path:
    """Where the processor of a model lies: in its folder, or in that of its base for an adapter that came without."""
    has_processor = any((folder / name).is_file() for name in _PROCESSOR_FILES)
    return folder if has_processor or base is None else base


def tokenizer_problem(folder: Path) -> str | None:
    """What of a tokenizer is missing in a model's folder, or None. transformers makes up a tokenizer of one token, or
    another end of turn, without a word."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES) and not any(folder.glob("*.tiktoken")):
        return "it has no tokenizer (tokenizer.json or another vocabulary)"
    if not any((folder / name).is_file() for name in ("tokenizer_config.json", "tekken.json")):
        return "it has no tokenizer_config.json, which names the end of a turn"
    return None


def load_processor(folder: Path) -> Any:
    """The processor saved in `folder`; UnusableModel if it has none, it cannot chat or a package that it needs is not
    installed."""
    from transformers import AutoProcessor

    if problem := tokenizer_problem(folder):
        raise UnusableModel(f"no usable processor in {folder}: {problem}. Copy it from the base model")
    _refuse_own_code(folder)
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise UnusableModel(f"the processor in {folder} needs another package: {first_line(error)}") from error
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise UnusableModel(
            f"no usable processor in {folder}: {first_line(error)}. Copy it from the base model"
        ) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise UnusableModel(f"no usable processor in {folder}: {first_line(error)}") from error
    if not hasattr(processor, "image_processor") or not getattr(processor, "chat_template", None):
        raise UnusableModel(
            f"{folder} has no processor with an image processor and a chat template; is it a vision-language model?"
        )
    if problem := template_problem(processor):
        raise UnusableModel(f"the chat template in {folder} cannot be used: {problem}")
    return processor


def processor_sha256(processor: Any) -> str:
    """The identity of what makes a prompt's words and pictures model inputs: tokenizer and image processor."""
    tokenizer = processor.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)  # only tokenizers in Python have none
    if backend:  # "padding" and "truncation" are what the last call left there
        words = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    else:
        words = sorted(tokenizer.get_vocab().items())
    return sha256_json([words, processor.image_processor.to_json_string()])


def is_panic(error: BaseException) -> bool:
    """Whether Rust gave up: tokenizers does at some regular expressions, with a class that is no Exception."""
    return type(error).__name__ == "PanicException"


def generation_settings(folder: Path) -> Any:
    """What the model in `folder` says of generation, as it has it once it is loaded. UnusableModel if it contradicts
    itself, or names tokens by anything but their ids."""
    from transformers import AutoConfig, GenerationConfig

    try:
        if (folder / "generation_config.json").is_file():
            settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
        else:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            settings = GenerationConfig.from_model_config(config)
    except Exception as error:  # of many kinds: it is checked while it is read
        raise UnusableModel(f"no usable generation_config.json in {folder}: {first_line(error)}") from error
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        ids = getattr(settings, name)
        if not all(id_ is None or type(id_) is int for id_ in (ids if isinstance(ids, list) else [ids])):
            raise UnusableModel(
                f"no usable generation_config.json in {folder}: {name} is {ids!r:.40}, no id of a token"
            )
    return settings


def keeps_order(processor: Any) -> bool:
    """Whether the chat template leaves pictures where a message has them; some show all of them before its text."""
    text, more, picture = {"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}
    orders = ([text, picture, more], [picture, text, more])
    first, second = (
        processor.apply_chat_template([{"role": "user", "content": items}], tokenize=False) for items in orders
    )
    return first != second


def load_weights(folder: Path, dtype: str, attn_implementation: str = "sdpa", **options: Any) -> Any:
    """The full model in `folder` as an image-text-to-text class, in `dtype` ("float32", "bfloat16"); `options` are
    those of from_pretrained. UnusableModel if it cannot be loaded whole; running out of memory raises what torch
    raises."""
    from transformers import AutoModelForImageTextToText

    _refuse_own_code(folder)
    if problem := layers_problem(read_json(folder / "config.json")):
        raise UnusableModel(f"cannot load a model from {folder}: {problem}")
    quiet_transformers()
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attn_implementation,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        if is_out_of_memory(error):
            raise
        raise UnusableModel(f"cannot load a model from {folder}: {first_line(error)}") from error
    model, report = loaded
    if report["missing_keys"]:  # transformers would fill them with random numbers
        raise UnusableModel(f"cannot load a model from {folder}: {min(report['missing_keys'])} is not in its weights")
    use_fast_parts(model)
    return model


def use_fast_parts(model: Any) -> None:
    """Exchange parts of a freshly made model for faster ones that compute the same, on the weights as they are."""
    import torch

    from leap.models.attention import attend_to_pictures_at_once
    from leap.models.launch_ahead import add_pictures_without_waiting
    from leap.models.patch_embedding import embed_patches_by_product

    embed_patches_by_product(model)
    if torch.cuda.is_available():  # a CPU gains nothing from these
        attend_to_pictures_at_once(model)
        add_pictures_without_waiting(model)


def _refuse_own_code(folder: Path) -> None:
    """UnusableModel if the model's class lies in Python files of its folder (InternVL2.5, MiniCPM-V 2.6): transformers
    would ask at the terminal whether to run them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if "auto_map" in config and config.get("model_type") not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise UnusableModel(
            f"{folder} is of type {config.get('model_type')!r}, whose class is in code of its own: it cannot be asked "
            "through AutoModelForImageTextToText. Serve it (as with vllm serve --trust-remote-code) and ask it with "
            "--planner openai --base_url, or take a version for transformers, whose name often ends in -hf"
        )


def has_other_names(model: Any, folder: Path) -> bool:
    """Whether files of weights in `folder` name some otherwise than the model: so transformers saves families whose
    classes were rearranged since (InternVL, LLaVA, Gemma 3), and from_pretrained alone reads them back."""
    from safetensors import safe_open

    names = model.state_dict().keys()
    for path in weight_files(folder):
        with safe_open(path, "pt") as weights:
            if not names >= set(weights.keys()):
                return True
    return False


def restore_weights(model: Any, folder: Path) -> None:
    """Replace the weights of a full model by those saved in `folder`."""
    from safetensors.torch import load_file

    if has_other_names(model, folder):
        state = load_weights(folder, str(model.dtype).removeprefix("torch.")).state_dict()
    else:
        state = {name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = set(model.all_tied_weights_keys)
    wrong = [*unexpected, *(name for name in missing if name not in tied)]
    if wrong:
        raise UserError(f"{folder} does not fit {type(model).__name__}: {wrong[0]} is in one of them only")


def base_of(adapter: Path, base_model: Path | None = None) -> tuple[Path, str]:
    """The base model of an adapter: `base_model`, else the one its manifest or adapter_config.json names, as a folder
    or by the name under which it lies in models/.

    Also the hash of its weights. UnusableModel if that folder cannot be used, or holds other weights than the adapter
    was trained on.
    """
    manifest = read_manifest(adapter)
    base = base_model or _named_base(adapter, manifest)
    problem = why_incomplete(base)
    if problem:
        raise UnusableModel(
            f"{adapter} is an adapter and its base {base} cannot be used: {problem}. Name it with --base_model"
        )
    weights = weights_sha256(base)
    if manifest and weights != manifest.base_weights_sha256:
        raise UnusableModel(
            f"{adapter} was trained on another base than {base}: the weights differ. Name its own with --base_model"
        )
    return base, weights


def _named_base(adapter: Path, manifest: Manifest | None) -> Path:
    """What the adapter calls its base; Hub names such as Qwen/Qwen3-VL-2B-Instruct are looked up in models/."""
    config = read_json(adapter / "adapter_config.json")
    written = (manifest.base_model if manifest else config.get("base_model_name_or_path")) or "unnamed"
    if not may_be_path(written):
        raise UnusableModel(f"{adapter} names no base model, but {written!r:.80}. Name it with --base_model")
    named = Path(written)
    downloaded = WorkspaceConfig.from_environment().models / named.name
    return downloaded if not named.is_dir() and downloaded.is_dir() else named


def quiet_transformers() -> None:
    """No progress bars of transformers in logs (a terminal keeps them), and none of its warnings to itself."""
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bar()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether GPU or main memory ran out; on a CPU torch says so in words only."""
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error)


def load_for_planning(
    folder: Path, device: str, dtype: str, base: Path | None = None, load_in: str | None = None
) -> Any:
    """The model in `folder` on `device`, in evaluation mode; an adapter is put on `base`.

    `load_in`, one of QUANTISATIONS, quantises the language model while it is loaded (see `why_not_quantised`).
    """
    whole = base or folder
    options = {"quantization_config": quantised(whole, load_in), "device_map": {"": device}} if load_in else {}
    model = load_weights(whole, dtype, **options)
    if base is not None:
        model = with_adapter(model, folder)
    return model.eval() if load_in else model.to(device).eval()


def with_adapter(model: Any, folder: Path, *, trains: bool = False) -> Any:
    """`model` with the adapter in `folder` on it, frozen unless it `trains`. UnusableModel if that does not fit it:
    PEFT would only warn of weights that found no place, and answer as the base does."""
    from peft import PeftModel

    if problem := _vocabulary_problem(model, folder):
        raise UnusableModel(f"the adapter {folder} does not fit {type(model).__name__}: {problem}")
    patterns = adapter_patterns(read_json(folder / "adapter_config.json"))
    if problem := pattern_problem(patterns, (name for name, _ in model.named_modules())):
        raise UnusableModel(f"the adapter {folder} cannot be used: {problem}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, folder, is_trainable=trains)
    except UserWarning:
        problem = "its weights are named otherwise; was it trained with another version of transformers?"
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        if is_out_of_memory(error):
            raise
        problem = " ".join(str(error).split())[:_LONGEST_REASON]  # torch names what is wrong in its second line
    raise UnusableModel(f"the adapter {folder} does not fit {type(model).__name__}: {problem}")


def _vocabulary_problem(model: Any, folder: Path) -> str | None:
    """Why the embeddings or the head that an adapter brings along do not fit the model's vocabulary, or None."""
    from safetensors import SafetensorError, safe_open

    size = model.get_input_embeddings().weight.shape[0]
    try:
        with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
            names = weights.keys()
            ends = [name for name in names if name.endswith(("embed_tokens.weight", "lm_head.weight"))]
            sizes = [weights.get_slice(name).get_shape()[0] for name in ends]
    except (OSError, SafetensorError):  # which loading will name
        return None
    other = next((tokens for tokens in sizes if tokens != size), None)
    return other and resized_vocabulary(other, size)


def resized_vocabulary(adapter_tokens: int, base_tokens: int) -> str:
    """What to say of an adapter whose vocabulary is not that of its base, by their tokens."""
    return (
        f"its vocabulary has {adapter_tokens:,} tokens, the base's {base_tokens:,}: it was trained on a base whose "
        "vocabulary was resized. Name that with --base_model"
    )


def free_memory() -> None:
    """Give back the memory of models that nothing refers to any more."""
    gc.collect()  # they refer to themselves
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def why_not_quantised(folder: Path, device: str) -> str | None:
    """The reason why the model in `folder` cannot be quantised on `device` while it is loaded, or None."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "it needs the package bitsandbytes: pip install bitsandbytes"
    if not device.startswith("cuda"):
        return "it needs a CUDA GPU"
    if "quantization_config" in read_json(folder / "config.json"):
        return f"{folder} is quantised already"
    return None


def quantised(folder: Path, load_in: str) -> Any:
    """What from_pretrained needs to hold the linear layers of the language model in `folder` in 8 bits (LLM.int8) or
    in 4 (NF4 with doubly quantised scales, bfloat16 computation); the vision tower, what joins the two and the head
    stay as they are."""
    import torch
    from transformers import BitsAndBytesConfig

    left_whole = _outside_language_model(folder)
    if load_in == "8bit":
        # It says at every layer of every step that it computes in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=left_whole)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=left_whole,
    )


def _outside_language_model(folder: Path) -> list[str]:
    """The full names of the linear layers outside the language model: a pattern is matched from a name's start."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    inside = set(model.get_decoder().modules())
    return [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module not in inside
    ]
