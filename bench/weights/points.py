"""Algebra of points around a base model, in the basis of noise directions. Pure: no tensors, no files.

A point is theta_0 + sum_i a_i * eps(seed_i). In d dimensions the cosine of two noise directions is about 1 / sqrt(d).
Norms and inner products are therefore those of the amplitudes, in units of the norm of one noise direction. d is the
number of weights that noise moves, usually millions. It is smaller in effect under a mask that selects few weights, or
a scale that gives most of the energy to few.

A search that moves its centre in many steps evaluates many points around each centre. Such points name their centre, so
that the weights there are computed once, and each point around it costs the noise of its own seeds alone.

A centre can also begin at trained weights, see `bench.weights.checkpoint.Checkpoint.step`. Such a point has no
displacement from the base, so it has no norm and is combined with no other.

Example:
    >>> p = Point({1: 0.3, 2: 0.4})
    >>> p.norm
    0.5
    >>> (2 * p - Point({2: 0.8})).amplitudes
    {1: 0.6}
    >>> near = p.step(Point({3: 0.1}))
    >>> near.amplitudes, near.displacement.amplitudes
    ({3: 0.1}, {1: 0.3, 2: 0.4, 3: 0.1})
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.weights.noise import NOISE_VERSION, PLAIN, Noise

if TYPE_CHECKING:
    from bench.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class Point:
    """Displacement from the base model, as amplitudes of noise seeds. `Point()` is the base itself.

    A point around a centre has its own weights: those of the centre in float32, plus its own noise. They differ in
    rounding from the weights of `displacement`, the same sum without a centre.

    Attributes:
        amplitudes: Amplitude by seed, without zeros and in ascending order of seeds, so that equal points are
            materialised in the same order. They are relative to the centre.
        noise: Noise of the seeds. A noise kind alone, such as "lowrank", stands for plain noise of that kind in all
            modules. Points of different noise cannot be combined, but the base can be combined with all.
        centre: Steps that lead from the base to the centre, in order: displacements without a centre. The first can be
            a checkpoint instead. Empty if the centre is the base.
    """

    amplitudes: Mapping[int, float] = field(default_factory=dict)
    noise: Noise = PLAIN
    centre: tuple[Point | Checkpoint, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.noise, Noise):
            object.__setattr__(self, "noise", Noise(self.noise))
        for seed, amplitude in self.amplitudes.items():
            if not math.isfinite(amplitude):
                raise ValueError(f"amplitude of seed {seed} is {amplitude}; it must be finite")
        kept = {seed: float(a) for seed, a in sorted(self.amplitudes.items()) if a != 0.0}
        object.__setattr__(self, "amplitudes", kept)
        if not kept:
            object.__setattr__(self, "noise", PLAIN)
        if self.centre:
            self._normalise_centre()

    def _normalise_centre(self) -> None:
        """Drop steps of length zero. A point at its centre is the last step, around the centre before it."""
        if any(isinstance(step, Point) and step.centre for step in self.centre):
            raise ValueError("a step of a centre has a centre of its own; its steps must be displacements without one")
        if not all(isinstance(step, Point) for step in self.centre[1:]):
            raise ValueError("a checkpoint is a later step of a centre; it can only be the first")
        steps = [step for step in self.centre if not step.is_base]
        if not self.amplitudes and steps:
            last = steps.pop()
            if not isinstance(last, Point):
                raise ValueError("a point at a distance of zero from a checkpoint is the checkpoint; use that instead")
            object.__setattr__(self, "amplitudes", last.amplitudes)
            object.__setattr__(self, "noise", last.noise)
        object.__setattr__(self, "centre", tuple(steps))
        _shared_noise((self, *(step for step in steps if isinstance(step, Point))))

    def __hash__(self) -> int:
        return hash((self.noise, *self.amplitudes.items(), *self.centre))

    def __add__(self, other: Point) -> Point:
        return combine([(1.0, self), (1.0, other)])

    def __sub__(self, other: Point) -> Point:
        return combine([(1.0, self), (-1.0, other)])

    def __mul__(self, factor: float) -> Point:
        return Point({seed: factor * a for seed, a in self.displacement.amplitudes.items()}, self.noise)

    __rmul__ = __mul__

    @property
    def is_base(self) -> bool:
        """True if this point is the unchanged base model."""
        return not self.amplitudes

    @property
    def steps(self) -> tuple[Point | Checkpoint, ...]:
        """Steps that lead from the base to this point: those to its centre, then its own displacement from there."""
        return (*self.centre, Point(self.amplitudes, self.noise))

    @property
    def rank(self) -> int:
        """Rank that the displacement from the centre has in each linear layer; 0 for noise of full rank."""
        return len(self.amplitudes) * (self.noise.rank or 0)

    @property
    def origin(self) -> Point | Checkpoint:
        """The centre itself."""
        if not self.centre:
            return Point()
        *before, last = self.centre
        return Point(last.amplitudes, last.noise, tuple(before)) if isinstance(last, Point) else last

    def step(self, displacement: Point) -> Point:
        """Return the point at a displacement from this point, with this point as its centre.

        Raises:
            ValueError: If the displacement has a centre, or the noises differ.
        """
        if displacement.centre:
            raise ValueError("a step has a centre of its own; it must be a displacement without one")
        return Point(displacement.amplitudes, displacement.noise, self.steps)

    @property
    def displacement(self) -> Point:
        """Displacement from the base as one sum of noise, without a centre.

        Raises:
            ValueError: If the centre begins at a checkpoint.
        """
        if not self.centre:
            return self
        steps = [step for step in self.steps if isinstance(step, Point)]
        if len(steps) < len(self.steps):
            raise ValueError("a point around a checkpoint is no sum of noise from the base, and has no displacement")
        return combine((1.0, step) for step in steps)

    @property
    def norm(self) -> float:
        """Length of the displacement, in units of one noise direction."""
        return math.sqrt(self.inner(self))

    def inner(self, other: Point) -> float:
        """Return the inner product of two displacements, in squared units of one noise direction.

        Raises:
            ValueError: If their noises differ.
        """
        _shared_noise((self, other))
        theirs = other.displacement.amplitudes
        return math.fsum(a * theirs.get(seed, 0.0) for seed, a in self.displacement.amplitudes.items())

    @cached_property
    def digest(self) -> str:
        """Hash of amplitudes, noise, noise version and centre; equal exactly for equal points."""
        text = f"{NOISE_VERSION}|{self.noise}" + "".join(f"|{seed}:{a.hex()}" for seed, a in self.amplitudes.items())
        text += "".join(f"|{step.digest}" for step in self.centre)
        return hashlib.sha256(text.encode()).hexdigest()


def combine(terms: Iterable[tuple[float, Point]]) -> Point:
    """Return the linear combination sum_k c_k * p_k of displacements from the base. It has no centre.

    Raises:
        ValueError: If their noises differ.
    """
    terms = list(terms)
    noise = _shared_noise(point for _, point in terms)
    total: dict[int, float] = {}
    for factor, point in terms:
        for seed, amplitude in point.displacement.amplitudes.items():
            total[seed] = total.get(seed, 0.0) + factor * amplitude
    return Point(total, noise)


def steps_between(
    centre: Sequence[Point | Checkpoint], other: Sequence[Point | Checkpoint]
) -> Sequence[Point | Checkpoint]:
    """Return the steps that lead from one centre to another; all of the other's if the first is not on its way.

    Args:
        centre: Steps from the base to the first centre.
        other: Steps from the base to the other centre.
    """
    known = len(centre)
    return other[known:] if tuple(other[:known]) == tuple(centre) else other


def noise_seeds(point: Point, centre: Sequence[Point | Checkpoint]) -> int:
    """Return the number of seeds whose noise a move to a point adds.

    Args:
        point: The point.
        centre: Steps to the centre that is kept so far.
    """
    steps = (*steps_between(centre, point.centre), point)
    return sum(len(step.amplitudes) for step in steps if isinstance(step, Point))


def gram(points: Sequence[Point]) -> NDArray[np.float64]:
    """Return the pairwise inner products of displacements, float64 [points, points].

    Raises:
        ValueError: If their noises differ.
    """
    _shared_noise(points)
    displacements = [point.displacement.amplitudes for point in points]
    seeds = {seed: column for column, seed in enumerate(sorted({s for each in displacements for s in each}))}
    amplitudes = np.zeros((len(points), len(seeds)))
    for row, displacement in enumerate(displacements):
        for seed, amplitude in displacement.items():
            amplitudes[row, seeds[seed]] = amplitude
    product: NDArray[np.float64] = amplitudes @ amplitudes.T
    return product


def _shared_noise(points: Iterable[Point]) -> Noise:
    found = {point.noise for point in points if not point.is_base}
    if len(found) > 1:
        raise ValueError(f"points of {' and of '.join(sorted(map(str, found)))} noise do not combine")
    return found.pop() if found else PLAIN
