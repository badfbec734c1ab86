"""LoRA adapters: which modules they go to, putting them on a model, folding them into it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.models.checkpoints import kind_of, read_manifest, why_incomplete, write_manifest
from leap.models.families import QWEN, Family, family_of
from leap.models.loading import base_of, load_processor, load_weights, processor_folder, quantised, with_adapter
from leap.publish.model_card import write_model_card
from leap.training.recipes import LoraRecipe


@dataclass(frozen=True)
class AdapterCoverage:
    """What an adapter sits on: how many modules of each name, and parameters that train out of all."""

    modules: dict[str, int]
    trainable: int
    total: int

    def __str__(self) -> str:
        counts = ", ".join(f"{count} x {name}" for name, count in self.modules.items())
        share = f"{self.trainable / self.total:.2%}"
        return f"LoRA on {counts}: {self.trainable:,} of {self.total:,} parameters train ({share})"


def target_pattern(recipe: LoraRecipe, family: Family = QWEN) -> str:
    """The regular expression that the full name of a target module matches.

    Anchored at the language model: a bare name such as gate_proj also occurs in some vision towers.
    """
    pattern = _modules_in(family.language, recipe.lora_target_modules)
    if recipe.lora_vision:
        pattern = rf"(?:{pattern}|{_modules_in(family.blocks, family.vision_linears)})"
    return pattern


def _modules_in(home: str, names: Sequence[str]) -> str:
    return rf"(?:.*\.)?{re.escape(home)}\..*\.(?:{'|'.join(map(re.escape, names))})"


def attach(model: Any, recipe: LoraRecipe) -> Any:
    """`model` with a fresh adapter, everything else frozen. UserError if a target name matches no linear module, or
    the vision tower, where it is to get one too, cannot be told from the rest."""
    import torch
    from peft import LoraConfig, get_peft_model

    family = family_of(model)
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    language = re.compile(rf"(?:.*\.)?{re.escape(family.language)}\..*")
    candidates = {name.rpartition(".")[2] for name in linears if family.language and language.fullmatch(name)}
    missing = [name for name in recipe.lora_target_modules if name not in candidates]
    if missing:
        raise UserError(
            f"no module {missing[0]!r} in the language model of {type(model).__name__}; lora_target_modules may name: "
            f"{', '.join(sorted(candidates)) or 'nothing, it has none that could be told'}"
        )
    if recipe.lora_vision and not family.blocks:
        raise UserError(f"lora_vision: the vision tower of {type(model).__name__} cannot be told; leave it out")
    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=target_pattern(recipe, family),
        use_dora=recipe.use_dora,
        use_rslora=recipe.use_rslora,
        init_lora_weights="pissa" if recipe.pissa else True,
    )
    return get_peft_model(model, config)


def load_base_in_4bit(folder: Path, attn_implementation: str) -> Any:
    """A base model for QLoRA: the language model's linear layers in NF4 with doubly quantised scales, the rest and all
    computation in bfloat16. Needs a GPU and bitsandbytes."""
    import torch

    device_map = {"": torch.cuda.current_device()}  # the whole model
    config = quantised(folder, "4bit")
    return load_weights(folder, "bfloat16", attn_implementation, quantization_config=config, device_map=device_map)


def restore_adapter(model: Any, folder: Path) -> None:
    """Replace the adapter's weights by those saved in `folder`."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    result: Any = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    if result.unexpected_keys:
        raise UserError(f"{folder} does not fit this adapter: {result.unexpected_keys[0]} is in one of them only")


def adapter_coverage(model: Any) -> AdapterCoverage:
    """The modules that carry an adapter, and the trainable share, counted on the model itself."""
    from peft.tuners.lora import LoraLayer

    modules: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            short = name.rpartition(".")[2]
            modules[short] = modules.get(short, 0) + 1
    parameters = list(model.parameters())  # a tied head is listed once
    return AdapterCoverage(
        modules, sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
    )


def _refuse_tied(whole: Any, adapter: Path, base: Path) -> None:
    """UserError if the adapter sits on a head that shares its weights with the embedding: what is added to one of them
    would be added to both."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    adapted = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    ends = (whole.get_input_embeddings(), whole.get_output_embeddings())
    if whole.all_tied_weights_keys and any(isinstance(end, adapted) for end in ends):
        raise UserError(
            f"cannot merge {adapter}: it sits on the head or the embedding, which share their weights in {base}, so "
            "that folded in it would change both. Use it as an adapter, which evaluation takes as it is"
        )


def merge(adapter: Path, folder: Path, base_model: Path | None = None) -> float:
    """Fold the adapter in `adapter` into its base and write a full checkpoint to `folder`, with processor, manifest and
    model card.

    In float32. Returns the largest difference between the logits of the adapted and the merged model on a random
    prompt; UserError if it is more than rounding (1e-3), if `folder` exists, or if the adapter or its base cannot be
    used.
    """
    import torch

    problem = why_incomplete(adapter)
    if problem or kind_of(adapter) != "adapter":
        raise UserError(f"cannot merge {adapter}: {problem or 'it is a full model, not an adapter'}")
    if folder.exists():
        raise UserError(f"{folder} is there already; name another folder with --output_dir")
    base, _ = base_of(adapter, base_model)
    whole = load_weights(base, "float32")
    model = with_adapter(whole, adapter).eval()
    _refuse_tied(whole, adapter, base)
    processor = load_processor(processor_folder(adapter, base))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, len(processor.tokenizer) // 2, (1, 64), generator=generator)  # (batch, seq)
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        adapted = model(input_ids=ids, attention_mask=mask).logits  # (batch, seq, vocab)
        merged = model.merge_and_unload()
        difference = float((merged(input_ids=ids, attention_mask=mask).logits - adapted).abs().max())
    if not difference <= 1e-3 * max(1.0, float(adapted.abs().max())):
        raise UserError(
            f"merging {adapter} changed the logits by {difference:.2g}; is {base} the base it was trained on?"
        )
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    merged.save_pretrained(part)
    processor.save_pretrained(part)
    manifest = read_manifest(adapter)
    if manifest is not None:
        write_manifest(part, replace(manifest, kind="full"))
    part.rename(folder)
    if manifest is not None:
        write_model_card(folder, WorkspaceConfig.from_environment())
    return difference
