"""Memory: what a step keeps, peaks at and saves, against counted tensors and files."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from leap.models.loading import load_weights
from leap.training.accounting import QWEN3_VL, BatchShape, Geometry, checkpoint_bytes, estimate_memory, rollout_bytes
from leap.training.accounting.memory import trainable_parameters
from leap.training.adapters import adapter_coverage, attach
from leap.training.recipes import LoraRecipe, ReinforcementLoraRecipe, ReinforcementRecipe, TrainingRecipe
from leap.training.trainer import supervised_loss
from tests.conftest import assert_one_line_error, run_script, unaligned
from tests.training.accounting.models import CONFIGS, LORA, MLP, PLAIN, RECIPES, inputs_for, model_for, on_meta, step


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
    # An adapter's share is in proportion only where activations are many; what is trained whole is slow in bfloat16.
    shape = {"grid": (24, 32), "text": 500} if isinstance(recipe, LoraRecipe) else {"grid": (16, 24), "text": 250}
    inputs, batch = inputs_for(model, **shape)
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


def test_completions_hold_the_keys_and_values_that_a_model_keeps(demo):
    model = load_weights(demo / "models" / "tiny-planner", "float32")
    tokens, completions = 7, 4
    ids = torch.ones(completions, tokens, dtype=torch.long)
    kept = model(input_ids=ids, use_cache=True).past_key_values
    counted = sum(layer.keys.nbytes + layer.values.nbytes for layer in kept.layers)
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "num_generations": 2, "bf16": False}
    geometry = Geometry.from_config(model.config.to_dict())
    recipe = ReinforcementRecipe(**sizes, max_completion_length=3, beta=0.0)
    assert rollout_bytes(geometry, recipe, tokens - 3) == counted
    reference = rollout_bytes(geometry, replace(recipe, beta=0.1), tokens - 3) - counted
    assert reference == sum(parameter.nbytes for parameter in model.parameters())
    adapter = ReinforcementLoraRecipe(**sizes, max_completion_length=3, beta=0.1)
    assert rollout_bytes(geometry, adapter, tokens - 3) == counted
