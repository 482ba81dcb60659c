"""Noise directions: eps(seed, tensor name), i.i.d. standard normal, with the same values on every machine.

Value i of a tensor is a function of (seed, name, i) alone, so any slice can be drawn alone, by any number of threads.
The random bits come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). This
counter-based generator needs only 32-bit products, so NumPy, a compiled loop and an accelerator draw the same values.
Library generators do not agree: NumPy's Philox has another width and a sequential normal transform, torch has different
generators for CPU and GPU, and both libraries use the logarithm and cosine of the platform.

The normal transform is that of Box and Muller (1958) with our own polynomials. It is a fixed sequence of float32
additions, multiplications and square roots. IEEE 754 defines the rounding of each, as long as no product is contracted
with a sum. The largest value is 6.66; a standard normal exceeds it once in 4e10 draws.

Published code re-seeds one generator with the same seed for every tensor, so tensors of the same shape share their
noise. This is the noise kind `tied` here, kept as a named ablation.

Noise of the kind `lowrank` is that of EGGROLL (Sarkar et al., arXiv 2511.16652): for the matrix of each linear layer

    E = A B^T / sqrt(r),    A [rows, r] and B [columns, r] i.i.d. standard normal

with r = 1, or 2 and 4 for `lowrank-2` and `lowrank-4`. Each entry has variance 1, as in `iid`, so equal amplitudes have
equal energy in the matrices that move. The two factors have streams of their own. All other tensors, such as
embeddings, norms, biases and the output head, stay.

A mask of modules leaves out further tensors, and a scale gives each tensor a factor: see `bench.weights.masks` and
`bench.weights.layout`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from bench.weights.masks import check_modules

NOISE_VERSION = "philox4x32-10-box-muller-1"

NoiseKind = Literal["iid", "tied", "lowrank", "lowrank-2", "lowrank-4"]
NoiseScale = Literal["plain", "modular"]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF

LOG = (-1.9999999, 1.0000073, -0.6667012, 0.49939817, -0.3980033, 0.3450166, -0.32445157, 0.20213781)
"""Ascending coefficients of -2 ln(1 + x) / x on [sqrt(1/2) - 1, sqrt(2) - 1]."""
LOG_OF_TWO = -1.3862944
"""-2 ln 2."""
SIN = (3.1415927, -5.16771, 2.5500698, -0.5982421, 0.07756039)
"""Ascending coefficients, in t^2, of sin(pi t) / t for t in [-1/2, 1/2]."""
COS = (0.99999994, -4.934793, 4.058412, -1.3318802, 0.2196968)
"""Ascending coefficients, in t^2, of cos(pi t) for t in [-1/2, 1/2]."""
ROOT_HALF = 0x3F3504F3
"""Bits of the float32 sqrt(1/2). Mantissas are reduced to [sqrt(1/2), sqrt(2)), where the logarithm is near 0."""

CHUNK = 1 << 16
"""Blocks that `draw` computes at a time, so that its temporary arrays stay in the cache."""


def stream_keys(seeds: Sequence[int], name: str, kind: NoiseKind = "iid") -> NDArray[np.uint32]:
    """Return the keys of one tensor's random streams, uint32 [seeds, 4].

    Args:
        seeds: Seeds of the noise directions, any integers.
        name: Name of the tensor in the model, such as `model.layers.0.mlp.up_proj.weight`.
        kind: Noise kind: `iid`, or `tied`, whose keys do not depend on the name.

    Returns:
        128 bits of BLAKE2b of seed and name: the two key words of Philox, then the upper two words of its counter.
    """
    suffix = f"\0{name}" if kind == "iid" else ""
    digests = (hashlib.blake2b(f"{seed}{suffix}".encode(), digest_size=16).digest() for seed in seeds)
    return np.frombuffer(b"".join(digests), dtype="<u4").reshape(-1, 4).astype(np.uint32)


def rank_of(kind: NoiseKind) -> int | None:
    """Return the rank of a kind's noise in each matrix; None for full rank."""
    name, _, rank = kind.partition("-")
    return int(rank or 1) if name == "lowrank" else None


NoiseModules = Annotated[str, AfterValidator(check_modules)]
"""Mask of modules: see `Noise`."""


@dataclass(frozen=True)
class Noise:
    """Distribution of a noise direction: what a seed stands for.

    Example:
        >>> Noise("lowrank", modules="mlp").described
        {'kind': 'lowrank', 'modules': 'mlp'}

    Attributes:
        kind: Noise kind: see this module.
        scale: `plain`: equal variance in all tensors that move; `modular`: a factor for each, see
            `bench.weights.layout`.
        modules: Tensors that move: a name of `bench.weights.masks.MODULES`, several joined by `|`, or else a regular
            expression that is searched in their names.

    Raises:
        ValueError: If the kind or the scale is unknown, or the regular expression is empty or invalid.
    """

    kind: NoiseKind = "iid"
    scale: NoiseScale = "plain"
    modules: str = "all"

    def __post_init__(self) -> None:
        for name, value, known in (("noise", self.kind, NoiseKind), ("scale", self.scale, NoiseScale)):
            if value not in get_args(known):
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(get_args(known))}")
        check_modules(self.modules)

    @property
    def rank(self) -> int | None:
        """Rank in each matrix; None for full rank."""
        return rank_of(self.kind)

    @property
    def described(self) -> dict[str, Any]:
        """The fields as plain JSON values, without scale and modules where these are the defaults."""
        found = {"kind": self.kind, "scale": self.scale, "modules": self.modules}
        return {name: value for name, value in found.items() if name == "kind" or value != getattr(Noise, name)}

    def __str__(self) -> str:
        """Return the kind, followed by what is not the default, such as `iid modules="mlp"`."""
        kind, *others = self.described.items()
        return " ".join([kind[1], *(f"{name}={json.dumps(value)}" for name, value in others)])


PLAIN = Noise()
"""Independent standard normals for all weights."""


def factor_keys(seeds: Sequence[int], name: str, side: Literal["left", "right"]) -> NDArray[np.uint32]:
    """Return the keys of one factor of a matrix's low-rank noise, uint32 [seeds, 4].

    Its stream holds one column of the factor after the other, so value k * size + i is entry i of column k.

    Args:
        seeds: Seeds of the noise directions.
        name: Name of the matrix in the model.
        side: `left` for A, which has an entry per row, `right` for B, which has one per column.
    """
    return stream_keys(seeds, f"{name}\0{side}")


def draw_lowrank(seed: int, name: str, shape: tuple[int, int], kind: NoiseKind) -> NDArray[np.float32]:
    """Return the low-rank noise eps(seed, name) of a whole matrix. The reference of the faster implementations.

    Args:
        seed: Seed of the noise direction.
        name: Name of the matrix in the model.
        shape: Rows and columns.
        kind: Noise kind, of low rank.
    """
    rank = rank_of(kind)
    assert rank is not None
    left, right = (
        normals(np, key, np.arange(-(-rank * size // 4), dtype=np.int64))[: rank * size].reshape(rank, size)
        for size, side in zip(shape, ("left", "right"), strict=True)
        for key in factor_keys([seed], name, side)  # type: ignore[arg-type]
    )
    total = np.zeros(shape, dtype=np.float32)
    for a, b in zip(left * np.float32(1 / math.sqrt(rank)), right, strict=True):
        total += a[:, None] * b
    return total


def philox(counter: Sequence[Any], key: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Return the four output words of Philox4x32-10 for each counter.

    Args:
        counter: Four words, the lowest first: int64 arrays or tensors of one shape, or integers, below 2^32.
        key: Two words in the same format.

    Returns:
        Four arrays, tensors or integers, one per word.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The int64 products wrap around, but both halves have the bits of the unsigned product.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32 & WORD) ^ c1 ^ k0, p1 & WORD, (p0 >> 32 & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = k0 + WEYL[0] & WORD, k1 + WEYL[1] & WORD
    return c0, c1, c2, c3


def box_muller(xp: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Return two independent standard normals for each pair of random words.

    The lowest bit of the first word is the sign of the cosine. Its other bits, plus one half, are the uniform number of
    the radius. The second word is an angle in the right half-plane.

    Args:
        xp: Module `numpy` or `torch`.
        first: int64 array or tensor of words below 2^32.
        second: int64 array or tensor of words below 2^32, of the same shape.
    """
    uniform = xp.asarray(first | 1, dtype=xp.float32)
    bits = uniform.view(xp.int32) - ROOT_HALF
    exponent = xp.asarray((bits >> 23) - 32, dtype=xp.float32)
    x = ((bits & 0x7FFFFF) + ROOT_HALF).view(xp.float32) - 1.0
    # The square root is taken in float64: torch's float32 root is sometimes off by one bit.
    squared = xp.asarray(x * _polynomial(LOG, x) + exponent * LOG_OF_TWO, dtype=xp.float64)
    radius = xp.asarray(xp.sqrt(squared), dtype=xp.float32)
    angle = xp.asarray((second ^ 0x80000000) - 0x80000000, dtype=xp.float32) * 2.0**-32
    square = angle * angle
    cosine, sine = _polynomial(COS, square), angle * _polynomial(SIN, square)
    return radius * xp.where((first & 1) == 1, -cosine, cosine), radius * sine


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value


def normals(xp: Any, key: Sequence[int], blocks: Any) -> Any:
    """Return four standard normals for each block of a stream, float32 [4 * blocks].

    Args:
        xp: Module `numpy` or `torch`.
        key: One row of `stream_keys`.
        blocks: int64 array or tensor of block numbers; block b holds the values 4 b to 4 b + 3.
    """
    k0, k1, c2, c3 = (int(word) for word in key)
    # Every word is an array of the shape of `blocks`, because products of Python integers do not wrap around.
    counter = (blocks & WORD, blocks >> 32, blocks * 0 + c2, blocks * 0 + c3)
    w0, w1, w2, w3 = philox(counter, (k0, k1))
    return xp.stack([*box_muller(xp, w0, w1), *box_muller(xp, w2, w3)], -1).reshape(-1)


def draw(seed: int, name: str, out: NDArray[np.float32], *, start: int = 0, kind: NoiseKind = "iid") -> None:
    """Fill `out` with a slice of eps(seed, name), in the tensor's row-major order.

    This is the reference implementation. It needs only NumPy; the faster ones are tested against it.

    Args:
        seed: Seed of the noise direction.
        name: Name of the tensor in the model.
        out: C-contiguous float32 array of any shape; overwritten.
        start: Position of the slice's first value in the tensor.
        kind: Noise kind: `iid`, or `tied`, where all tensors share one stream.

    Raises:
        ValueError: If the array is not C-contiguous, because values would be in the wrong order.
    """
    if not out.flags.c_contiguous:
        raise ValueError(f"{name}: noise is drawn into C-contiguous arrays only")
    (key,) = stream_keys([seed], name, kind)
    flat = out.reshape(-1)
    end = start + flat.size
    for first in range(start // 4, -(-end // 4), CHUNK):
        blocks = np.arange(first, min(first + CHUNK, -(-end // 4)), dtype=np.int64)
        values = normals(np, key, blocks)
        low = max(4 * first, start)
        flat[low - start : 4 * first + values.size - start] = values[low - 4 * first :][: end - low]
