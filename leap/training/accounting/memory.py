"""Memory of a training step on one GPU, and the disk that a checkpoint takes. Estimates by formula, in bytes.

Exact: weights, gradients, optimiser state. Activations are what autograd keeps in transformers 5.23 with SDPA; under
gradient checkpointing that is the input of every layer and, once, all of the largest layer while it is recomputed.
Left out: fragmentation of the allocator, buffers of distributed training, and the temporaries (4 bytes a trainable
parameter) of an AdamW that is not fused. On a CPU, steps of small models peaked at 90 to 103 % of what is said here
without the context; no GPU has been measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from leap.text import markdown_table
from leap.training.accounting.flops import BatchShape, adapted, trained_parts
from leap.training.accounting.geometry import QWEN3_VL, Geometry, Linear
from leap.training.lengths import RowLength
from leap.training.recipes import LoraRecipe, ReinforcementRecipe, TrainingRecipe

CUDA_CONTEXT = 600 * 2**20  # the driver's context and cuBLAS workspaces; between 0.4 and 0.8 GiB on current GPUs
_ADAM_STATES = 2
_8BIT_BYTES = 1 + 4 / 256  # a byte, and a float32 scale for every block of 256
_NF4_BYTES = 0.5 + 1 / 64  # half a byte, and a doubly quantised scale for every block of 64


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what they are for."""

    weights: int
    gradients: int
    optimiser: int
    activations: int  # kept from the forward pass for the backward pass
    logits: int
    working: int  # autocast's copies of the weights, or the layer that the backward pass is in: whichever is more
    context: int = CUDA_CONTEXT

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / 1e9:.3g}" for name, size in asdict(self).items())
        return f"{self.total / 1e9:.3g} GB ({parts})"


@dataclass(frozen=True)
class CheckpointSize:
    """Bytes that a checkpoint takes on disk, without tokenizer and logs."""

    weights: int
    optimiser: int  # goes with the run state; old checkpoints drop it

    @property
    def total(self) -> int:
        return self.weights + self.optimiser


@dataclass(frozen=True)
class _Widths:
    """Bytes a number."""

    weight: int  # of the model
    trained: int  # of weights that train, and their gradients
    compute: int  # of products
    stream: int  # of what passes from layer to layer


def estimate_memory(geometry: Geometry, batch: BatchShape, recipe: TrainingRecipe) -> MemoryEstimate:
    """Peak memory of a training step of `batch` (one forward pass) on one GPU.

    Full fine-tuning holds float32 weights and computes in bfloat16 if the recipe says so; with an adapter the base is
    held in bfloat16 then (the language model in 4 bits where the recipe says so), as leap.training.run does. Under
    `pure_bf16` all weights, gradients and states are bfloat16. Rows are padded to the longest. Attention other than
    "eager" keeps no square of the length.
    """
    widths = _widths(recipe)
    trainable = trainable_parameters(geometry, recipe)
    adapter = sum(adapter_parameters(geometry, recipe).values())
    activations, in_work = _activations(geometry, batch, recipe, widths)
    copies = _weight_copies(geometry, recipe, widths)
    # The head's gradient in the type of its product and cast to that of the weight: the largest matrix by far.
    head = geometry.text.vocab * geometry.text.hidden if "llm" in trained_parts(recipe) else 0
    in_work = max(in_work, head * (widths.trained + widths.compute * (widths.compute < widths.trained)))
    return MemoryEstimate(
        weights=_base_weights(geometry, recipe, widths) + adapter * widths.trained,
        gradients=trainable * widths.trained,
        optimiser=round(trainable * _optimiser_bytes(recipe, widths)),
        activations=activations,
        # float32 logits, those of supervised tokens, their log-softmax (in the backward pass: its gradients instead)
        logits=12 * batch.head_positions * geometry.text.vocab,
        # A checkpointed layer drops its copies at the end of the forward pass, others keep them for the backward pass.
        working=max(copies, in_work) if recipe.gradient_checkpointing else copies + in_work,
    )


def rollout_bytes(geometry: Geometry, recipe: ReinforcementRecipe, prompt_tokens: int) -> int:
    """What training by rewards holds beside a step's own memory: keys and values of all completions of a step on this
    device, prompts of so many tokens, and the copy of the start that the KL divergence of whole models needs.

    The first are there while completions are written, before the activations of the step are: that is the careful side.
    """
    widths, text = _widths(recipe), geometry.text
    completions = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
    token = 2 * text.layers * text.kv * widths.compute
    cache = completions * (prompt_tokens + recipe.max_completion_length) * token
    adapter = isinstance(recipe, LoraRecipe)
    reference = 0 if adapter or not recipe.beta else sum(geometry.parameters.values()) * widths.weight
    return cache + reference


def checkpoint_bytes(geometry: Geometry, recipe: TrainingRecipe) -> CheckpointSize:
    """Disk of one checkpoint with optimiser state: the whole model (a tied head once), or the adapter alone."""
    widths = _widths(recipe)
    adapter = isinstance(recipe, LoraRecipe)
    saved = (adapter_parameters(geometry, recipe) if adapter else geometry.parameters).values()
    return CheckpointSize(
        weights=sum(saved) * (widths.trained if adapter else widths.weight),
        optimiser=round(trainable_parameters(geometry, recipe) * _optimiser_bytes(recipe, widths)),
    )


def trainable_parameters(geometry: Geometry, recipe: TrainingRecipe) -> int:
    """How many parameters receive updates: those of the parts that are not frozen, or the adapter's."""
    if isinstance(recipe, LoraRecipe):
        return sum(adapter_parameters(geometry, recipe).values())
    return sum(geometry.parameters[part] for part in trained_parts(recipe))


def adapter_parameters(geometry: Geometry, recipe: TrainingRecipe) -> dict[str, int]:
    """Parameters of the adapter by part: rank x (inputs + outputs) a layer, with DoRA one more an output."""
    sizes: dict[str, int] = {}
    if not isinstance(recipe, LoraRecipe):
        return sizes
    for linear in adapted(geometry, recipe):
        size = recipe.lora_r * (linear.inputs + linear.outputs) + (linear.outputs if recipe.use_dora else 0)
        sizes[linear.part] = sizes.get(linear.part, 0) + size
    return sizes


def _base_weights(geometry: Geometry, recipe: TrainingRecipe, widths: _Widths) -> int:
    whole = sum(geometry.parameters.values()) * widths.weight
    if not getattr(recipe, "load_in_4bit", False):
        return whole
    text_linears = (linear for linear in geometry.linears if linear.name.startswith("language_model"))
    cut = sum(linear.inputs * linear.outputs for linear in text_linears)
    return whole - round(cut * (widths.weight - _NF4_BYTES))


def _optimiser_bytes(recipe: TrainingRecipe, widths: _Widths) -> float:
    """Bytes of AdamW's two states for a trainable parameter."""
    return _ADAM_STATES * (_8BIT_BYTES if recipe.optim == "adamw_8bit" else widths.trained)


def _widths(recipe: TrainingRecipe) -> _Widths:
    if recipe.pure_bf16:
        return _Widths(weight=2, trained=2, compute=2, stream=2)
    if not recipe.bf16:
        return _Widths(weight=4, trained=4, compute=4, stream=4)
    if isinstance(recipe, LoraRecipe):
        return _Widths(weight=2, trained=4, compute=2, stream=2)
    return _Widths(weight=4, trained=4, compute=2, stream=4)  # embeddings and residual sums stay float32


def _moving(geometry: Geometry, recipe: TrainingRecipe) -> set[str]:
    """The parts that gradients reach: those that train, and all that come after one."""
    trains = {*trained_parts(recipe), *adapter_parameters(geometry, recipe)}
    return trains | ({"merger", "llm"} if "vision" in trains else {"llm"})


def _weight_copies(geometry: Geometry, recipe: TrainingRecipe, widths: _Widths) -> int:
    """Autocast keeps a bfloat16 copy of every float32 matrix that gradients pass through, as long as autograd does."""
    if widths.compute == widths.weight:
        return 0
    moving = _moving(geometry, recipe)
    return widths.compute * sum(linear.inputs * linear.outputs for linear in geometry.linears if linear.part in moving)


def _activations(geometry: Geometry, batch: BatchShape, recipe: TrainingRecipe, widths: _Widths) -> tuple[int, int]:
    """What is kept for the backward pass, and what that needs besides at its largest layer.

    1. Around the layers: embeddings, the tower's output, the mergers' inputs, the pixels.
    2. Of each stack of layers: how many, what passes from one to the next, what one keeps.
    3. Checkpointing keeps what passes between layers, and recomputes one layer at a time (arXiv 1604.06174); without
       it every layer keeps its own.
    """
    text, vision = geometry.text, geometry.vision
    moving = _moving(geometry, recipe)
    tokens, patches = max(batch.text_lengths, default=0) * len(batch.text_lengths), sum(batch.image_patches)
    total = tokens * text.hidden * (2 * widths.stream + 4)  # embeddings, the same with pictures, the last norm
    features = patches // vision.merge**2 * vision.output * (vision.deepstack + 1)
    total += features * widths.compute + patches * vision.hidden * widths.stream  # what the tower puts out
    # By part: number of layers; numbers that pass from one to the next; bytes kept in one; widest numbers inside.
    layer = tokens * _text_layer(geometry, batch, recipe, widths)
    layers = [(text.layers, tokens * text.hidden, layer, tokens * text.intermediate)]
    if "merger" in moving:
        total += patches * (vision.deepstack + 1) * vision.hidden * (widths.stream + 3 * widths.compute)
    total += patches * vision.pixels * 4
    if "vision" in trained_parts(recipe) and widths.compute < 4:
        total += patches * vision.pixels * widths.compute
    if "vision" in moving:
        block = patches * _vision_block(geometry, batch, recipe, widths)
        layers.append((vision.depth, patches * vision.hidden, block, patches * vision.intermediate))
    if recipe.gradient_checkpointing:  # gradients inside the recomputed layer grow as what it kept is freed
        total += sum(number * widths.stream * width for number, width, _, _ in layers)
        return total, max(size for _, _, size, _ in layers)
    # Gradients on their way through a layer: of its MLP's three products, and of its input and residual sum. An
    # adapter's input is cast to float32 before its dropout.
    inside = 3 * widths.compute + (4 if isinstance(recipe, LoraRecipe) else 0)
    passing = max(inside * widest + 2 * widths.stream * width for _, width, _, widest in layers)
    return total + sum(number * size for number, _, size, _ in layers), passing


def _text_layer(geometry: Geometry, batch: BatchShape, recipe: TrainingRecipe, widths: _Widths) -> int:
    """Bytes a token that one text layer keeps."""
    text, compute, stream = geometry.text, widths.compute, widths.stream
    trains = "llm" in trained_parts(recipe)
    padded = len(set(batch.text_lengths)) > 1
    longest = max(batch.text_lengths, default=0)
    # Each norm computes in float32 and keeps its input; where its weight trains, also what that multiplies.
    numbers = 2 * text.hidden * (4 + stream * trains)
    if trains:  # inputs of q, k, v and of gate, up: autocast makes each linear layer a copy of its own
        numbers += text.hidden * compute * (5 if compute < stream else 2)
    if text.qk_norm:
        numbers += (text.attention + text.kv) * (4 + compute * trains)
    # Queries, keys, values, output; with a mask the keys and values are repeated for every head.
    numbers += compute * (4 * text.attention if padded else 2 * text.attention + 2 * text.kv)
    numbers += text.intermediate * compute * (3 + trains)
    if recipe.attn_implementation == "eager":
        numbers += text.heads * longest * _square(widths)
    elif padded:
        numbers += compute * longest
    return numbers + _adapter_inputs(adapted(geometry, recipe), "language_model.layers.0.", recipe, widths)


def _vision_block(geometry: Geometry, batch: BatchShape, recipe: TrainingRecipe, widths: _Widths) -> int:
    """Bytes a patch that one block of the vision tower keeps."""
    vision, compute, stream = geometry.vision, widths.compute, widths.stream
    trains = "vision" in trained_parts(recipe)
    # Two norms; queries, keys, the qkv they are cut from, output; what qkv and proj multiply if they train.
    numbers = vision.hidden * (2 * stream + compute * (6 + 3 * trains)) + vision.intermediate * compute * (1 + trains)
    if vision.gated:  # RMSNorm computes in float32; gate, up, activation and product
        numbers += 2 * vision.hidden * 4 + vision.intermediate * 2 * compute
    if recipe.attn_implementation == "eager":
        width = sum(patches**2 for patches in batch.image_patches) // max(1, sum(batch.image_patches))
        numbers += vision.heads * width * _square(widths)
    return numbers + _adapter_inputs(adapted(geometry, recipe), "visual.blocks.0.", recipe, widths)


def _square(widths: _Widths) -> int:
    """Bytes a pair of positions and head that eager attention keeps: the softmax in float32 and as it multiplies."""
    return 4 + widths.compute * (widths.compute < 4)


def _adapter_inputs(linears: Iterable[Linear], layer: str, recipe: TrainingRecipe, widths: _Widths) -> int:
    """Bytes a row that the adapters of one layer keep: a copy of the input, the dropout mask, what lies between."""
    if not isinstance(recipe, LoraRecipe):
        return 0
    carriers = [linear for linear in linears if linear.name.startswith(layer)]
    return sum(
        linear.inputs * (widths.compute + (recipe.lora_dropout > 0)) + recipe.lora_r * widths.compute
        for linear in carriers
    )


def memory_table(
    sizes: Sequence[str], recipes: Mapping[str, TrainingRecipe], rows: Sequence[int], visual: Sequence[int], text: int
) -> str:
    """Markdown: GiB on one GPU by model size (keys of QWEN3_VL), recipe by name, visual tokens a row and rows at once.

    `text` tokens of prompt and plan a row, a quarter of them supervised. The last column is the disk of one checkpoint.
    """
    head = [
        "model",
        "training",
        "trainable",
        "visual tokens",
        *(f"{n} row{'s' if n > 1 else ''}" for n in rows),
        "checkpoint",
    ]
    lines = [head]
    for size in sizes:
        geometry = Geometry.from_config(QWEN3_VL[size])
        for name, recipe in recipes.items():
            trainable = f"{trainable_parameters(geometry, recipe) / 1e6:,.0f} M"
            disk = f"{checkpoint_bytes(geometry, recipe).total / 1e9:.1f} GB"
            for tokens in visual:
                row = RowLength(tokens, prompt=text - text // 4, supervised=text // 4)
                totals = [
                    estimate_memory(geometry, BatchShape.from_lengths([row] * n, geometry), recipe).total for n in rows
                ]
                cells = [f"{total / 2**30:.0f}" for total in totals]
                lines.append([f"Qwen3-VL-{size.upper()}", name, trainable, str(tokens), *cells, disk])
    return markdown_table(lines, right_from=3)
