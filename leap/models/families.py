"""What is known of a family of models, by the model_type of its config: where its parts stand, and what works with it.

A family without an entry trains all the same, by the parts that its loaded model names itself, and with nothing that
would have to be tried first.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leap.files import read_json

PARTS = ("vision", "merger", "llm")

_SIGLIP_LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class Family:
    """Modules are named by the last parts of their dotted names; "" is none."""

    language: str  # the language model; embeddings and head count to it
    vision: str  # the vision tower
    merger: tuple[str, ...]  # what maps pictures into the language model, inside the tower or beside it
    blocks: str  # where in the vision tower `vision_linears` stand, on which lora_vision puts adapters
    vision_linears: tuple[str, ...] = _SIGLIP_LINEARS
    pixel_budget: bool = False  # its processor resizes pictures to a number of visual tokens; takes videos
    packing: bool = False  # rows of a pack can be kept apart, and their positions computed
    accounting: bool = False  # formulas of FLOPs, memory and disk (leap/training/accounting/geometry.py)
    fast_parts: bool = False  # faster parts that compute the same; layers compiled by default
    whole_gradient: bool = False  # a row with a picture has a gradient for every parameter

    def part_of(self, parameter_name: str) -> str:
        """The part that a parameter, or module, belongs to: one of PARTS."""
        if _inside(self.merger).search(parameter_name):
            return "merger"
        return "vision" if _inside((self.vision,)).search(parameter_name) else "llm"


@functools.cache
def _inside(modules: tuple[str, ...]) -> re.Pattern:
    names = "|".join(re.escape(module) for module in modules if module)
    return re.compile(rf"(?:^|\.)(?:{names})(?:\.|$)" if names else r"(?!)")


# deepstack_merger_list belongs to the merger: it maps vision features of early layers into the language model.
QWEN = Family(
    language="language_model",
    vision="visual",
    merger=("visual.merger", "visual.deepstack_merger_list"),
    blocks="visual.blocks",
    vision_linears=("qkv", "proj", "linear_fc1", "linear_fc2", "gate_proj", "up_proj", "down_proj"),
    pixel_budget=True,
    packing=True,
    accounting=True,
    fast_parts=True,
    whole_gradient=True,
)
# Its linear attention has a state that runs on from row to row of a pack.
_QWEN3_5 = replace(QWEN, packing=False, accounting=False, fast_parts=False)
_IDEFICS = Family("text_model", "vision_model", ("connector",), "vision_model")
_LLAVA = Family("language_model", "vision_tower", ("multi_modal_projector",), "vision_tower")

FAMILIES = {
    "qwen2_vl": QWEN,
    "qwen2_5_vl": QWEN,
    "qwen3_vl": QWEN,
    "qwen3_vl_moe": replace(QWEN, accounting=False, fast_parts=False),
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "smolvlm": _IDEFICS,
    "idefics3": _IDEFICS,
    "internvl": replace(_LLAVA, vision_linears=("q_proj", "k_proj", "v_proj", "projection_layer", "fc1", "fc2")),
    "llava_onevision": replace(_LLAVA, merger=("multi_modal_projector", "image_newline")),
    "gemma3": _LLAVA,
}


UNKNOWN = Family("", "", (), "")


def family_of(model: Any) -> Family:
    """The family of a loaded model: its entry, else what the model itself names of its parts."""
    return FAMILIES.get(model.config.model_type) or _derived(model)


def family_in(folder: Path) -> Family:
    """The entry of the model_type in the config.json of a folder, without one a family that can nothing."""
    return FAMILIES.get(read_json(folder / "config.json").get("model_type"), UNKNOWN)


def _derived(model: Any) -> Family:
    """What stands beside language model and vision tower in the same module maps the one into the other."""
    names = {module: name for name, module in model.named_modules()}
    encoder = model.get_encoder(modality="image")
    language, vision = (names.get(part, "") for part in (model.get_decoder(), encoder))
    if not language or not vision or language == vision:
        return replace(UNKNOWN, language=language)
    home = language.rpartition(".")[0]
    around = model.get_submodule(home)
    beside = [*dict(around.named_children()), *dict(around.named_parameters(recurse=False))]
    others = (f"{home}.{name}".lstrip(".") for name in beside if name != "lm_head")
    merger = tuple(name for name in others if name not in (language, vision))
    return Family(language, vision, merger, vision, _linear_names(encoder))


def _linear_names(module: Any) -> tuple[str, ...]:
    import torch

    linears = (name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear))
    return tuple(sorted({name.rpartition(".")[2] for name in linears}))


def families_with(capability: str) -> str:
    """The model types with a capability, a field of Family, in words."""
    return ", ".join(name for name, family in FAMILIES.items() if getattr(family, capability))


def capability_table() -> str:
    """Markdown: what works with each family, and with one that has no entry."""
    columns = {
        "pixel_budget": "`--image_tokens_*`, `--overlong shrink`, videos",
        "packing": "`--packing`",
        "accounting": "memory, disk and MFU",
        "fast_parts": "fast parts",
    }
    lines = [f"| `model_type` | {' | '.join(columns.values())} |", f"| --- |{' :-: |' * len(columns)}"]
    for name, family in [*FAMILIES.items(), ("any other", UNKNOWN)]:
        marks = ("yes" if getattr(family, column) else "no" for column in columns)
        lines.append(f"| {name if family is UNKNOWN else f'`{name}`'} | {' | '.join(marks)} |")
    return "\n".join(lines)
