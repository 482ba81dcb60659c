"""Slices of a model's tensors, and the noise that is added to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from bench.weights import noise_numba, noise_torch
from bench.weights.lowrank import Factors, factors
from bench.weights.noise import NoiseKind

SLICE = 1 << 19
"""Values per unit of work: small enough to keep all threads busy, large enough to make Python's overhead negligible."""

NUMPY_VIEWS = {torch.float32: (torch.float32, np.float32), torch.bfloat16: (torch.int16, np.uint16)}
"""Dtypes that compiled code writes in place: the torch dtype to view as, and the NumPy dtype of these bits."""


@dataclass(frozen=True)
class Slice:
    """Contiguous slice of a tensor, with its base and live values.

    Attributes:
        name: Name of the tensor.
        start: Position of the first value in the tensor.
        base: Flat tensor of base values.
        live: Flat tensor of live values; if its memory is not in row-major order, the whole tensor in its own shape.
        arrays: Base and live values as NumPy arrays for compiled code; None if it does not support them.
    """

    name: str
    start: int
    base: torch.Tensor
    live: torch.Tensor
    arrays: tuple[np.ndarray, np.ndarray] | None

    @property
    def size(self) -> int:
        """Number of values."""
        return self.base.numel()

    def over(self, base: torch.Tensor) -> Slice:
        """Return this slice with other base values, in a flat tensor."""
        return replace(self, base=base, arrays=_arrays(base, self.live))

    def add(self, total: torch.Tensor, scale: float) -> None:
        """Write base + scale * total into the live values."""
        if self.arrays is not None:
            noise_numba.add(total.numpy(), scale, *self.arrays)
        else:
            noise_torch.add(total, scale, self.base, self.live)

    def restore(self) -> None:
        """Write the base into the live values, rounded to their dtype."""
        if self.arrays is not None and self.base.dtype == self.live.dtype:
            base, live = self.arrays
            np.copyto(live, base)
        else:
            self.live.copy_(self.base.view(self.live.shape))


class Directions(Protocol):
    """Noise of some directions, in the tensors that it moves."""

    def sums(self, part: Slice, out: torch.Tensor) -> None:
        """Write the directions' values of a slice into `out`, [directions, size]."""

    def move(self, part: Slice, scale: float) -> None:
        """Write base + scale * the first direction into the live values of a slice, without keeping the sum."""


@dataclass(frozen=True)
class FullRank:
    """Noise of full rank.

    Attributes:
        keys: Stream keys of the seeds, by the names of the tensors that move.
        weights: Weights of the seeds, [directions, seeds].
        scales: Factor of each tensor's noise, by name. It multiplies the weights, in float32.
    """

    keys: Mapping[str, np.ndarray]
    weights: np.ndarray
    scales: Mapping[str, float]

    def _weights(self, part: Slice) -> np.ndarray:
        return self.weights * np.float32(self.scales[part.name])

    def sums(self, part: Slice, out: torch.Tensor) -> None:
        """See `Directions`."""
        if out.device.type == "cpu":
            noise_numba.sums(self.keys[part.name], self._weights(part), part.start, out.numpy())
        else:
            noise_torch.sums(self.keys[part.name], self._weights(part), part.start, out)

    def move(self, part: Slice, scale: float) -> None:
        """See `Directions`."""
        if part.arrays is not None:
            noise_numba.move(self.keys[part.name], self._weights(part), scale, part.start, *part.arrays)
        else:
            _move_by_sums(self, part, scale)


@dataclass(frozen=True)
class LowRank:
    """Noise of low rank, in some matrices.

    Attributes:
        kind: Noise kind.
        seeds: Seeds.
        weights: Weights of the seeds, [directions, seeds].
        matrices: Shapes of the matrices that move, by name.
        scales: Factor of each matrix's noise, by name. It multiplies the weights, in float32.
    """

    kind: NoiseKind
    seeds: tuple[int, ...]
    weights: np.ndarray
    matrices: Mapping[str, tuple[int, int]]
    scales: Mapping[str, float]

    def _factors(self, part: Slice) -> Factors:
        shape, weights = self.matrices[part.name], self.weights * np.float32(self.scales[part.name])
        return factors(self.seeds, weights, part.name, shape, self.kind, part.start, part.size)

    def sums(self, part: Slice, out: torch.Tensor) -> None:
        """See `Directions`."""
        if out.device.type == "cpu":
            noise_numba.outer_sums(*self._factors(part), out.numpy())
        else:
            noise_torch.outer_sums(*self._factors(part), out)

    def move(self, part: Slice, scale: float) -> None:
        """See `Directions`."""
        if part.arrays is not None:
            left, right, start = self._factors(part)
            noise_numba.outer_move(left[0], right, scale, start, *part.arrays)
        else:
            _move_by_sums(self, part, scale)


def _move_by_sums(noise: Directions, part: Slice, scale: float) -> None:
    total = torch.empty((1, part.size), dtype=torch.float32, device=part.base.device)
    noise.sums(part, total)
    part.add(total[0], scale)


def slices_of(name: str, live: torch.Tensor) -> list[Slice]:
    """Return the slices of a live tensor, with a copy of its values as their base."""
    base = live.clone(memory_format=torch.contiguous_format).view(-1)
    if not live.is_contiguous():
        return [Slice(name, 0, base, live, _arrays(base, live))]
    pairs = zip(base.split(SLICE), live.view(-1).split(SLICE), strict=True)
    return [Slice(name, i * SLICE, part, target, _arrays(part, target)) for i, (part, target) in enumerate(pairs)]


def _arrays(base: torch.Tensor, live: torch.Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    if base.device.type != "cpu" or not {base.dtype, live.dtype} <= NUMPY_VIEWS.keys() or not live.is_contiguous():
        return None
    return _array(base), _array(live)


def _array(tensor: torch.Tensor) -> np.ndarray:
    integer, dtype = NUMPY_VIEWS[tensor.dtype]
    return tensor.view(integer).numpy().view(dtype)
