"""Memory that an engine takes for a model's weights, from their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from bench.engines.packed import kernels_for

CENTRE = 4
"""Bytes of a value of the centre that points may lie around, which is kept in float32."""


@dataclass(frozen=True)
class Copies:
    """Bytes of each copy of the weights.

    A candidate is written into the live weights, so no number of candidates takes more. Directions that are computed
    ahead take at most half of the memory that is free then.

    Attributes:
        live: Weights that answer. vLLM's engine holds them twice: its own, and those that noise is added to.
        base: Weights that every move starts from.
        packed: Linear layers in the order in which the kernels of a CPU read them.
        centre: Weights in float32, once a method has moved to a point around a centre.
    """

    live: int
    base: int
    packed: int
    centre: int


def copies(
    engine: Literal["transformers", "vllm"], values: int, linear: int, *, dtype: str, device: str, small: bool
) -> Copies:
    """Return the copies of the weights that an engine holds.

    Args:
        engine: The engine.
        values: Number of parameters.
        linear: Number of weights of linear layers, with a tied head.
        dtype: Dtype of the weights, such as `bfloat16`.
        device: Torch device, such as `cuda:0`.
        small: Whether the model is so small that its linear layers are not packed.
    """
    kind: torch.dtype = getattr(torch, dtype)
    packs = engine == "transformers" and kernels_for(device, kind, small=small) == "onednn-packed"
    return Copies(
        live=(2 if engine == "vllm" else 1) * values * kind.itemsize,
        base=values * kind.itemsize,
        packed=linear * kind.itemsize if packs else 0,
        centre=values * CENTRE,
    )


def free_memory(device: str) -> int:
    """Return the bytes of memory that are free on a device."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
