"""FLOPs of a pass and of a step are those that torch counts; the peak of a GPU is that of its data sheet."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from leap.files import read_jsonl
from leap.models.loading import load_processor
from leap.rows.records import row_from_record
from leap.training.accounting import BatchShape, Geometry, forward_flops, peak_flops, training_flops
from leap.training.supervision import PlanningCollator
from leap.training.trainer import supervised_positions
from tests.training.accounting.models import PLAIN, QWEN2_5_VL_7B, RECIPES, inputs_for, model_for, step


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
