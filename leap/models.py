"""Load a planner's model with its own processor: base, full checkpoint or adapter, on the device at hand."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.checkpoints import read_manifest, weight_files, weights_sha256, why_incomplete
from leap.files import read_json


def pick_device(wanted: str = "auto") -> str:
    """`auto` is the first CUDA device if there is one, else the CPU. UserError if a named one is absent."""
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UserError(f"unknown device {wanted!r}; use auto, cpu or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {wanted} is not there; {torch.cuda.device_count()} CUDA device(s) found, or use --device cpu"
        )
    return wanted


def load_processor(folder: Path) -> Any:
    """The processor saved in `folder`; UserError if it has none or it cannot chat."""
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no usable processor in {folder}: {_first_line(error)}. Copy it from the base model"
        ) from error
    if not hasattr(processor, "image_processor") or not getattr(processor, "chat_template", None):
        raise UserError(
            f"{folder} has no processor with an image processor and a chat template; is it a vision-language model?"
        )
    return processor


def load_weights(folder: Path, dtype: str, attn_implementation: str = "sdpa", **options: Any) -> Any:
    """The full model in `folder` as an image-text-to-text class, in `dtype` ("float32", "bfloat16"); `options` are
    those of from_pretrained."""
    from transformers import AutoModelForImageTextToText

    quiet_transformers()
    try:
        return AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, attn_implementation=attn_implementation, local_files_only=True, **options
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"cannot load a model from {folder}: {_first_line(error)}") from error


def restore_weights(model: Any, folder: Path) -> None:
    """Replace the weights of a full model by those saved in `folder`."""
    from safetensors.torch import load_file

    state = {name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = set(model.all_tied_weights_keys)
    wrong = [*unexpected, *(name for name in missing if name not in tied)]
    if wrong:
        raise UserError(f"{folder} does not fit {type(model).__name__}: {wrong[0]} is in one of them only")


def base_of(adapter: Path, base_model: Path | None = None) -> tuple[Path, str]:
    """The base model of an adapter: `base_model`, else the one its manifest or adapter_config.json names.

    Also the hash of its weights. UserError if that folder cannot be used, or holds other weights than the adapter was
    trained on.
    """
    base, manifest = base_model, read_manifest(adapter)
    if base is None:
        named = (
            manifest.base_model
            if manifest
            else read_json(adapter / "adapter_config.json").get("base_model_name_or_path")
        )
        base = Path(named or "unnamed")
    problem = why_incomplete(base)
    if problem:
        raise UserError(
            f"{adapter} is an adapter and its base {base} cannot be used: {problem}. Name it with --base_model"
        )
    weights = weights_sha256(base)
    if manifest and weights != manifest.base_weights_sha256:
        raise UserError(
            f"{adapter} was trained on another base than {base}: the weights differ. Name its own with --base_model"
        )
    return base, weights


def quiet_transformers() -> None:
    """No progress bars of transformers in logs (a terminal keeps them), and none of its warnings to itself."""
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of GPU or main memory; on a CPU it says so in words only."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def load_for_planning(folder: Path, device: str, dtype: str, base: Path | None = None) -> Any:
    """The model in `folder` on `device`, in evaluation mode; an adapter is put on `base`."""
    model = load_weights(base or folder, dtype)
    if base is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    return model.to(device).eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
