"""The shape of a Qwen-VL model: its linear layers in the order they run, and its parameters by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import read_json
from leap.training.parts import PARTS, part_of

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@dataclass(frozen=True)
class Linear:
    """A matrix product with a weight (outputs, inputs). `rows` says what it runs over: patches, merged, tokens, or the
    head's positions."""

    name: str  # of its module, without "model." in front
    inputs: int
    outputs: int
    rows: str  # "patch", "merged", "token" or "head"
    bias: bool = False
    tied: bool = False  # its weight is the embedding's

    @property
    def part(self) -> str:
        return part_of(self.name)

    @property
    def weights(self) -> int:
        """Parameters of its own."""
        return 0 if self.tied else self.outputs * (self.inputs + self.bias)


@dataclass(frozen=True)
class LinearGroup:
    """Linear layers that read the same input; `attends` names the attention over what they put out, if any."""

    linears: tuple[Linear, ...]
    attends: str = ""  # "row": causal over a row's tokens; "image": all patches of a picture; "window"


@dataclass(frozen=True)
class TextShape:
    """The language model."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool  # the head is the embedding
    qkv_bias: bool
    qk_norm: bool

    @property
    def attention(self) -> int:
        """Width of the queries."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class VisionShape:
    """The vision tower and its mergers."""

    depth: int
    hidden: int
    heads: int
    intermediate: int
    gated: bool  # gate, up and down projection and RMSNorm, else two layers and LayerNorm
    pixels: int  # numbers in a patch: channels x temporal patch x patch x patch
    patch_bias: bool
    positions: int  # learned position embeddings, 0 if it has none
    merge: int  # a merged token covers merge x merge patches
    output: int
    deepstack: int  # mergers besides the last
    window: int  # patches a window of attention holds, 0 if every block sees the whole picture
    whole: tuple[int, ...]  # blocks that see the whole picture although there are windows


@dataclass(frozen=True)
class Geometry:
    """All that the formulas need to know about a model."""

    family: str
    text: TextShape
    vision: VisionShape

    @classmethod
    def from_config(cls, config: Any) -> Geometry:
        """From a transformers config, or the content of a config.json. UserError if the architecture is not known."""
        if isinstance(config, dict):
            config = _as_config(config)
        family = getattr(config, "model_type", None)
        if family not in FAMILIES:
            raise UserError(f"no formulas for model type {family!r}; they are known for {', '.join(FAMILIES)}")
        return cls(family, _text(family, config), _vision(family, config.vision_config))

    @classmethod
    def from_folder(cls, folder: Path) -> Geometry:
        """From the config.json in the folder of a full model. UserError as `from_config`, or if there is none."""
        return cls.from_config(read_json(folder / "config.json"))

    @cached_property
    def groups(self) -> tuple[LinearGroup, ...]:
        """Every matrix product of a forward pass: pictures first, mergers, then the text layers and the head."""
        return (*_vision_groups(self), *_merger_groups(self), *_text_groups(self))

    @property
    def linears(self) -> list[Linear]:
        return [linear for group in self.groups for linear in group.linears]

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Number of parameters by part ("vision", "merger", "llm"); a tied head counts once."""
        sizes = dict.fromkeys(PARTS, 0)
        for linear in self.linears:
            sizes[linear.part] += linear.weights
        text, vision = self.text, self.vision
        norm = vision.hidden * (1 if vision.gated else 2)  # a LayerNorm has weight and bias, an RMSNorm weight only
        sizes["vision"] += vision.positions * vision.hidden + 2 * vision.depth * norm
        sizes["merger"] += norm + vision.deepstack * norm * vision.merge**2
        per_layer = 2 * text.hidden + (2 * text.head_dim if text.qk_norm else 0)
        sizes["llm"] += text.vocab * text.hidden + text.layers * per_layer + text.hidden
        return sizes


def _as_config(content: dict) -> Any:
    """Transformers' own reading of a config.json: it fills defaults and knows the flat form of older ones."""
    family = content.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"no formulas for model type {family!r}; they are known for {', '.join(FAMILIES)}")
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(**content)
    except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"not a config of {family}: {str(error).splitlines()[0]}") from error


def _text(family: str, config: Any) -> TextShape:
    text = config.text_config
    return TextShape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        intermediate=text.intermediate_size,
        vocab=text.vocab_size,
        tied=config.tie_word_embeddings,
        qkv_bias=family != "qwen3_vl",
        qk_norm=family == "qwen3_vl",
    )


def _vision(family: str, vision: Any) -> VisionShape:
    old, new = family == "qwen2_vl", family == "qwen3_vl"
    hidden = vision.embed_dim if old else vision.hidden_size
    windowed = family == "qwen2_5_vl"
    return VisionShape(
        depth=vision.depth,
        hidden=hidden,
        heads=vision.num_heads,
        intermediate=int(hidden * vision.mlp_ratio) if old else vision.intermediate_size,
        gated=windowed,
        pixels=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        patch_bias=new,
        positions=vision.num_position_embeddings if new else 0,
        merge=vision.spatial_merge_size,
        output=vision.hidden_size if old else vision.out_hidden_size,
        deepstack=len(vision.deepstack_visual_indexes) if new else 0,
        window=(vision.window_size // vision.patch_size) ** 2 if windowed else 0,
        whole=tuple(vision.fullatt_block_indexes) if windowed else (),
    )


def _vision_groups(geometry: Geometry) -> Iterator[LinearGroup]:
    vision, width = geometry.vision, geometry.vision.hidden
    yield LinearGroup((Linear("visual.patch_embed.proj", vision.pixels, width, "patch", vision.patch_bias),))
    first, last = {
        "qwen2_vl": (("fc1",), "fc2"),
        "qwen2_5_vl": (("gate_proj", "up_proj"), "down_proj"),
        "qwen3_vl": (("linear_fc1",), "linear_fc2"),
    }[geometry.family]
    for i in range(vision.depth):
        block = f"visual.blocks.{i}"
        attends = "window" if vision.window and i not in vision.whole else "image"
        yield LinearGroup((Linear(f"{block}.attn.qkv", width, 3 * width, "patch", True),), attends)
        yield LinearGroup((Linear(f"{block}.attn.proj", width, width, "patch", True),))
        yield LinearGroup(tuple(Linear(f"{block}.mlp.{n}", width, vision.intermediate, "patch", True) for n in first))
        yield LinearGroup((Linear(f"{block}.mlp.{last}", vision.intermediate, width, "patch", True),))


def _merger_groups(geometry: Geometry) -> Iterator[LinearGroup]:
    vision = geometry.vision
    names = ("linear_fc1", "linear_fc2") if geometry.family == "qwen3_vl" else ("mlp.0", "mlp.2")
    width = vision.hidden * vision.merge**2
    mergers = [f"visual.deepstack_merger_list.{i}" for i in range(vision.deepstack)]
    for merger in (*mergers, "visual.merger"):
        yield LinearGroup((Linear(f"{merger}.{names[0]}", width, width, "merged", True),))
        yield LinearGroup((Linear(f"{merger}.{names[1]}", width, vision.output, "merged", True),))


def _text_groups(geometry: Geometry) -> Iterator[LinearGroup]:
    text = geometry.text
    widths = {"q_proj": text.attention, "k_proj": text.kv, "v_proj": text.kv}
    for i in range(text.layers):
        attn, mlp = f"language_model.layers.{i}.self_attn", f"language_model.layers.{i}.mlp"
        qkv = (Linear(f"{attn}.{n}", text.hidden, w, "token", text.qkv_bias) for n, w in widths.items())
        yield LinearGroup(tuple(qkv), "row")
        yield LinearGroup((Linear(f"{attn}.o_proj", text.attention, text.hidden, "token"),))
        up = (Linear(f"{mlp}.{n}", text.hidden, text.intermediate, "token") for n in ("gate_proj", "up_proj"))
        yield LinearGroup(tuple(up))
        yield LinearGroup((Linear(f"{mlp}.down_proj", text.intermediate, text.hidden, "token"),))
    yield LinearGroup((Linear("lm_head", text.hidden, text.vocab, "head", tied=text.tied),))


def _qwen3_vl(text: tuple[int, int, int, int], vision: tuple[int, int, int], deepstack: list[int], tied: bool) -> dict:
    """A config of Qwen3-VL: text (layers, width, intermediate, heads), vision (depth, width, intermediate)."""
    layers, width, intermediate, heads = text
    return {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": tied,
        "text_config": {
            "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": intermediate,
            "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]},
        },
        "vision_config": {
            "depth": vision[0], "hidden_size": vision[1], "intermediate_size": vision[2], "num_heads": 16,
            "out_hidden_size": width, "deepstack_visual_indexes": deepstack, "patch_size": 16,
            "temporal_patch_size": 2, "spatial_merge_size": 2, "num_position_embeddings": 2304, "in_channels": 3,
        },
    }  # fmt: skip


# The config.json of Qwen/Qwen3-VL-{2B,4B,8B}-Instruct, as copied in pytorch/torchtitan (experiments/qwen3_vl, 2B and
# 8B), a Qwen3VLConfig in DiffSynth's text encoder (4B) and nikolay-grudanov/Team_5_AI_Tutor (8B).
QWEN3_VL = {
    "2b": _qwen3_vl((28, 2048, 6144, 16), (24, 1024, 4096), [5, 11, 17], tied=True),
    "4b": _qwen3_vl((36, 2560, 9728, 32), (24, 1024, 4096), [5, 11, 17], tied=True),
    "8b": _qwen3_vl((36, 4096, 12288, 32), (27, 1152, 4304), [8, 16, 24], tied=False),
}


def sized_config(size: str, folder: Path) -> Any:
    """The config of Qwen3-VL in a `size` of QWEN3_VL, with the control tokens of the planner in `folder`, for random
    weights beside that planner's processor."""
    from transformers import AutoConfig

    planner = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return AutoConfig.for_model(**QWEN3_VL[size] | {name: getattr(planner, name) for name in names})
