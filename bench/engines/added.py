"""Low-rank displacements that are added in the products of linear layers, for many candidates in one batch.

At a displacement of E = L R^T in a layer's weights W the layer returns x W^T + (x R) L^T. The first product is the same
for all candidates, and the second is thin. So a batch may hold rows of many candidates, and no weight is moved (Sarkar
et al., arXiv 2511.16652). The factors of all candidates stand side by side, and a mask leaves each token those of its
own candidate: what the others add is an exact zero. The factors are filled up with zeros to one width, so that a kernel
sums in one order however many candidates there are.

Where weights are packed, x R is appended to x, and L to W: [x, x R] [W, L]^T is one product, so no second pass over the
outputs is needed, and a gated MLP stays fused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.engines.groups import TERMS
from bench.engines.packed import PackedLinears
from bench.models.linear import adaptable_layers
from bench.weights.layout import Layout
from bench.weights.lowrank import Floats, displacement_factors
from bench.weights.points import Point

TINY = np.finfo(np.float32).tiny


class _Factors(NamedTuple):
    """Factors of all candidates in one layer: `inner` [inputs, terms] and `outer` [terms, outputs]."""

    inner: Tensor
    outer: Tensor


class AddedProducts:
    """Displacements that the linear layers of a model add in their products.

    Args:
        model: Model whose layers are called with all tokens of a pass.
        layout: Its layout.
        linears: Packed copies of the model's layers; None if its layers compute with their own weights.
    """

    def __init__(self, model: PreTrainedModel, layout: Layout, linears: PackedLinears | None = None) -> None:
        self._layout = layout
        self._layers = {name: model.get_submodule(name) for name in adaptable_layers(model)}
        self._linears = linears
        self._factors: dict[nn.Module, _Factors] = {}
        self._columns = torch.zeros(0, dtype=torch.int64)
        self._others = torch.zeros(0, 0, dtype=torch.bool)
        self._last: tuple[Tensor, Tensor] | None = None  # the last input of a packed layer, without and with columns
        self._device = model.device

    def serves(self, model: PreTrainedModel) -> bool:
        """Return whether each layer is called once in a pass, with all of its tokens.

        The experts of some mixtures are called with the tokens that are routed to them, and these cannot be told apart.
        """
        calls: dict[str, list[int]] = {name: [] for name in self._layers}

        def note(name: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[name].append(args[0].numel() // args[0].shape[-1])

        hooks = [each.register_forward_pre_hook(partial(note, name)) for name, each in self._layers.items()]
        count = 8
        unfused = nullcontext() if self._linears is None else self._linears.unfused()
        try:
            with unfused, torch.inference_mode():
                model(input_ids=torch.zeros(1, count, dtype=torch.int64, device=self._device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return bool(calls) and all(found == [count] for found in calls.values())

    @contextmanager
    def of(self, displacements: Sequence[Point]) -> Iterator[None]:
        """Let the layers add these displacements within the block. `choose` says which token has which.

        Args:
            displacements: Displacements of low-rank noise.
        """
        owners = [i for i, each in enumerate(displacements) for _ in range(each.rank)]
        assert len(owners) <= TERMS
        self._columns = torch.tensor(owners + [-1] * (TERMS - len(owners)), device=self._device)
        self._factors = self._side_by_side(displacements)  # of the layers within the mask of the noise alone
        packed = self._factors.keys() & self._linears.layers if self._linears is not None else set()
        own = {layer: vars(layer).get("forward") for layer in self._factors if layer not in packed}
        try:
            with ExitStack() as opened:
                if self._linears is not None:
                    columns = {layer: self._factors[layer].outer.T for layer in packed}
                    opened.enter_context(self._linears.appending(columns, self._extended))
                for layer in own:
                    layer.forward = partial(self._forward, layer, layer.forward)
                yield
        finally:
            for layer, forward in own.items():
                _restore(layer, forward)
            self._factors, self._last = {}, None

    @property
    def active(self) -> bool:
        """Whether layers add displacements now."""
        return bool(self._factors)

    @property
    def computed(self) -> int:
        """Multiply-adds that the layers now add to each token, those of factors filled up with zeros included."""
        return sum(inner.numel() + outer.numel() for inner, outer in self._factors.values())

    def choose(self, owners: Tensor) -> None:
        """Set the displacement of each token of the next pass, by its number [tokens]."""
        self._others = owners[:, None] != self._columns[None]
        self._last = None

    def _forward(self, layer: nn.Module, own: Any, states: Tensor) -> Tensor:
        product: Tensor = own(states)
        inner, outer = self._factors[layer]
        thin = (states.reshape(-1, states.shape[-1]) @ inner).masked_fill_(self._others, 0)
        product.view(-1, product.shape[-1]).addmm_(thin, outer)
        return product

    def _extended(self, layer: nn.Module, states: Tensor) -> Tensor:
        """Return the input of a layer with its thin product appended [..., inputs + terms].

        Layers that follow each other with one input write their thin products into the same memory: the product of the
        one before has been computed by then.
        """
        inner = self._factors[layer].inner
        inputs, terms = inner.shape
        if self._last is None or self._last[0] is not states:
            extended = states.new_empty(*states.shape[:-1], inputs + terms)
            extended[..., :inputs] = states
            self._last = states, extended
        extended = self._last[1]
        thin = extended.view(-1, inputs + terms)[:, inputs:]
        torch.mm(states.reshape(-1, inputs), inner, out=thin)
        thin.masked_fill_(self._others, 0)
        return extended

    def _side_by_side(self, displacements: Sequence[Point]) -> dict[nn.Module, _Factors]:
        """Return the factors of all displacements in each layer that one of them moves."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        first = 0
        for each in displacements:
            terms = slice(first, first + each.rank)
            for name, inner, outer in thin_factors(self._layers, self._layout, each):
                if name not in found:
                    found[name] = _zeros(inner.shape[1]), _zeros(outer.shape[1])
                found[name][0][terms], found[name][1][terms] = inner, outer
            first = terms.stop
        return {self._layers[name]: self._factors_of(name, inner, outer) for name, (inner, outer) in found.items()}

    def _factors_of(self, name: str, inner: np.ndarray, outer: np.ndarray) -> _Factors:
        dtype: Any = self._layers[name].weight.dtype  # some layers of a model in half precision are in float32
        given = (torch.from_numpy(each).to(self._device, dtype) for each in (inner.T, outer))
        return _Factors(*(each.contiguous() for each in given))


def added_products(
    model: PreTrainedModel, layout: Layout, linears: PackedLinears | None = None
) -> AddedProducts | None:
    """Return what adds displacements in a model's products; None if its layers cannot tell tokens apart."""
    added = AddedProducts(model, layout, linears)
    return added if added.serves(model) else None


def thin_factors(
    layers: Mapping[str, nn.Module], layout: Layout, displacement: Point
) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield each layer that a displacement moves, with factors of inputs [terms, inputs] and outputs [terms, outputs].

    Amplitudes are in the factors of inputs, but for what is left over by a power of two. In float16 a thin product
    without its amplitude might overflow.

    Args:
        layers: Linear layers by name.
        layout: Layout of the model.
        displacement: Displacement of low-rank noise.
    """
    for matrix, (left, right, _) in displacement_factors(displacement, layout):
        name = matrix.removesuffix(".weight")
        inner, outer = (left[0], right) if isinstance(layers[name], Conv1D) else (right, left[0])
        largest = np.abs(outer).max(axis=1, keepdims=True)
        scale = np.exp2(np.floor(np.log2(np.maximum(largest, TINY)))).astype(np.float32)
        yield name, inner * scale, outer / scale


def _zeros(size: int) -> np.ndarray:
    return np.zeros((TERMS, size), dtype=np.float32)


def _restore(layer: nn.Module, forward: Any) -> None:
    if forward is None:
        del layer.forward
    else:
        layer.forward = forward
