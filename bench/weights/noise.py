"""The noise directions: eps(seed, tensor name), i.i.d. standard normal, drawn alike by every backend.

The stream is keyed by the seed and the tensor's canonical Hugging Face name. Released code re-seeds one generator
with the same seed for every tensor, so tensors of one shape share their noise; here they cannot.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

NOISE_VERSION = "philox-ziggurat-f32-1"


def draw(seed: int, name: str, out: NDArray[np.float32]) -> None:
    """Fill `out` with eps(seed, name), in the tensor's row-major order.

    Args:
        seed: Which noise direction.
        name: Canonical Hugging Face name of the tensor, such as `model.layers.0.mlp.up_proj.weight`.
        out: C-contiguous float32 array of any shape, overwritten.

    Raises:
        ValueError: If the array is not C-contiguous; NumPy would fill it in the order of its memory.
    """
    if not out.flags.c_contiguous:
        raise ValueError(f"{name}: noise is drawn into C-contiguous arrays only")
    key = np.frombuffer(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest(), dtype="<u8")
    np.random.Generator(np.random.Philox(key=key.astype(np.uint64))).standard_normal(dtype=np.float32, out=out)
