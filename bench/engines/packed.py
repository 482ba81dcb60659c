"""Matrix products of a model on a CPU: weights packed for oneDNN's kernels, and the gated MLP fused.

A kernel reads packed weights in the order it computes in. Row-major weights must be rearranged in every product (in
half precision this takes as long as the product of a decoding step) or go through MKL, which is slower on most
processors. Packing the weights once per move avoids both, at the price of a second copy of the matrices.

Which kernel serves is a rule, never a race: see `kernels_for`. It is part of the engine's settings on record, because
products of two kernels differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

Kernels = Literal["torch", "onednn-packed"]
Extended = Callable[[nn.Module, Tensor], Tensor]
"""Function of a layer and its input that returns the input with more columns."""

_AGREEMENT = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference of the fused MLP from the module's own, relative to the largest output. Another activation or
another order of the products differs by far more."""


def native_bfloat16() -> bool:
    """Return whether the CPU computes products in bfloat16. Elsewhere the type is emulated, slower than float32."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # On x86 that is also true with AVX-512 alone, where the type is emulated.
    units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return units or torch.backends.cpu.get_cpu_capability() == "DEFAULT"


def kernels_for(device: str, dtype: torch.dtype, *, small: bool) -> Kernels:
    """Return the kernels that compute a model's linear layers.

    Packed weights serve on CPUs, in float32 and, where the processor computes in it, in bfloat16. Models so small that
    a product takes less time than calling another operator keep torch's.

    Args:
        device: Torch device, such as `cuda:0`.
        dtype: Dtype of the weights.
        small: Whether the model is that small.
    """
    fast = dtype == torch.float32 or (dtype == torch.bfloat16 and native_bfloat16())
    packs = torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available() and fast and not small
    return "onednn-packed" if packs else "torch"


class PackedLinears:
    """Packed copies of a model's linear layers, made when they are first used after a move.

    Args:
        model: Model to change: its linear layers, and gated MLPs made of them, get another forward pass. Its
            parameters are not touched.

    Attributes:
        layers: Layers that have packed copies.
    """

    def __init__(self, model: nn.Module) -> None:
        self._packed: dict[nn.Module, Tensor] = {}
        self._columns: Mapping[nn.Module, Tensor] = {}
        self._extended: Extended = _as_given
        self._fused = [mlp for mlp in _gated_mlps(model) if self._fused_agrees(mlp)]
        self._fuse()
        self.layers = frozenset(module for module in model.modules() if type(module) is nn.Linear)
        for layer in self.layers:
            layer.forward = partial(self._linear, layer)

    def drop(self) -> None:
        """Drop the packed copies. Must be called whenever the weights change."""
        self._packed.clear()

    @contextmanager
    def appending(self, columns: Mapping[nn.Module, Tensor], extended: Extended) -> Iterator[None]:
        """Append columns to the weights of layers within the block.

        Args:
            columns: Columns by layer [outputs, columns].
            extended: Returns the input of one of these layers with as many columns appended.
        """
        self.drop()
        self._columns, self._extended = columns, extended
        try:
            yield
        finally:
            self.drop()
            self._columns, self._extended = {}, _as_given

    @contextmanager
    def unfused(self) -> Iterator[None]:
        """Let gated MLPs call their layers within the block."""
        for mlp in self._fused:
            del mlp.forward
        try:
            yield
        finally:
            self._fuse()

    def _fuse(self) -> None:
        for mlp in self._fused:
            mlp.forward = partial(self._mlp, mlp)

    def _weight(self, layer: nn.Linear) -> Tensor:
        packed = self._packed.get(layer)
        if packed is None:
            weight = layer.weight.detach()
            if layer in self._columns:
                weight = torch.cat([weight, self._columns[layer]], 1)
            packed = self._packed[layer] = torch.ops.mkldnn._reorder_linear_weight(weight)
        return packed

    def _input(self, layer: nn.Linear, states: Tensor) -> Tensor:
        return self._extended(layer, states) if layer in self._columns else states

    def _linear(self, layer: nn.Linear, states: Tensor) -> Tensor:
        states = self._input(layer, states)
        return torch.ops.mkldnn._linear_pointwise(states, self._weight(layer), layer.bias, "none", [], "")

    def _mlp(self, mlp: nn.Module, states: Tensor) -> Tensor:
        """Return down(silu(gate(x)) * up(x)), with activation and product inside the two matrix products."""
        gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        product = torch.ops.mkldnn._linear_pointwise
        gated = product(self._input(gate, states), self._weight(gate), gate.bias, "swish", [], "")
        inner = product.binary(self._input(up, states), gated, self._weight(up), up.bias, "mul")
        return self._linear(down, inner)

    @torch.inference_mode()
    def _fused_agrees(self, mlp: nn.Module) -> bool:
        """Compare the fused MLP with the module's own forward pass on random input."""
        weight = mlp.gate_proj.weight
        states = torch.randn(4, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
        own, fused = mlp(states).float(), self._mlp(mlp, states).float()
        self.drop()
        return bool((own - fused).abs().max() <= _AGREEMENT[weight.dtype] * own.abs().max())


def _as_given(_: nn.Module, states: Tensor) -> Tensor:
    return states


def _gated_mlps(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        linears = {name for name, child in module.named_children() if type(child) is nn.Linear}
        if linears == {"gate_proj", "up_proj", "down_proj"}:
            yield module
