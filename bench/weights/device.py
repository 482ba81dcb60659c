"""The noise on any device that torch has, by its elementwise integer and float operations.

Torch's own generator cannot serve: on the CPU it is another one than on a GPU, and its normal transform differs
between devices. The operations used here are exact on every device with IEEE float32 and float64, and eager torch
fuses none of them, so the values are those of `bench.weights.noise` bit for bit.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bench.weights.noise import normals

CHUNK = 1 << 22
"""Values drawn at a time; the generator's integers take some twenty times their memory."""


def sums(keys: NDArray[np.uint32], weights: NDArray[np.float32], start: int, out: torch.Tensor) -> None:
    """Write weighted sums of noise, as `bench.weights.kernels.sums` does.

    Args:
        keys: [seeds, 4], from `stream_keys`.
        weights: [rows, seeds].
        start: Position of the first value in the tensor, a multiple of 4.
        out: [rows, values], float32 on any device, overwritten.
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


def add(total: torch.Tensor, scale: float, base: torch.Tensor, live: torch.Tensor) -> None:
    """Write live = cast(base + scale * total); the product is rounded before the sum, as everywhere.

    Args:
        total: Of the shape of `live`, or flat.
        scale: Rounded to float32.
        base: Flat.
        live: Of any shape and layout, overwritten.
    """
    moved = base.float() + total * scale
    live.copy_(moved.to(live.dtype).view(live.shape))
