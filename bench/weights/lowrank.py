"""Low-rank noise of a slice of a matrix, as sums of outer products. See `bench.weights.noise.draw_lowrank`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.weights import noise_numba
from bench.weights.layout import Layout
from bench.weights.noise import NoiseKind, factor_keys, rank_of
from bench.weights.points import Point

Floats = NDArray[np.float32]


class Factors(NamedTuple):
    """Factors of several weighted sums of noise, for a slice of a matrix.

    Attributes:
        left: Entries of the rows that the slice reaches, float32 [sums, terms, rows].
        right: Entries of all columns, float32 [terms, columns].
        start: Position of the slice's first value within these rows.
    """

    left: Floats
    right: Floats
    start: int


def factors(
    seeds: Sequence[int],
    weights: Floats,
    name: str,
    shape: tuple[int, int],
    kind: NoiseKind,
    start: int,
    size: int,
) -> Factors:
    """Return the factors of sum_i weights[m, i] * eps(seed_i, name) for a slice.

    Seeds follow each other, and each has one term per rank. A weight multiplies the left factor, after 1 / sqrt(r).

    Args:
        seeds: Seeds of the noise directions.
        weights: Weights, float32 [sums, seeds].
        name: Name of the matrix in the model.
        shape: Rows and columns.
        kind: Noise kind, of low rank.
        start: Position of the slice's first value in the matrix, in row-major order.
        size: Number of its values.
    """
    rank = rank_of(kind)
    assert rank is not None
    rows, columns = shape
    first, last = start // columns, -(-(start + size) // columns)
    left = np.stack([_drawn(factor_keys(seeds, name, "left"), k * rows + first, last - first) for k in range(rank)], 1)
    right = np.stack([_drawn(factor_keys(seeds, name, "right"), k * columns, columns) for k in range(rank)], 1)
    left *= np.float32(1 / math.sqrt(rank))
    weighted = weights[:, :, None, None] * left
    terms = len(seeds) * rank
    return Factors(
        weighted.reshape(len(weights), terms, last - first), right.reshape(terms, columns), start - first * columns
    )


def displacement_factors(point: Point, layout: Layout) -> Iterator[tuple[str, Factors]]:
    """Yield the factors of a displacement of low-rank noise in each matrix that it moves, with the matrix's name.

    `left[0]` holds the amplitudes and the matrix's scale.

    Args:
        point: Displacement without a centre.
        layout: Layout of the model.
    """
    seeds, amplitudes = tuple(point.amplitudes), np.array([list(point.amplitudes.values())], dtype=np.float32)
    scales = layout.scales(point.noise)
    for name, shape in layout.matrices(point.noise).items():
        weights = amplitudes * np.float32(scales[name])
        yield name, factors(seeds, weights, name, shape, point.noise.kind, 0, shape[0] * shape[1])


def _drawn(keys: NDArray[np.uint32], start: int, count: int) -> Floats:
    """Return a slice of each stream, float32 [streams, count]."""
    skipped = start % 4
    out = np.empty((len(keys), count + skipped), dtype=np.float32)
    alone = np.ones((1, 1), dtype=np.float32)
    for i in range(len(keys)):
        noise_numba.sums(keys[i : i + 1], alone, start - skipped, out[i : i + 1])
    return out[:, skipped:]
