"""Noise as compiled loops over contiguous CPU arrays, bit-identical to `bench.weights.noise`.

The noise is drawn, used and overwritten in pieces of a few kilobytes, which stay in the cache of the core. The
functions release the GIL and share no state, so several threads can work on slices of one tensor. No fast-math flag is
set, so LLVM may neither contract a product with a sum nor reorder a sum.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from bench.compiled import compiled
from bench.weights.noise import COS, LOG, LOG_OF_TWO, MULTIPLIERS, ROOT_HALF, ROUNDS, SIN, WEYL

CHUNK = 512
"""Values drawn at a time. The noise of one group of seeds fills half of the L1 cache."""
GROUP = 8
"""Seeds whose noise is drawn together, so that each sum is read only once for all of them."""
SPARSE = 2
"""Largest number of nonzero weights in a group for which seeds are added one by one."""

# Passed as an argument, because numba's cache does not notice a change of a constant in another file.
COEFFICIENTS = np.array([*LOG, LOG_OF_TWO, *SIN, *COS], dtype=np.float32)


def sums(keys: NDArray[np.uint32], weights: NDArray[np.float32], start: int, out: NDArray[np.float32]) -> None:
    """Write weighted sums of noise: out[m, j] = sum_i weights[m, i] * eps_i[start + j].

    Each sum starts at zero and adds the seeds in order, in float32, and skips weights of zero. A row therefore does
    not depend on the other rows of the same pass. Each eps_i is drawn once.

    Args:
        keys: Keys from `stream_keys`, shape [seeds, 4].
        weights: Weights, shape [rows, seeds].
        start: Position of the first value in the tensor, a multiple of 4.
        out: C-contiguous array [rows, values]; overwritten.
    """
    _sums(keys, weights, start, out, COEFFICIENTS)


def move(
    keys: NDArray[np.uint32],
    weights: NDArray[np.float32],
    scale: float,
    start: int,
    base: NDArray[Any],
    live: NDArray[Any],
) -> None:
    """Write live = cast(base + scale * sum) for one weighted sum of noise, without storing the sum.

    Args:
        keys: Keys from `stream_keys`, shape [seeds, 4].
        weights: Weights, shape [1, seeds].
        scale: Factor of the noise, rounded to float32.
        start: Position of the slice's first value in the tensor, a multiple of 4.
        base: Base values, shape [values]: float32, or bfloat16 stored as uint16.
        live: Live values in the same format, or bfloat16 for a base in float32; overwritten. May be the base itself.
    """
    _move(keys, weights, np.float32(scale), start, base, live, COEFFICIENTS)


def add(total: NDArray[np.float32], scale: float, base: NDArray[Any], live: NDArray[Any]) -> None:
    """Write live = cast(base + scale * total), as `move` does, from a sum that was stored."""
    _add(total, np.float32(scale), base, live)


def outer_sums(left: NDArray[np.float32], right: NDArray[np.float32], start: int, out: NDArray[np.float32]) -> None:
    """Write sums of outer products: out[m] = sum_t left[m, t] right[t]^T, a slice of that matrix in row-major order.

    Each sum starts at zero and adds the terms in order, in float32; each product is rounded before it is added.

    Args:
        left: Entries of the rows that the slice reaches, shape [matrices, terms, rows].
        right: Entries of all columns, shape [terms, columns].
        start: Position of the slice's first value within these rows.
        out: C-contiguous array [matrices, values]; overwritten.
    """
    for matrix, total in zip(left, out, strict=True):
        _outer(matrix, right, start, total)


def outer_move(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    scale: float,
    start: int,
    base: NDArray[Any],
    live: NDArray[Any],
) -> None:
    """Write live = cast(base + scale * sum) for one sum of outer products, without storing the sum.

    Args:
        left: Entries of the rows that the slice reaches, shape [terms, rows].
        right: Entries of all columns, shape [terms, columns].
        scale: Factor of the sum, rounded to float32.
        start: Position of the slice's first value within these rows.
        base: Base values, as in `move`.
        live: Live values, as in `move`.
    """
    _outer_move(left, right, np.float32(scale), start, base, live)


HIGH = np.uint64(32)
WORD = np.uint64(0xFFFFFFFF)
M0, M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
WEYL0, WEYL1 = np.uint64(WEYL[0]), np.uint64(WEYL[1])
HALF_BITS, MANTISSA, MANTISSA_MASK = np.int32(ROOT_HALF), np.int32(23), np.int32(0x7FFFFF)
HALF_WORD = np.uint32(16)
ZERO, ONE, TURN = np.float32(0), np.float32(1), np.float32(2**-32)


@compiled()
def _words(key, first, w0, w1, w2, w3):
    # Words are stored in 64-bit lanes, because one vector instruction multiplies the lower halves of eight lanes.
    k0, k1, c2, c3 = np.uint64(key[0]), np.uint64(key[1]), np.uint64(key[2]), np.uint64(key[3])
    for i in range(w0.size):
        block = first + np.uint64(i)
        x0, x1, x2, x3 = block & WORD, block >> HIGH, c2, c3
        a, b = k0, k1
        for _ in range(ROUNDS):
            p0, p1 = M0 * x0, M1 * x2
            x0, x1, x2, x3 = (p1 >> HIGH) ^ x1 ^ a, p1 & WORD, (p0 >> HIGH) ^ x3 ^ b, p0 & WORD
            a, b = (a + WEYL0) & WORD, (b + WEYL1) & WORD
        w0[i], w1[i], w2[i], w3[i] = np.uint32(x0), np.uint32(x1), np.uint32(x2), np.uint32(x3)


@compiled()
def _box_muller(first, second, cosines, sines, coefficients):
    # `cosines` and `sines` first hold the reduced mantissa and the exponent: a loop over one type is vectorized.
    k = coefficients
    l0, l1, l2, l3, l4, l5, l6, l7, log_of_two = k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7], k[8]
    s0, s1, s2, s3, s4 = k[9], k[10], k[11], k[12], k[13]
    c0, c1, c2, c3, c4 = k[14], k[15], k[16], k[17], k[18]
    bits = cosines.view(np.int32)
    for i in range(first.size):
        cosines[i] = np.float32(np.uint32(first[i] | np.uint32(1)))
    for i in range(first.size):
        shifted = np.int32(bits[i] - HALF_BITS)
        sines[i] = np.float32(np.int32((shifted >> MANTISSA) - np.int32(32)))
        bits[i] = np.int32((shifted & MANTISSA_MASK) + HALF_BITS)
    for i in range(first.size):
        x = cosines[i] - ONE
        log = l0 + x * (l1 + x * (l2 + x * (l3 + x * (l4 + x * (l5 + x * (l6 + x * l7))))))
        radius = np.float32(math.sqrt(x * log + sines[i] * log_of_two))
        angle = np.float32(np.int32(second[i])) * TURN
        t = angle * angle
        cosine = c0 + t * (c1 + t * (c2 + t * (c3 + t * c4)))
        sine = angle * (s0 + t * (s1 + t * (s2 + t * (s3 + t * s4))))
        cosines[i] = radius * (-cosine if first[i] & np.uint32(1) else cosine)
        sines[i] = radius * sine


@compiled()
def _draw(key, first, words, planes, out, coefficients):
    n = (out.size + 3) // 4
    w0, w1, w2, w3 = words[0][:n], words[1][:n], words[2][:n], words[3][:n]
    z0, z1, z2, z3 = planes[0][:n], planes[1][:n], planes[2][:n], planes[3][:n]
    _words(key, np.uint64(first), w0, w1, w2, w3)
    _box_muller(w0, w1, z0, z1, coefficients)
    _box_muller(w2, w3, z2, z3, coefficients)
    for i in range(out.size // 4):
        out[4 * i], out[4 * i + 1], out[4 * i + 2], out[4 * i + 3] = z0[i], z1[i], z2[i], z3[i]
    for i in range(out.size // 4 * 4, out.size):
        out[i] = planes[i % 4, i // 4]


@compiled()
def _accumulate(weights, noise, total):
    # total += weights[0] * noise[0], then seed 1, and so on, with rounding after each step. A weight of zero changes no
    # bit, because noise is finite and a sum that starts at +0 is never -0. Zeros are skipped if this saves time.
    n, used = total.size, 0
    for weight in weights:
        used += weight != ZERO
    if used == 0:
        return
    if used <= SPARSE:
        for i in range(GROUP):
            a, e = weights[i], noise[i][:n]
            if a != ZERO:
                for j in range(n):
                    total[j] = total[j] + a * e[j]
        return
    a0, a1, a2, a3 = weights[0], weights[1], weights[2], weights[3]
    a4, a5, a6, a7 = weights[4], weights[5], weights[6], weights[7]
    e0, e1, e2, e3 = noise[0][:n], noise[1][:n], noise[2][:n], noise[3][:n]
    e4, e5, e6, e7 = noise[4][:n], noise[5][:n], noise[6][:n], noise[7][:n]
    for j in range(n):
        half = (((total[j] + a0 * e0[j]) + a1 * e1[j]) + a2 * e2[j]) + a3 * e3[j]
        total[j] = (((half + a4 * e4[j]) + a5 * e5[j]) + a6 * e6[j]) + a7 * e7[j]


@compiled()
def _chunk_sums(keys, weights, start, totals, size, scratch, coefficients):
    # totals[:, :size] are the sums for the values from `start` on. Rows are sliced one by one, because only loops over
    # contiguous one-dimensional arrays are vectorized.
    words, planes, noise, group = scratch
    totals.fill(ZERO)
    for first in range(0, keys.shape[0], GROUP):
        n = min(GROUP, keys.shape[0] - first)
        for i in range(n):
            _draw(keys[first + i], start // 4, words, planes, noise[i][:size], coefficients)
        for row in range(totals.shape[0]):
            for i in range(GROUP):
                group[i] = weights[row, first + i] if i < n else ZERO
            _accumulate(group, noise, totals[row][:size])


@compiled()
def _scratch():
    words = np.empty((4, CHUNK // 4), np.uint32)
    planes = np.empty((4, CHUNK // 4), np.float32)
    return words, planes, np.zeros((GROUP, CHUNK), np.float32), np.empty(GROUP, np.float32)


@compiled()
def _sums(keys, weights, start, out, coefficients):
    # The sums of a chunk are kept in `totals` until they are complete: rows of `out` may map to the same cache lines.
    scratch, totals = _scratch(), np.empty((out.shape[0], CHUNK), np.float32)
    for low in range(0, out.shape[1], CHUNK):
        n = min(CHUNK, out.shape[1] - low)
        _chunk_sums(keys, weights, start + low, totals, n, scratch, coefficients)
        for row in range(out.shape[0]):
            source, target = totals[row][:n], out[row][low : low + n]
            for j in range(n):
                target[j] = source[j]


@compiled()
def _move(keys, weights, scale, start, base, live, coefficients):
    scratch, totals = _scratch(), np.empty((1, CHUNK), np.float32)
    for low in range(0, base.size, CHUNK):
        n = min(CHUNK, base.size - low)
        _chunk_sums(keys, weights, start + low, totals, n, scratch, coefficients)
        _write(totals[0][:n], scale, base[low : low + n], live[low : low + n])


@compiled()
def _outer(left, right, start, total):
    columns = right.shape[1]
    total.fill(ZERO)
    low = 0
    while low < total.size:
        row, column = (start + low) // columns, (start + low) % columns
        n = min(columns - column, total.size - low)
        target = total[low : low + n]
        for term in range(left.shape[0]):
            a, source = left[term, row], right[term][column : column + n]
            for j in range(n):
                target[j] = target[j] + a * source[j]
        low += n


@compiled()
def _outer_move(left, right, scale, start, base, live):
    total = np.empty(CHUNK, np.float32)
    for low in range(0, base.size, CHUNK):
        n = min(CHUNK, base.size - low)
        _outer(left, right, start + low, total[:n])
        _write(total[:n], scale, base[low : low + n], live[low : low + n])


@compiled()
def _add_float32(total, scale, base, live):
    for j in range(base.size):
        live[j] = base[j] + scale * total[j]


@compiled()
def _round(bits, target):
    for j in range(target.size):
        # Round to nearest, ties to even. Infinities and NaN stay as they are.
        odd = (bits[j] >> HALF_WORD) & np.uint32(1)
        nearest = np.uint32(bits[j] + odd + np.uint32(0x7FFF)) >> HALF_WORD
        is_nan = (bits[j] & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        target[j] = np.uint16(np.uint32(0x7FC0) if is_nan else nearest)


@compiled()
def _add_bfloat16(total, scale, base, live):
    scratch = np.empty(min(base.size, CHUNK), np.float32)
    for low in range(0, base.size, CHUNK):
        part, source, target = total[low : low + CHUNK], base[low : low + CHUNK], live[low : low + CHUNK]
        value = scratch[: source.size]
        bits = value.view(np.uint32)
        for j in range(source.size):
            bits[j] = np.uint32(source[j]) << HALF_WORD
        for j in range(source.size):
            value[j] = value[j] + scale * part[j]
        _round(bits, target)


@compiled()
def _add_rounded(total, scale, base, live):
    scratch = np.empty(min(base.size, CHUNK), np.float32)
    for low in range(0, base.size, CHUNK):
        part, source, target = total[low : low + CHUNK], base[low : low + CHUNK], live[low : low + CHUNK]
        value = scratch[: source.size]
        for j in range(source.size):
            value[j] = source[j] + scale * part[j]
        _round(value.view(np.uint32), target)


def _write(total, scale, base, live):
    raise NotImplementedError  # compiled code calls one of the three functions above, depending on the dtypes


@numba.extending.overload(_write)
def _write_by_dtype(total, scale, base, live):
    if live.dtype == numba.float32:
        return lambda total, scale, base, live: _add_float32(total, scale, base, live)
    if base.dtype == numba.float32:
        return lambda total, scale, base, live: _add_rounded(total, scale, base, live)
    return lambda total, scale, base, live: _add_bfloat16(total, scale, base, live)


@compiled()
def _add(total, scale, base, live):
    _write(total, scale, base, live)
