"""Shapes of real models, recipes, and the tiny planner with a batch for it, which the tests of the formulas share."""

from dataclasses import replace

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from leap.models.loading import load_weights
from leap.training.accounting import QWEN3_VL, BatchShape
from leap.training.adapters import attach
from leap.training.parts import freeze
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.trainer import supervised_loss

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
