"""Linear layers in the layout that a CPU's half-precision kernels read.

Left in rows, bfloat16 weights are rearranged by each product that uses them, which for the few rows of a decoding step
takes as long as the product. Rearranged once a move they cost a second copy of the matrices.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


class PackedLinears:
    """Has a model's linear layers computed from packed copies of their weights, made when first needed.

    Where they cannot be packed, or nothing is gained by it, the layers stay as they are. Products are bit for bit those
    of the layers themselves.

    Args:
        model: Whose layers are taken over. Its parameters stay what they are and where they are.
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
        """Forget the copies; to be called whenever the weights have changed."""
        self._packed.clear()

    def _forward(self, layer: nn.Linear, states: Tensor) -> Tensor:
        packed = self._packed.get(layer)
        if packed is None:
            packed = self._packed[layer] = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        return torch.ops.mkldnn._linear_pointwise(states, packed, layer.bias, "none", [], "")
