"""Low-rank displacements that are added in the products of linear layers, for many candidates in one batch.

At a displacement of E = L R^T in a layer's weights W the layer returns x W^T + (x R) L^T. The first product is the same
for all candidates, and the second is thin. So a batch may hold rows of many candidates, and no weight is moved (Sarkar
et al., arXiv 2511.16652). The factors of all candidates stand side by side, and a mask leaves each token those of its
own candidate: what the others add is an exact zero. The factors are filled up with zeros to one width, so that a kernel
sums in one order however many candidates there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.engines.groups import TERMS
from bench.models.linear import adaptable_layers
from bench.weights.layout import Layout
from bench.weights.lowrank import Floats, displacement_factors
from bench.weights.points import Point


class _Factors(NamedTuple):
    """Factors of all candidates in one layer: `inner` [inputs, terms] and `outer` [terms, outputs]."""

    inner: Tensor
    outer: Tensor


class AddedProducts:
    """Displacements that the linear layers of a model add in their products.

    Args:
        model: Model in float32 whose layers are called with all tokens of a pass.
        layout: Its layout.
    """

    def __init__(self, model: PreTrainedModel, layout: Layout) -> None:
        self._layout = layout
        self._layers = {name: model.get_submodule(name) for name in adaptable_layers(model)}
        inside = {id(layer) for layer in self._layers.values()}
        # A module with a forward pass of its own for speed computes its layers' products without calling them.
        self._fused = [each for each in model.modules() if "forward" in vars(each) and id(each) not in inside]
        self._factors: dict[str, _Factors] = {}
        self._columns = torch.zeros(0, dtype=torch.int64)
        self._mask = torch.zeros(0, 0)
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
        try:
            with self._unfused(), torch.inference_mode():
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
        self._factors = self._side_by_side(displacements)
        layers = {name: self._layers[name] for name in self._factors}  # others are not within the mask of the noise
        own = {layer: vars(layer).get("forward") for layer in layers.values()}
        try:
            with self._unfused():
                for name, layer in layers.items():
                    layer.forward = partial(self._forward, name, layer.forward)
                yield
        finally:
            for layer, forward in own.items():
                _restore(layer, forward)
            self._factors = {}

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
        self._mask = (owners[:, None] == self._columns[None]).float()

    def _forward(self, name: str, own: Any, states: Tensor) -> Tensor:
        product: Tensor = own(states)
        inner, outer = self._factors[name]
        thin = (states.reshape(-1, states.shape[-1]) @ inner).mul_(self._mask)
        product.view(-1, product.shape[-1]).addmm_(thin, outer)
        return product

    def _side_by_side(self, displacements: Sequence[Point]) -> dict[str, _Factors]:
        """Return the factors of all displacements in each layer that one of them moves, by the layer's name."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        first = 0
        for each in displacements:
            terms = slice(first, first + each.rank)
            for name, inner, outer in thin_factors(self._layers, self._layout, each):
                if name not in found:
                    found[name] = _zeros(inner.shape[1]), _zeros(outer.shape[1])
                found[name][0][terms], found[name][1][terms] = inner, outer
            first = terms.stop
        return {name: self._factors_of(inner.T, outer) for name, (inner, outer) in found.items()}

    def _factors_of(self, inner: np.ndarray, outer: np.ndarray) -> _Factors:
        return _Factors(*(torch.from_numpy(np.ascontiguousarray(each)).to(self._device) for each in (inner, outer)))

    @contextmanager
    def _unfused(self) -> Iterator[None]:
        """Let fused modules call their layers within the block."""
        fused = {module: vars(module)["forward"] for module in self._fused}
        for module in fused:
            del module.forward
        try:
            yield
        finally:
            for module, forward in fused.items():
                module.forward = forward


def added_products(model: PreTrainedModel, layout: Layout) -> AddedProducts | None:
    """Return what adds displacements in a model's products; None if its layers cannot tell tokens apart."""
    added = AddedProducts(model, layout)
    return added if added.serves(model) else None


def thin_factors(
    layers: Mapping[str, nn.Module], layout: Layout, displacement: Point
) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield each layer that a displacement moves, with factors of inputs [terms, inputs] and outputs [terms, outputs].

    The factors that the noise's amplitudes multiply are those of the weight's rows.

    Args:
        layers: Linear layers by name.
        layout: Layout of the model.
        displacement: Displacement of low-rank noise.
    """
    for matrix, (left, right, _) in displacement_factors(displacement, layout):
        name = matrix.removesuffix(".weight")
        yield (name, left[0], right) if isinstance(layers[name], Conv1D) else (name, right, left[0])


def _zeros(size: int) -> np.ndarray:
    return np.zeros((TERMS, size), dtype=np.float32)


def _restore(layer: nn.Module, forward: Any) -> None:
    if forward is None:
        del layer.forward
    else:
        layer.forward = forward
