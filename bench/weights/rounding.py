"""Rounding of small moves: what a dtype can keep of a move of a given size. Reads checkpoint files, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MANTISSA = {"bfloat16": 7, "float16": 10}
"""Stored bits of the mantissa, of the types that are narrower than float32."""
SAMPLE = 1 << 16
"""Weights read of each tensor, at equal distances."""

_STORED = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}


@dataclass(frozen=True)
class Kept:
    """Part of a move that a dtype keeps, if every weight moves by the same distance.

    Attributes:
        changed: Fraction of the weights that change.
        cosine: Cosine of the move and what is kept of it; 0 if no weight changes.
    """

    changed: float
    cosine: float


@lru_cache(maxsize=64)
def kept(folder: Path, distance: float, dtype: str) -> Kept | None:
    """Return what a dtype keeps of a move by which every weight of a checkpoint moves equally far.

    A weight w lies on a grid with steps of 2^(e - m), where 2^e <= |w| < 2^(e + 1) and m is the number of bits of the
    mantissa. A move of less than half a step is rounded away, and others to a whole number of steps.

    Args:
        folder: Folder of the checkpoint, with safetensors files.
        distance: Distance that each weight moves, positive.
        dtype: Dtype that the moved weights are rounded to.

    Returns:
        The estimate from a sample of each tensor. None for float32, and if the folder has no weights in a known type.
    """
    if dtype not in MANTISSA:
        return None
    weights = changed = square = inner = 0.0
    for size, sample in _samples(folder):
        _, exponents = np.frexp(sample)  # 0.5 <= |mantissa| < 1, so e is one less
        step = np.ldexp(1.0, exponents - 1 - MANTISSA[dtype])
        step[sample == 0] = distance  # near zero the grid is far finer than any move
        rounded = np.rint(distance / step) * step
        each = size / sample.size
        weights += size
        changed += each * np.count_nonzero(rounded)
        square += each * float(np.square(rounded).sum())
        inner += each * float(distance * rounded.sum())
    if not weights:
        return None
    return Kept(changed / weights, inner / (distance * (weights * square) ** 0.5) if square else 0.0)


def _samples(folder: Path) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield for each tensor its number of weights and a sample of them."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            kind = None if name == "__metadata__" else _STORED.get(tensor["dtype"])
            if kind is None or 0 in tensor["shape"]:
                continue
            start, end = tensor["data_offsets"]
            size = (end - start) // np.dtype(kind).itemsize
            stored = np.memmap(path, dtype=kind, mode="r", offset=8 + length + start, shape=(size,))
            sample = stored[:: -(-size // SAMPLE)]
            if tensor["dtype"] == "BF16":
                sample = (sample.astype("<u4") << 16).view("<f4")
            yield size, sample.astype(np.float32)
