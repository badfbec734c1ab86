"""The patch embedding of a vision tower as a matrix product instead of a convolution.

Qwen's vision towers get pictures cut into patches and embed each by a Conv3d whose kernel is the whole patch: one
product of (patches, pixels of a patch) by (pixels of a patch, width). As a convolution it is several times slower on a
CPU, and cuDNN looks for a kernel anew for every number of patches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class PatchConvolution(nn.Conv3d):
    """A Conv3d over inputs of exactly its kernel's size, computed as a product.

    The parameters keep the names and shapes of the convolution, so that checkpoints, optimiser states, adapters and
    patterns by name know no difference (transformers' fusion of patch embeddings renames and reshapes them).
    """

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """patches  # (patches, channels, *kernel_size); the result  # (patches, width, 1, 1, 1)."""
        if patches.shape[2:] != self.kernel_size:
            return super().forward(patches)
        embedded = functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return embedded[:, :, None, None, None]


def embed_patches_by_product(model: Any) -> int:
    """Turn every patch embedding of `model` that can be one into a product, in place; how many there were."""
    embeddings = [module for module in model.modules() if _is_patch_embedding(module)]
    for module in embeddings:
        module.__class__ = PatchConvolution
    return len(embeddings)


def _is_patch_embedding(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv3d
        and module.stride == module.kernel_size
        and module.padding == (0, 0, 0)
        and module.dilation == (1, 1, 1)
        and module.groups == 1
    )
