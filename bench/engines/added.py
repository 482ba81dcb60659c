"""Low-rank displacements that are added in the products of linear layers, for many candidates in one batch.

At a displacement of E = L R^T in a layer's weights W the layer returns x W^T + (x R) L^T. The first product is the same
for all candidates, and the second is thin. So a batch may hold rows of many candidates, and no weight is moved (Sarkar
et al., arXiv 2511.16652). The factors of all candidates stand side by side, and a mask leaves each token those of its
own candidate: what the others add is an exact zero. The factors are filled up with zeros to one width, so that a kernel
sums in one order however many candidates there are.

Layers with one input, such as those of queries, keys and values, share one thin product x R. Where weights are packed,
x R is appended to x and L to W: then [x, x R] [W, L]^T is one product, and a gated MLP stays fused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.engines.groups import TERMS
from bench.engines.packed import PackedLinears
from bench.models.linear import adaptable_layers
from bench.weights.lowrank import factors
from bench.weights.points import Point


class _Factors(NamedTuple):
    """Factors of all candidates in one layer: `inner` [inputs, terms] and `outer` [terms, outputs]."""

    inner: Tensor
    outer: Tensor


class _Shared(NamedTuple):
    """Part of a layer in the thin product that layers with one input share.

    Attributes:
        inner: Inner factors of all these layers, side by side [inputs, layers * terms].
        outer: Outer factors of this layer [terms, outputs].
        own: Columns of `inner` that are this layer's.
    """

    inner: Tensor
    outer: Tensor
    own: slice


class AddedProducts:
    """Displacements that the linear layers of a model add in their products.

    Args:
        model: Model whose layers are called with all tokens of a pass.
        inputs: Names of the layers that are called with one input, for each input: see `shared_inputs`.
        linears: Packed copies of the model's layers; None if its layers compute with their own weights.
    """

    def __init__(
        self, model: PreTrainedModel, inputs: Sequence[Sequence[str]], linears: PackedLinears | None = None
    ) -> None:
        self._layers = {name: model.get_submodule(name) for names in inputs for name in names}
        self._inputs, self._linears = inputs, linears
        self._shared: dict[nn.Module, _Shared] = {}
        self._columns = torch.zeros(0, dtype=torch.int64)
        self._mask = torch.zeros(0, 0)
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # an input, its thin product, and both side by side
        self._device, self._dtype = model.device, model.dtype

    @contextmanager
    def of(self, displacements: Sequence[Point]) -> Iterator[None]:
        """Let the layers add these displacements within the block. `choose` says which token has which.

        Args:
            displacements: Displacements of low-rank noise.
        """
        owners = [i for i, each in enumerate(displacements) for _ in range(each.rank)]
        assert len(owners) <= TERMS
        self._columns = torch.tensor(owners + [-1] * (TERMS - len(owners)), device=self._device)
        self._shared = self._share(
            {name: self._side_by_side(name, layer, displacements) for name, layer in self._layers.items()}
        )
        packed = self._shared.keys() & self._linears.layers if self._linears is not None else set()
        own = {layer: vars(layer).get("forward") for layer in self._shared if layer not in packed}
        try:
            with ExitStack() as opened:
                if self._linears is not None:
                    columns = {layer: self._appended(layer) for layer in packed}
                    opened.enter_context(self._linears.appending(columns, self._extended))
                for layer in own:
                    layer.forward = partial(self._forward, layer, layer.forward)
                yield
        finally:
            for layer, forward in own.items():
                _restore(layer, forward)
            self._shared, self._last = {}, None

    @property
    def active(self) -> bool:
        """Whether layers add displacements now."""
        return bool(self._shared)

    @property
    def computed(self) -> int:
        """Multiply-adds that the layers now add to each token, including those with the zeros that fill factors up."""
        thin = sum(each.inner[:, each.own].numel() for each in self._shared.values())
        packed = self._linears.layers if self._linears is not None else set()
        outer = sum(
            each.outer.shape[1] * (each.inner.shape[1] if layer in packed else TERMS)
            for layer, each in self._shared.items()
        )
        return thin + outer

    def choose(self, owners: Tensor) -> None:
        """Set the displacement of each token of the next pass, by its number [tokens]."""
        self._mask = (owners[:, None] == self._columns[None]).to(self._dtype)
        self._last = None

    def _forward(self, layer: nn.Module, own: Any, states: Tensor) -> Tensor:
        product: Tensor = own(states)
        shared = self._shared[layer]
        thin, _ = self._thin(states, shared.inner)
        product.view(-1, product.shape[-1]).addmm_(thin[:, shared.own], shared.outer)
        return product

    def _extended(self, layer: nn.Module, states: Tensor) -> Tensor:
        """Return the input of a layer with appended columns [..., inputs + layers * terms]."""
        _, extended = self._thin(states, self._shared[layer].inner)
        return extended

    def _appended(self, layer: nn.Module) -> Tensor:
        """Return the columns to append to a layer's weight [outputs, layers * terms]."""
        shared = self._shared[layer]
        columns = shared.outer.new_zeros(shared.outer.shape[1], shared.inner.shape[1])
        columns[:, shared.own] = shared.outer.T
        return columns

    def _thin(self, states: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
        """Return each token's thin products [tokens, layers * terms], and the states with these [..., both]."""
        if self._last is None or self._last[0] is not states:
            inputs, terms = inner.shape
            extended = states.new_empty(*states.shape[:-1], inputs + terms)
            extended[..., :inputs] = states
            flat = extended.view(-1, inputs + terms)
            thin = flat[:, inputs:]
            torch.mm(states.reshape(-1, inputs), inner, out=thin)
            thin.unflatten(1, (-1, TERMS)).mul_(self._mask[:, None])
            self._last = states, thin, extended
        return self._last[1:]

    def _share(self, factors: dict[str, _Factors]) -> dict[nn.Module, _Shared]:
        """Put the inner factors of layers with one input side by side."""
        found: dict[nn.Module, _Shared] = {}
        for names in self._inputs:
            inner = torch.cat([factors[name].inner for name in names], 1)
            for i, name in enumerate(names):
                own = slice(i * TERMS, (i + 1) * TERMS)
                found[self._layers[name]] = _Shared(inner, factors[name].outer, own)
        return found

    def _side_by_side(self, name: str, layer: nn.Module, displacements: Sequence[Point]) -> _Factors:
        weight: Any = layer.weight
        shape = (int(weight.shape[0]), int(weight.shape[1]))
        lefts, rights = [], []
        for each in displacements:
            amplitudes = np.array([list(each.amplitudes.values())], dtype=np.float32)
            found = factors(
                tuple(each.amplitudes), amplitudes, f"{name}.weight", shape, each.noise, 0, shape[0] * shape[1]
            )
            lefts.append(found.left[0])
            rights.append(found.right)
        left, right = (self._filled(parts) for parts in (lefts, rights))
        inner, outer = (left, right) if isinstance(layer, Conv1D) else (right, left)
        return self._balanced(inner.T, outer)

    def _balanced(self, inner: Tensor, outer: Tensor) -> _Factors:
        """Return factors in the model's dtype, with amplitudes moved to the inner ones by powers of two.

        In float16 a thin product without its amplitude may overflow.
        """
        largest = outer.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny)
        scale = torch.exp2(torch.floor(torch.log2(largest)))
        return _Factors((inner * scale).to(self._dtype).contiguous(), (outer / scale[:, None]).to(self._dtype))

    def _filled(self, parts: list[np.ndarray]) -> Tensor:
        rows = np.concatenate(parts)
        return torch.from_numpy(np.pad(rows, ((0, TERMS - len(rows)), (0, 0)))).to(self._device)


def shared_inputs(model: PreTrainedModel, linears: PackedLinears | None = None) -> list[list[str]] | None:
    """Return the names of a model's adaptable layers that are called with one input, for each input.

    Returns:
        None unless each layer is called once in a pass, with all of its tokens. The experts of some mixtures are
        called with the tokens that are routed to them, and these cannot be told apart.
    """
    layers = {name: model.get_submodule(name) for name in adaptable_layers(model)}
    calls: list[tuple[str, Tensor]] = []  # keeps the inputs, so that another one is not the same object

    def note(name: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        calls.append((name, args[0]))

    hooks = [each.register_forward_pre_hook(partial(note, name)) for name, each in layers.items()]
    count = 8
    try:
        with ExitStack() as opened:
            opened.enter_context(torch.inference_mode())
            if linears is not None:
                opened.enter_context(linears.unfused())
            model(input_ids=torch.zeros(1, count, dtype=torch.int64, device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    whole = all(states.numel() == count * states.shape[-1] for _, states in calls)
    if not calls or not whole or sorted(name for name, _ in calls) != sorted(layers):
        return None
    return [[name for name, _ in group] for _, group in groupby(calls, key=lambda call: id(call[1]))]


def added_products(model: PreTrainedModel, linears: PackedLinears | None = None) -> AddedProducts | None:
    """Return what adds displacements in a model's products; None if its layers cannot tell tokens apart."""
    inputs = shared_inputs(model, linears)
    return None if inputs is None else AddedProducts(model, inputs, linears)


def _restore(layer: nn.Module, forward: Any) -> None:
    if forward is None:
        del layer.forward
    else:
        layer.forward = forward
