"""The noise directions: eps(seed, tensor name), i.i.d. standard normal, the same values on every machine.

Value i of a tensor is a function of (seed, name, i) alone, so any slice is drawn alone, by any number of threads. The
random bits are Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based
generator that needs 32-bit products only, so that NumPy, a compiled loop and an accelerator draw the same. Library
generators do not: NumPy's Philox has another width and a sequential normal transform, torch's CPU generator is
another one than its GPU generator, and both transform through the logarithm and cosine of the platform.

The normal transform is Box and Muller's (1958) with polynomials of our own. It is a fixed sequence of float32
additions, multiplications and square roots, which IEEE 754 rounds in one way only, as long as no product is
contracted with a sum. Its values reach 6.66; a standard normal exceeds that once in 4e10 draws.

Released code re-seeds one generator with the same seed for every tensor, so tensors of one shape share their noise.
That is the kind `tied` here, kept as a named ablation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

NOISE_VERSION = "philox4x32-10-box-muller-1"

NoiseKind = Literal["iid", "tied"]

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
"""Bits of the float32 sqrt(1/2): a mantissa is taken between it and its double, where the logarithm is near 0."""

CHUNK = 1 << 16
"""Blocks drawn at a time by `draw`, so that what it holds beside its result stays in the cache."""


def stream_keys(seeds: Sequence[int], name: str, kind: NoiseKind = "iid") -> NDArray[np.uint32]:
    """Return what tells the streams of one tensor apart, uint32 [seeds, 4].

    Args:
        seeds: Noise directions, any integers.
        name: Canonical Hugging Face name of the tensor, such as `model.layers.0.mlp.up_proj.weight`.
        kind: `iid`, or `tied`, where the name does not enter the key.

    Returns:
        128 bits of BLAKE2b of seed and name: Philox' two key words, then the upper two words of its counter.
    """
    suffix = f"\0{name}" if kind == "iid" else ""
    digests = (hashlib.blake2b(f"{seed}{suffix}".encode(), digest_size=16).digest() for seed in seeds)
    return np.frombuffer(b"".join(digests), dtype="<u4").reshape(-1, 4).astype(np.uint32)


def philox(counter: Sequence[Any], key: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Return the four words of Philox4x32-10 for each counter, word by word.

    Args:
        counter: Four words from the lowest, int64 arrays or tensors of one shape (or integers) below 2^32.
        key: Two words, likewise.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The int64 products wrap around; the bits of their halves are those of the unsigned product.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32 & WORD) ^ c1 ^ k0, p1 & WORD, (p0 >> 32 & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = k0 + WEYL[0] & WORD, k1 + WEYL[1] & WORD
    return c0, c1, c2, c3


def box_muller(xp: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Return two independent standard normals for each pair of random words.

    The lowest bit of the first word is the sign of the cosine and the others, with a half added, its radius;
    the second word is an angle in the right half-plane.

    Args:
        xp: `numpy` or `torch`.
        first: int64 array or tensor of words below 2^32.
        second: Likewise, of the same shape.
    """
    uniform = xp.asarray(first | 1, dtype=xp.float32)
    bits = uniform.view(xp.int32) - ROOT_HALF
    exponent = xp.asarray((bits >> 23) - 32, dtype=xp.float32)
    x = ((bits & 0x7FFFFF) + ROOT_HALF).view(xp.float32) - 1.0
    # The root goes through float64: torch's of float32 is off by one bit at times, and this rounds to the right one.
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
        xp: `numpy` or `torch`.
        key: One row of `stream_keys`.
        blocks: int64 array or tensor of block numbers; block b holds values 4 b to 4 b + 3.
    """
    k0, k1, c2, c3 = (int(word) for word in key)
    # Arrays of the blocks' shape throughout: the products of plain integers would not wrap around.
    counter = (blocks & WORD, blocks >> 32, blocks * 0 + c2, blocks * 0 + c3)
    w0, w1, w2, w3 = philox(counter, (k0, k1))
    return xp.stack([*box_muller(xp, w0, w1), *box_muller(xp, w2, w3)], -1).reshape(-1)


def draw(seed: int, name: str, out: NDArray[np.float32], *, start: int = 0, kind: NoiseKind = "iid") -> None:
    """Fill `out` with a slice of eps(seed, name), in the tensor's row-major order, by plain NumPy.

    This is the definition that faster ways are tested against, and it needs nothing but NumPy.

    Args:
        seed: Which noise direction.
        name: Canonical Hugging Face name of the tensor.
        out: C-contiguous float32 array of any shape, overwritten.
        start: Position of the slice's first value in the tensor.
        kind: `iid`, or `tied`, where all tensors draw from one stream.

    Raises:
        ValueError: If the array is not C-contiguous; it would be filled in the order of its memory.
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
