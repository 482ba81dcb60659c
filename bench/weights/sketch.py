"""Weight vectors in few dimensions: a count sketch of the noise that candidates were made of.

Each weight of the model is added, under a random sign, to one of k coordinates drawn at random (Charikar, Chen &
Farach-Colton 2002, "Finding frequent items in data streams"): a projection with i.i.d. columns of one entry +1 or -1.
Inner products are kept on average, with a variance of at most 2 / k of the squared lengths' product, at a cost that
does not depend on k. Signs and coordinates are the same for all candidates, and drawn anew for each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from bench.seeds import derive
from bench.weights.noise import NoiseKind, stream_keys

CHUNK = 1 << 18
"""Weights at a time."""
GROUP = 8
"""Candidates at a time."""


def sketch(
    seeds: Sequence[int], sizes: Mapping[str, int], dimensions: int, *, noise: NoiseKind = "iid"
) -> NDArray[np.float64]:
    """Return noise directions in few dimensions, each about 1 long, in units of one noise direction.

    Args:
        seeds: Noise directions.
        sizes: Number of weights by canonical Hugging Face name of the tensor.
        dimensions: k.
        noise: What a seed stands for.

    Returns:
        [seeds, dimensions].
    """
    from bench.weights import kernels

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
                kernels.sums(group, alone[: len(group), : len(group)].copy(), start, drawn)
                total[:, low : low + len(group)] += project @ drawn.T
    return total.T / np.sqrt(sum(sizes.values()))


def weight_sizes(checkpoint: str) -> dict[str, int]:
    """Return the number of weights by name of a checkpoint, tied tensors once, without reading them.

    Args:
        checkpoint: Folder.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(checkpoint))
    return {name: parameter.numel() for name, parameter in model.named_parameters()}
