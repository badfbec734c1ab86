"""Accounting: formulas against the real classes: counted parameters and FLOPs, kept tensors, saved files."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageTextToText

from configs.errors import UserError
from leap.files import read_jsonl
from leap.models.loading import load_processor, load_weights
from leap.rows.records import row_from_record
from leap.training.accounting import (
    QWEN3_VL,
    BatchShape,
    Geometry,
    checkpoint_bytes,
    estimate_memory,
    forward_flops,
    peak_flops,
    training_flops,
)
from leap.training.accounting.memory import trainable_parameters
from leap.training.adapters import adapter_coverage, attach
from leap.training.parts import PARTS, freeze, part_of
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.supervision import PlanningCollator
from leap.training.trainer import supervised_loss, supervised_positions
from tests.conftest import assert_one_line_error, run_script, unaligned

# As published on the hub: the text's numbers lie beside vision_config.
QWEN2_VL_2B = {
    "model_type": "qwen2_vl", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "hidden_size": 1536},
}  # fmt: skip
QWEN2_5_VL_7B = {
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
                      "out_hidden_size": 3584, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]},
}  # fmt: skip
CONFIGS = {**QWEN3_VL, "qwen2-vl-2b": QWEN2_VL_2B, "qwen2.5-vl-7b": QWEN2_5_VL_7B}

MLP = ["gate_proj", "up_proj", "down_proj"]
PLAIN = TrainingRecipe(bf16=False, gradient_checkpointing=False)
LORA = LoraRecipe(bf16=False, gradient_checkpointing=False, lora_dropout=0.0)
RECIPES = {
    "full": PLAIN,
    "frozen vision": replace(PLAIN, freeze=["vision"]),
    "frozen vision and merger": replace(PLAIN, freeze=["vision", "merger"]),
    "frozen llm": replace(PLAIN, freeze=["llm"]),
    "lora": LORA,
    "lora on queries and values": replace(LORA, lora_target_modules=["q_proj", "v_proj"]),
    "lora on the mlp": replace(LORA, lora_target_modules=MLP, lora_r=32),
    "lora with vision": replace(LORA, lora_vision=True),
}


def on_meta(config):
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.for_model(**config))


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_and_linear_layers_are_those_of_the_real_class(name):
    model, geometry = on_meta(CONFIGS[name]), Geometry.from_config(CONFIGS[name])
    counted = dict.fromkeys(PARTS, 0)
    for parameter, value in model.named_parameters():  # a tied head is listed once
        counted[part_of(parameter)] += value.numel()
    assert geometry.parameters == counted
    real = {
        module.removeprefix("model."): (linear.in_features, linear.out_features)
        for module, linear in model.named_modules()
        if isinstance(linear, torch.nn.Linear)
    }
    ours = {linear.name: (linear.inputs, linear.outputs) for linear in geometry.linears}
    assert ours.pop("visual.patch_embed.proj") == (geometry.vision.pixels, geometry.vision.hidden)  # a convolution
    assert ours == real
    assert Geometry.from_config(model.config) == geometry


@pytest.mark.parametrize(
    "recipe", [LoraRecipe(), replace(LORA, lora_target_modules=MLP, lora_vision=True, use_dora=True)]
)
def test_adapters_have_as_many_parameters_as_peft_gives_them(recipe):
    for name in ("2b", "qwen2.5-vl-7b"):
        config = CONFIGS[name] | {"num_hidden_layers": 2}
        if name == "2b":
            config = CONFIGS[name] | {"text_config": CONFIGS[name]["text_config"] | {"num_hidden_layers": 2}}
        matched = adapter_coverage(attach(on_meta(config), recipe))
        assert trainable_parameters(Geometry.from_config(config), recipe) == matched.trainable


@pytest.fixture(scope="module")
def tiny(demo):
    return Geometry.from_folder(demo / "models" / "tiny-planner")


def model_for(recipe, demo, attention="eager"):
    """The tiny planner as leap.training.run sets it up for a recipe."""
    dtype = "bfloat16" if recipe.bf16 and isinstance(recipe, LoraRecipe) else "float32"
    model = load_weights(demo / "models" / "tiny-planner", dtype, attention)
    if isinstance(recipe, LoraRecipe):
        return attach(model, recipe).train()
    freeze(model, recipe.freeze)
    return model.train()


def inputs_for(model, rows=2, grid=(8, 12), text=200, supervised=60):
    """A batch for the model, and what the formulas need to know of it."""
    config, (height, width) = model.config, grid
    visual = height * width // 4
    ids = torch.full((rows, visual + text), 40)
    ids[:, 1 : 1 + visual] = config.image_token_id
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == config.image_token_id).int(),
        "pixel_values": torch.randn(rows * height * width, 3 * 2 * 16 * 16),
        "image_grid_thw": torch.tensor([[1, height, width]] * rows),
        "logits_to_keep": torch.arange(visual + text - supervised - 1, visual + text - 1),
        "use_cache": False,
    }
    return inputs, BatchShape([visual + text] * rows, [height * width] * rows, rows * supervised)


def step(model, inputs):
    outputs = model(**inputs)
    supervised_loss(outputs, torch.zeros(outputs.logits.shape[:2], dtype=torch.long)).backward()


def as_eager_attention_computes(batch):
    """The causal half of one row of twice the length is the whole square of two rows, which eager attention masks."""
    return replace(batch, text_lengths=[sum(batch.text_lengths)])


def test_flops_of_a_forward_pass_are_those_that_torch_counts(demo, tiny):
    model = model_for(PLAIN, demo)
    inputs, batch = inputs_for(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    flops = forward_flops(tiny, as_eager_attention_computes(batch))
    assert flops.total == counter.get_total_flops()
    assert min(flops.vision, flops.merger, flops.llm, flops.head) > 0


@pytest.mark.parametrize("name", RECIPES)
def test_flops_of_a_training_step_are_those_that_torch_counts(demo, tiny, name):
    model = model_for(RECIPES[name], demo)
    inputs, batch = inputs_for(model)
    with FlopCounterMode(display=False) as counter:
        step(model, inputs)
    flops = training_flops(tiny, as_eager_attention_computes(batch), RECIPES[name])
    # With queries and values adapted, autograd need not compute the gradient of the first layer's keys; kernels do.
    tolerance = 0.02 if name == "lora on queries and values" else 0
    assert flops.total == pytest.approx(counter.get_total_flops(), rel=tolerance, abs=0)


def test_training_everything_costs_three_forward_passes_less_the_gradient_of_the_pixels(tiny):
    batch = BatchShape([300, 200], [96, 96], 100)
    pixels = 2 * 192 * tiny.vision.pixels * tiny.vision.hidden
    assert training_flops(tiny, batch, PLAIN).total == 3 * forward_flops(tiny, batch).total - pixels


def test_packed_rows_do_not_attend_to_each_other(tiny):
    apart, whole = (forward_flops(tiny, BatchShape(lengths, [], 0)).llm for lengths in ([300, 300], [600]))
    assert whole - apart == 3 * 2 * 128 * 2 * 300 * 300


def test_windows_of_attention_cost_less_than_whole_pictures():
    windowed = Geometry.from_config(QWEN2_5_VL_7B)
    whole = replace(windowed, vision=replace(windowed.vision, window=0))
    batch = BatchShape([], [4096], 0)
    assert forward_flops(whole, batch).vision - forward_flops(windowed, batch).vision == 28 * 4 * 1280 * 4096 * (
        4096 - 64
    )


@pytest.mark.parametrize("name", ["full", "frozen vision and merger", "frozen llm", "lora"])
@pytest.mark.parametrize("bf16", [False, True])
def test_weights_gradients_and_optimiser_state_are_exact(demo, tiny, name, bf16):
    recipe = replace(RECIPES[name], bf16=bf16)
    model = model_for(recipe, demo)
    inputs, batch = inputs_for(model, text=70)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        step(model, inputs)
    optimiser.step()
    memory = estimate_memory(tiny, batch, recipe)
    assert memory.weights == sum(p.nbytes for p in model.parameters())
    assert memory.gradients == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    states = [value for state in optimiser.state.values() for key, value in state.items() if key != "step"]
    assert memory.optimiser == sum(value.nbytes for value in states)
    assert memory.total == sum(vars(memory).values())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("full", {}),
        ("full", {"attn_implementation": "eager"}),
        ("full", {"bf16": True}),
        ("full", {"bf16": True, "attn_implementation": "eager"}),
        ("frozen vision", {"bf16": True}),
        ("frozen llm", {"bf16": True}),
        ("lora", {"bf16": True}),
        ("lora with vision", {"bf16": True}),
    ],
)
def test_activations_are_what_autograd_keeps(demo, tiny, name, changes):
    recipe = replace(RECIPES[name], **changes)
    model = model_for(recipe, demo, recipe.attn_implementation)
    inputs, batch = inputs_for(model, grid=(16, 24), text=400)
    del inputs["logits_to_keep"]  # logits are accounted apart
    matrices = {parameter.shape for parameter in model.parameters()}
    kept = {inputs["pixel_values"].data_ptr(): inputs["pixel_values"].untyped_storage()}

    def pack(tensor):
        if tensor.shape not in matrices and tensor.T.shape not in matrices:  # neither a weight nor autocast's copy
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # held: no address comes twice
        return tensor

    planner = model.get_base_model() if isinstance(recipe, LoraRecipe) else model
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        planner.model(**inputs)
    measured = sum(storage.nbytes() for storage in kept.values())
    assert estimate_memory(tiny, batch, recipe).activations == pytest.approx(measured, rel=0.12)


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made inside held at once, besides `given` storages."""

    def __init__(self, given):
        super().__init__()
        self.given, self.sizes, self.live, self.peak = {storage._cdata for storage in given}, {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.given | self.sizes.keys():
                self.sizes[storage._cdata] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, storage._cdata)
        return made

    def _freed(self, key):
        self.live -= self.sizes.pop(key)


@pytest.mark.slow
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
@pytest.mark.parametrize(("name", "bf16"), [("full", False), ("full", True), ("lora on the mlp", True)])
def test_a_step_peaks_where_it_is_said_to(demo, tiny, name, bf16, gradient_checkpointing):
    recipe = replace(RECIPES[name], bf16=bf16, gradient_checkpointing=gradient_checkpointing)
    model = model_for(recipe, demo, "sdpa")
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    inputs, batch = inputs_for(model, grid=(24, 32), text=500)
    for parameter in model.parameters():  # as from the second of several accumulated batches on
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    given = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
    given += [value for value in inputs.values() if isinstance(value, torch.Tensor)]
    with LiveBytes([tensor.untyped_storage() for tensor in given]) as memory:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = model(**inputs)
        outputs.logits = outputs.logits.float()  # as accelerate does
        supervised_loss(outputs, torch.zeros(outputs.logits.shape[:2], dtype=torch.long)).backward()
    said = estimate_memory(tiny, batch, recipe)
    measured = memory.peak + inputs["pixel_values"].nbytes
    assert said.activations + said.logits + said.working == pytest.approx(measured, rel=0.15)


def test_checkpointing_trades_activations_for_one_recomputed_layer():
    geometry = Geometry.from_config(QWEN3_VL["2b"])
    batch = BatchShape([1018] * 6, [3072] * 6, 6 * 62)
    on, off = (
        estimate_memory(geometry, batch, replace(TrainingRecipe(), gradient_checkpointing=value))
        for value in (True, False)
    )
    assert on.activations < off.activations / 4
    assert on.total < off.total
    pure = estimate_memory(geometry, batch, TrainingRecipe(pure_bf16=True, optim="adamw_8bit"))
    parameters = sum(geometry.parameters.values())
    assert pure.weights == pure.gradients == 2 * parameters
    assert pure.optimiser == pytest.approx(2 * (1 + 4 / 256) * parameters)  # a byte each, and their scales
    qlora = replace(LoraRecipe(), load_in_4bit=True)
    saved = estimate_memory(geometry, batch, LoraRecipe()).weights - estimate_memory(geometry, batch, qlora).weights
    assert saved == pytest.approx(1.41e9 * (2 - 0.5), rel=0.02), "the layers of the language model, in half a byte"


@pytest.mark.parametrize("recipe", [PLAIN, replace(LORA, lora_target_modules=["q_proj", "k_proj", *MLP], lora_r=64)])
def test_a_checkpoint_takes_the_disk_that_is_said(demo, tiny, recipe, tmp_path):
    model = model_for(recipe, demo)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    step(model, inputs_for(model)[0])
    optimiser.step()
    model.save_pretrained(tmp_path)
    torch.save(optimiser.state_dict(), tmp_path / "optimizer.pt")
    size = checkpoint_bytes(tiny, recipe)
    weights = next(tmp_path.glob("*.safetensors")).stat().st_size
    assert size.weights == pytest.approx(weights, rel=0.01)
    assert size.optimiser == pytest.approx((tmp_path / "optimizer.pt").stat().st_size, rel=0.02)


def test_a_batch_of_rows_is_what_the_collator_makes_of_them(demo, tiny):
    path = demo / "data" / "train.jsonl"
    collator = PlanningCollator(load_processor(demo / "models" / "tiny-planner"), None, demo)
    rows = [row_from_record(record, str(path), path.parent) for record in read_jsonl(path)[:5]]
    made = collator(rows)
    batch = BatchShape.from_lengths([collator.length(row) for row in rows], tiny)
    assert list(batch.text_lengths) == made["attention_mask"].sum(1).tolist()
    assert sum(batch.image_patches) == made["image_grid_thw"].prod(1).sum()
    positions, targets = supervised_positions(made["labels"])
    assert batch.head_positions == targets.numel() == 5 * len(positions)


@pytest.mark.parametrize(
    ("name", "bf16", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", True, 989.4),
        ("NVIDIA H100 PCIe", True, 756),
        ("NVIDIA H200", True, 989.4),
        ("NVIDIA H20", True, 148),
        ("NVIDIA A100-SXM4-80GB", True, 312),
        ("NVIDIA A100-SXM4-80GB", False, 19.5),
        ("NVIDIA A10", True, 125),
        ("NVIDIA L4", True, 121),
        ("NVIDIA L40S", True, 362),
        ("NVIDIA RTX A6000", True, 154.8),
        ("NVIDIA RTX 6000 Ada Generation", True, 364.2),
        ("NVIDIA GeForce RTX 4090", True, 165.2),
        ("Tesla V100-SXM2-32GB", False, 15.7),
    ],
)
def test_the_peak_of_a_gpu_is_found_by_the_name_the_driver_gives(name, bf16, tera):
    peak = peak_flops(name, bf16)
    assert peak.flops == tera * 1e12
    assert peak.source


@pytest.mark.parametrize(
    "name",
    [
        "Tesla V100-SXM2-32GB",  # has no bfloat16
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A10G",
        "Some GPU of tomorrow",
    ],
)
def test_there_is_no_bfloat16_peak_for_other_hardware(name):
    assert peak_flops(name, bf16=True) is None


def test_a_model_without_formulas_is_an_error_that_names_those_with(tmp_path):
    for config in ({"model_type": "llava"}, {}):
        with pytest.raises(UserError, match=r"no formulas for model type .*qwen2_vl, qwen2_5_vl, qwen3_vl"):
            Geometry.from_config(config)
    with pytest.raises(UserError, match="no formulas for model type 'llama'"):
        Geometry.from_config(AutoConfig.for_model("llama"))
    with pytest.raises(UserError, match="not a config of qwen3_vl"):
        Geometry.from_config({"model_type": "qwen3_vl", "text_config": {"hidden_size": "wide"}})
    with pytest.raises(UserError, match=r"file not found: .*config\.json"):
        Geometry.from_folder(tmp_path)


def test_the_table_for_the_documentation_is_printed():
    done = run_script("benchmark/memory_table.py", "--sizes", "2b", "--rows", 1, 6, "--visual", 768)
    assert done.returncode == 0, done.stderr
    head, rule, *lines = done.stdout.splitlines()
    assert [cell.strip() for cell in head.split("|")[5:-2]] == ["1 row", "6 rows"]
    assert len(lines) == 6
    assert {line.count("|") for line in (head, rule, *lines)} == {head.count("|")}
    assert "Qwen3-VL-2B | full | 2,128 M" in unaligned(lines[0])
    assert_one_line_error(run_script("benchmark/memory_table.py", "--sizes", "3b"), "invalid choice: '3b'", "2b")
    assert_one_line_error(run_script("benchmark/memory_table.py", "--rows", 0), "rows must be > 0", "[0]")
