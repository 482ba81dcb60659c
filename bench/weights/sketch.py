"""Count sketch of noise directions: a random projection of weight vectors to k dimensions.

Each weight of the model is added, with a random sign, to one random coordinate of k (Charikar, Chen & Farach-Colton
2002, "Finding frequent items in data streams"). The projection matrix has i.i.d. columns with one entry +1 or -1. Inner
products are unbiased, with a variance of at most 2 / k times the product of the squared lengths. The cost does not
depend on k. All candidates share the signs and coordinates; each tensor has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from bench.seeds import derive
from bench.weights.layout import Layout
from bench.weights.noise import PLAIN, Noise, stream_keys

CHUNK = 1 << 18
"""Weights processed at a time."""
GROUP = 8
"""Candidates processed at a time."""


def sketch(seeds: Sequence[int], layout: Layout, dimensions: int, *, noise: Noise = PLAIN) -> NDArray[np.float64]:
    """Return the sketches of noise directions, in units of the norm of one direction, so each length is about 1.

    Args:
        seeds: Seeds of the noise directions.
        layout: Layout of the model.
        dimensions: Number of dimensions k.
        noise: Noise of the seeds.

    Returns:
        float64 array [seeds, dimensions].

    Raises:
        Refused: If the noise moves no tensor of the model.
    """
    from bench.weights import noise_numba
    from bench.weights.lowrank import factors

    scales = layout.scales(noise)
    sizes = {name: layout.tensors[name].size for name in scales}
    matrices = {} if noise.rank is None else layout.matrices(noise)
    total = np.zeros((dimensions, len(seeds)))
    for name, size in sizes.items():
        rng = np.random.default_rng(derive("sketch", dimensions, name))
        for start in range(0, size, CHUNK):
            count = min(CHUNK, size - start)
            signs = rng.choice(np.array([-1, 1], dtype=np.float32), count)
            places = rng.integers(dimensions, size=count)
            project = csr_matrix((signs, places, np.arange(count + 1)), shape=(count, dimensions)).T
            for low in range(0, len(seeds), GROUP):
                group = seeds[low : low + GROUP]
                drawn = np.empty((len(group), count), dtype=np.float32)
                alone = np.eye(len(group), dtype=np.float32) * np.float32(scales[name])
                if noise.rank is None:
                    noise_numba.sums(stream_keys(group, name, noise.kind), alone, start, drawn)
                else:
                    parts = factors(group, alone, name, matrices[name], noise.kind, start, count)
                    noise_numba.outer_sums(*parts, drawn)
                total[:, low : low + len(group)] += project @ drawn.T
    return total.T / np.sqrt(sum(sizes.values()))


def layout_of_checkpoint(checkpoint: str) -> Layout:
    """Return the layout of a checkpoint's model, without reading the weights. Tied tensors are listed once.

    Args:
        checkpoint: Folder of the checkpoint.
    """
    from pathlib import Path

    from bench.models.multimodal import meta_model
    from bench.models.opening import open_config
    from bench.weights.layers import layout_of

    return layout_of(meta_model(open_config(Path(checkpoint))))
