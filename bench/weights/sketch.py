"""Count sketch of noise directions: a random projection of weight vectors to k dimensions.

Each weight of the model is added, with a random sign, to one random coordinate of k (Charikar, Chen & Farach-Colton
2002, "Finding frequent items in data streams"). The projection matrix has i.i.d. columns with one entry +1 or -1. Inner
products are unbiased, with a variance of at most 2 / k times the product of the squared lengths. The cost does not
depend on k. All candidates share the signs and coordinates; each tensor has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from bench.seeds import derive
from bench.weights.noise import NoiseKind, stream_keys

CHUNK = 1 << 18
"""Weights processed at a time."""
GROUP = 8
"""Candidates processed at a time."""


def sketch(
    seeds: Sequence[int], sizes: Mapping[str, int], dimensions: int, *, noise: NoiseKind = "iid"
) -> NDArray[np.float64]:
    """Return the sketches of noise directions, in units of the norm of one direction, so each length is about 1.

    Args:
        seeds: Seeds of the noise directions.
        sizes: Number of weights by name of the tensor.
        dimensions: Number of dimensions k.
        noise: Noise kind, `iid` or `tied`.

    Returns:
        float64 array [seeds, dimensions].
    """
    from bench.weights import noise_numba

    total = np.zeros((dimensions, len(seeds)))
    alone = np.eye(GROUP, dtype=np.float32)
    for name, size in sizes.items():
        keys = stream_keys(seeds, name, noise)
        rng = np.random.default_rng(derive("sketch", dimensions, name))
        for start in range(0, size, CHUNK):
            count = min(CHUNK, size - start)
            signs = rng.choice(np.array([-1, 1], dtype=np.float32), count)
            places = rng.integers(dimensions, size=count)
            project = csr_matrix((signs, places, np.arange(count + 1)), shape=(count, dimensions)).T
            for low in range(0, len(seeds), GROUP):
                group = keys[low : low + GROUP]
                drawn = np.empty((len(group), count), dtype=np.float32)
                noise_numba.sums(group, alone[: len(group), : len(group)].copy(), start, drawn)
                total[:, low : low + len(group)] += project @ drawn.T
    return total.T / np.sqrt(sum(sizes.values()))


def weight_sizes(checkpoint: str) -> dict[str, int]:
    """Return the number of weights of each tensor of a checkpoint that moves, by name, without reading the weights.

    Tied tensors are listed once.

    Args:
        checkpoint: Folder of the checkpoint.
    """
    from pathlib import Path

    from bench.models.multimodal import meta_model
    from bench.models.opening import open_config
    from bench.models.tensors import movable

    return {name: each.numel() for name, each in movable(meta_model(open_config(Path(checkpoint)))).items()}
