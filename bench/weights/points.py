"""Algebra of points around a base model, in the basis of noise directions. Pure: no tensors, no files.

A point is theta_0 + sum_i a_i * eps(seed_i). In d dimensions the cosine of two noise directions is about 1 / sqrt(d),
and d is in the millions. Norms and inner products are therefore those of the amplitudes, in units of the norm
of one noise direction.

Example:
    >>> p = Point({1: 0.3, 2: 0.4})
    >>> p.norm
    0.5
    >>> (2 * p - Point({2: 0.8})).amplitudes
    {1: 0.6}
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from bench.weights.noise import NOISE_VERSION, NoiseKind


@dataclass(frozen=True)
class Point:
    """Displacement from the base model, as amplitudes of noise seeds. `Point()` is the base itself.

    Attributes:
        amplitudes: Amplitude by seed, without zeros and in ascending order of seeds, so that equal points are
            materialised in the same order.
        noise: Noise kind: `iid`, or the ablation `tied`. Points of different kinds cannot be combined, but the base
            can be combined with both.
    """

    amplitudes: Mapping[int, float] = field(default_factory=dict)
    noise: NoiseKind = "iid"

    def __post_init__(self) -> None:
        if self.noise not in get_args(NoiseKind):
            raise ValueError(f"noise is {self.noise!r}; it must be one of {', '.join(get_args(NoiseKind))}")
        for seed, amplitude in self.amplitudes.items():
            if not math.isfinite(amplitude):
                raise ValueError(f"amplitude of seed {seed} is {amplitude}; it must be finite")
        kept = {seed: float(a) for seed, a in sorted(self.amplitudes.items()) if a != 0.0}
        object.__setattr__(self, "amplitudes", kept)
        if not kept:
            object.__setattr__(self, "noise", "iid")

    def __hash__(self) -> int:
        return hash((self.noise, *self.amplitudes.items()))

    def __add__(self, other: Point) -> Point:
        return combine([(1.0, self), (1.0, other)])

    def __sub__(self, other: Point) -> Point:
        return combine([(1.0, self), (-1.0, other)])

    def __mul__(self, factor: float) -> Point:
        return Point({seed: factor * a for seed, a in self.amplitudes.items()}, self.noise)

    __rmul__ = __mul__

    @property
    def is_base(self) -> bool:
        """True if this point is the unchanged base model."""
        return not self.amplitudes

    @property
    def norm(self) -> float:
        """Length of the displacement, in units of one noise direction."""
        return math.sqrt(self.inner(self))

    def inner(self, other: Point) -> float:
        """Return the inner product of two displacements, in squared units of one noise direction.

        Raises:
            ValueError: If their noise kinds differ.
        """
        _shared_noise((self, other))
        return math.fsum(a * other.amplitudes.get(seed, 0.0) for seed, a in self.amplitudes.items())

    @property
    def digest(self) -> str:
        """Hash of amplitudes, noise kind and noise version; equal exactly for equal points."""
        text = f"{NOISE_VERSION}|{self.noise}" + "".join(f"|{seed}:{a.hex()}" for seed, a in self.amplitudes.items())
        return hashlib.sha256(text.encode()).hexdigest()


def combine(terms: Iterable[tuple[float, Point]]) -> Point:
    """Return the linear combination sum_k c_k * p_k of displacements.

    Raises:
        ValueError: If their noise kinds differ.
    """
    terms = list(terms)
    noise = _shared_noise(point for _, point in terms)
    total: dict[int, float] = {}
    for factor, point in terms:
        for seed, amplitude in point.amplitudes.items():
            total[seed] = total.get(seed, 0.0) + factor * amplitude
    return Point(total, noise)


def gram(points: Sequence[Point]) -> NDArray[np.float64]:
    """Return the pairwise inner products of displacements, float64 [points, points].

    Raises:
        ValueError: If their noise kinds differ.
    """
    _shared_noise(points)
    seeds = {seed: column for column, seed in enumerate(sorted({s for p in points for s in p.amplitudes}))}
    amplitudes = np.zeros((len(points), len(seeds)))
    for row, point in enumerate(points):
        for seed, amplitude in point.amplitudes.items():
            amplitudes[row, seeds[seed]] = amplitude
    product: NDArray[np.float64] = amplitudes @ amplitudes.T
    return product


def _shared_noise(points: Iterable[Point]) -> NoiseKind:
    kinds = {point.noise for point in points if not point.is_base}
    if len(kinds) > 1:
        raise ValueError("points of iid and of tied noise do not combine")
    return kinds.pop() if kinds else "iid"
