"""What a training run takes, by formula from a model's config alone: parameters, FLOPs, memory, disk.

No weights are loaded; torch is never imported, transformers only to read a config. Formulas hold for the Qwen-VL
families that `Geometry` knows and are checked against the real classes in tests/training/accounting/.
"""

from leap.training.accounting.flops import BatchShape, PartFlops, PeakSpeed, forward_flops, peak_flops, training_flops
from leap.training.accounting.geometry import QWEN3_VL, Geometry, sized_config
from leap.training.accounting.memory import (
    CheckpointSize,
    MemoryEstimate,
    checkpoint_bytes,
    estimate_memory,
    memory_table,
    rollout_bytes,
)

__all__ = [
    "QWEN3_VL",
    "BatchShape",
    "CheckpointSize",
    "Geometry",
    "MemoryEstimate",
    "PartFlops",
    "PeakSpeed",
    "checkpoint_bytes",
    "estimate_memory",
    "forward_flops",
    "memory_table",
    "peak_flops",
    "rollout_bytes",
    "sized_config",
    "training_flops",
]
