"""Linear layers in the packed weight layout of the CPU's bfloat16 kernels.

A kernel must rearrange row-major bfloat16 weights in every product. For the few rows of a decoding step this takes as
long as the product itself. Packing the weights once per move avoids it, at the price of a second copy of the matrices.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


class PackedLinears:
    """Replace the forward pass of a model's bfloat16 linear layers by one with lazily packed weights.

    Results are bit-identical to those of the original layers. Other dtypes, other devices, and CPUs without bfloat16
    kernels keep the original forward pass.

    Args:
        model: Model to change. Its parameters are not touched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._packed: dict[nn.Linear, Tensor] = {}
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return
        for module in model.modules():
            if (
                type(module) is nn.Linear
                and module.weight.device.type == "cpu"
                and module.weight.dtype == torch.bfloat16
            ):
                module.forward = partial(self._forward, module)

    def drop(self) -> None:
        """Drop the packed copies. Must be called whenever the weights change."""
        self._packed.clear()

    def _forward(self, layer: nn.Linear, states: Tensor) -> Tensor:
        packed = self._packed.get(layer)
        if packed is None:
            packed = self._packed[layer] = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        return torch.ops.mkldnn._linear_pointwise(states, packed, layer.bias, "none", [], "")
