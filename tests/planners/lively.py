"""The tiny planner with large random weights: untrained as it is, it repeats one token whatever it is shown."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AddedToken

from configs.config import WorkspaceConfig
from leap.blind.options import OutputOptions
from leap.models.loading import load_processor, load_weights
from leap.planners import Query
from leap.planners.huggingface import HuggingFacePlanner
from leap.vlabench.examples import find_examples
from leap.vlabench.prompts import PromptWriter

PLAN = '```json\n[{"name":"pick","params":{"target_entity_name":3}}]\n'  # up to its closing fence


def write_lively(base: Path, folder: Path, **generation: object) -> Path:
    """Write it to `folder`, with these settings of its own for generation."""
    model = load_weights(base, "float32")
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.update(**generation)
    model.save_pretrained(folder)
    load_processor(base).save_pretrained(folder)
    return folder


def make_parrot(base, folder, said):
    """A model that says these texts in order, whatever it is asked, then the last one for ever: its layers add nothing,
    so that the next token depends on the last one only."""
    processor, model = load_processor(base), load_weights(base, "float32")
    processor.tokenizer.add_tokens([AddedToken(text, normalized=False) for text in said])
    model.resize_token_embeddings(len(processor.tokenizer))
    language = model.model.language_model
    torch.manual_seed(0)
    seen = torch.nn.init.normal_(language.embed_tokens.weight.data)
    for layer in language.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(seen))
    ids = processor.tokenizer.convert_tokens_to_ids(said)
    last_of_prompt = processor.tokenizer("<|im_start|>assistant\n").input_ids[-1]
    for before, token in zip([last_of_prompt, *ids], [*ids, ids[-1]], strict=True):
        model.lm_head.weight.data[token] += seen[before]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def write_adapter(base: Path, folder: Path, **settings: object) -> Path:
    """Write an adapter on the language model of `base` to `folder`, which changes its answers."""
    torch.manual_seed(0)
    knobs = {"r": 4, "target_modules": r".*language_model.*q_proj"} | settings
    model = get_peft_model(load_weights(base, "float32"), LoraConfig(**knobs))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    load_processor(base).save_pretrained(folder)
    return folder


def queries_of(demo, shots=(0, 2), **options):
    """Prompts of unequal length, with two and with six pictures."""
    examples = find_examples(demo / "dataset" / "vlm_evaluation_v1.0", ["Spatial"])["Spatial"]
    found = []
    for count in shots:
        writer = PromptWriter(WorkspaceConfig(demo), "builtin", few_shot_num=count, pool=examples)
        for example in examples:
            messages = [{"role": "user", "content": writer.write(example)}]
            found.append(Query(f"{count} {example.place}", example.task, messages, **options))
    return found


def planner_of(folder, **options):
    """With knobs for drawing; an answer stops at its plan as in an evaluation."""
    return HuggingFacePlanner(folder, OutputOptions(**{"device": "cpu", "stop_at_plan": True} | options))


def answers(planner, batches):
    """{key: answer or failure} of what the planner makes of these batches, in their order."""
    return {query.key: result for results in planner.answer(batches) for query, result in results}
