"""Noise on any torch device, computed with elementwise integer and float operations.

Torch's own generators are not suitable: the CPU and GPU generators differ, and so do their normal transforms. The
operations used here are exact on every device with IEEE float32 and float64, and eager torch does not fuse them. The
values are therefore bit-identical to those of `bench.weights.noise`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bench.weights.noise import normals

CHUNK = 1 << 22
"""Values drawn at a time. The generator's integers take about twenty times the memory of the values."""


def sums(keys: NDArray[np.uint32], weights: NDArray[np.float32], start: int, out: torch.Tensor) -> None:
    """Write weighted sums of noise. See `bench.weights.noise_numba.sums`.

    Args:
        keys: Keys from `stream_keys`, shape [seeds, 4].
        weights: Weights, shape [rows, seeds].
        start: Position of the first value in the tensor, a multiple of 4.
        out: float32 tensor [rows, values] on any device; overwritten.
    """
    out.zero_()
    for low in range(0, out.shape[1], CHUNK):
        chunk = out[:, low : low + CHUNK]
        first = (start + low) // 4
        blocks = torch.arange(first, first - (-chunk.shape[1] // 4), dtype=torch.int64, device=out.device)
        for key, column in zip(keys, weights.T.tolist(), strict=True):
            noise = normals(torch, key.tolist(), blocks)[: chunk.shape[1]]
            for row, weight in zip(chunk, column, strict=True):
                if weight != 0.0:
                    row += noise * weight


def outer_sums(left: NDArray[np.float32], right: NDArray[np.float32], start: int, out: torch.Tensor) -> None:
    """Write sums of outer products. See `bench.weights.noise_numba.outer_sums`.

    Args:
        left: Entries of the rows that the slice reaches, shape [matrices, terms, rows].
        right: Entries of all columns, shape [terms, columns].
        start: Position of the slice's first value within these rows.
        out: float32 tensor [matrices, values] on any device; overwritten.
    """
    across = torch.from_numpy(right).to(out.device)
    for matrix, row in zip(left, out, strict=True):
        total = torch.zeros(matrix.shape[1], right.shape[1], device=out.device)
        for down, term in zip(torch.from_numpy(matrix).to(out.device), across, strict=True):
            total += down[:, None] * term
        row.copy_(total.view(-1)[start : start + row.numel()])


def add(total: torch.Tensor, scale: float, base: torch.Tensor, live: torch.Tensor) -> None:
    """Write live = cast(base + scale * total). The product is rounded before the sum, as in `noise_numba`.

    Args:
        total: Flat tensor of summed noise.
        scale: Factor of the noise, rounded to float32.
        base: Flat tensor of base values.
        live: Live tensor of any shape and layout; overwritten.
    """
    moved = base.float() + total * scale
    live.copy_(moved.to(live.dtype).view(live.shape))
