"""Count sketch of noise directions: a random projection of weight vectors to k dimensions.

Each weight of the model is added, with a random sign, to one random coordinate of k (Charikar, Chen & Farach-Colton
2002, "Finding frequent items in data streams"). The projection matrix has i.i.d. columns with one entry +1 or -1. Inner
products are unbiased, with a variance of at most 2 / k times the product of the squared lengths. The cost does not
depend on k. All candidates share the signs and coordinates; each tensor has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from bench.seeds import derive
from bench.weights.noise import NoiseKind, rank_of, stream_keys

CHUNK = 1 << 18
"""Weights processed at a time."""
GROUP = 8
"""Candidates processed at a time."""


def sketch(
    seeds: Sequence[int],
    sizes: Mapping[str, int],
    dimensions: int,
    *,
    noise: NoiseKind = "iid",
    matrices: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> NDArray[np.float64]:
    """Return the sketches of noise directions, in units of the norm of one direction, so each length is about 1.

    Args:
        seeds: Seeds of the noise directions.
        sizes: Number of weights by name of the tensor.
        dimensions: Number of dimensions k.
        noise: Noise kind.
        matrices: Rows and columns of the matrices that noise of low rank moves, by name.

    Returns:
        float64 array [seeds, dimensions].
    """
    from bench.weights import noise_numba
    from bench.weights.lowrank import factors

    if rank_of(noise) is not None:
        sizes = {name: rows * columns for name, (rows, columns) in matrices.items()}
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
                drawn, alone = np.empty((len(group), count), dtype=np.float32), np.eye(len(group), dtype=np.float32)
                if rank_of(noise) is None:
                    noise_numba.sums(stream_keys(group, name, noise), alone, start, drawn)
                else:
                    parts = factors(group, alone, name, matrices[name], noise, start, count)
                    noise_numba.outer_sums(*parts, drawn)
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


def matrix_shapes(checkpoint: str) -> dict[str, tuple[int, int]]:
    """Return the rows and columns of the matrices of a checkpoint that noise of low rank moves, by name.

    Args:
        checkpoint: Folder of the checkpoint.
    """
    from pathlib import Path

    from bench.models.linear import adaptable_matrices
    from bench.models.multimodal import meta_model
    from bench.models.opening import open_config

    model = meta_model(open_config(Path(checkpoint)))
    matrices = adaptable_matrices(model)
    shapes = {name: each.shape for name, each in model.named_parameters() if name in matrices}
    return {name: (shape[0], shape[1]) for name, shape in shapes.items()}
