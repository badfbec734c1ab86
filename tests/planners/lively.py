"""The tiny planner with large random weights: untrained as it is, it repeats one token whatever it is shown."""

from __future__ import annotations

from pathlib import Path

import torch

from configs.config import WorkspaceConfig
from leap.blind.options import OutputOptions
from leap.models.loading import load_processor, load_weights
from leap.planners import Query
from leap.planners.huggingface import HuggingFacePlanner
from leap.vlabench.examples import find_examples
from leap.vlabench.prompts import PromptWriter


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
