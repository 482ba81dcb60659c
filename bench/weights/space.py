"""Moving a model through weight space: always base + displacement, written from a kept base.

Adding noise in bf16 and subtracting it again does not come back: after 30 cycles at sigma 1e-4, 15 % of the weights
differ.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from bench.weights.noise import draw
from bench.weights.points import Point

Coefficients = tuple[tuple[int, float], ...]


class WeightSpace:
    """Holds the base of a model's parameters and writes points into the live ones.

    The value written at a point p with largest amplitude s is cast(base + s * sum_i (a_i / s) eps_i), with the sum in
    float32 in ascending order of seeds. It is a function of the point alone: not of earlier moves, threads or the
    cache, which keeps the last sum so that a line search along one direction draws its noise once.

    Args:
        parameters: Live tensors by canonical Hugging Face name, each storage once (a tied head under one name).
        threads: How many tensors are drawn at once; None for the number of cores.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], threads: int | None = None) -> None:
        self._live = dict(sorted(parameters.items(), key=lambda item: -item[1].numel()))
        self._base = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._threads = threads or os.cpu_count() or 1
        self._direction: tuple[Coefficients, dict[str, torch.Tensor]] | None = None
        self._point: Point | None = Point()

    @property
    def point(self) -> Point:
        """Where the live parameters are.

        Raises:
            RuntimeError: If the last move failed half way; any further move mends it.
        """
        if self._point is None:
            raise RuntimeError("the last move through weight space failed half way; move to a point again")
        return self._point

    def move_to(self, point: Point) -> None:
        """Write base + point into the live parameters; at `Point()` they equal the base bit for bit."""
        if point == self._point:
            return
        self._point = None  # a move that fails half way leaves weights that no point describes
        if point.is_base:
            for name, tensor in self._live.items():
                tensor.detach().copy_(self._base[name])
        else:
            scale = max(abs(a) for a in point.amplitudes.values())
            coefficients = tuple((seed, float(np.float32(a / scale))) for seed, a in point.amplitudes.items())
            self._write(coefficients, scale)
        self._point = point

    def _write(self, coefficients: Coefficients, scale: float) -> None:
        cached = self._direction[1] if self._direction and self._direction[0] == coefficients else None
        keep: dict[str, torch.Tensor] = {}

        def write(name: str) -> None:
            base, live = self._base[name], self._live[name]
            if cached is not None:
                total = cached[name]
            else:
                total = _weighted_noise(name, base.shape, coefficients)
                if len(coefficients) > 1:
                    keep[name] = total
            moved = torch.add(base.float(), total.to(base.device), alpha=scale)
            live.detach().copy_(moved.to(live.dtype))

        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(write, self._live))
        if keep:
            self._direction = (coefficients, keep)


def _weighted_noise(name: str, shape: torch.Size, coefficients: Coefficients) -> torch.Tensor:
    total = np.empty(shape, dtype=np.float32)
    buffer = total if len(coefficients) == 1 else np.empty(shape, dtype=np.float32)
    for position, (seed, coefficient) in enumerate(coefficients):
        draw(seed, name, buffer)
        if coefficient != 1.0:
            buffer *= np.float32(coefficient)
        if position == 0:
            total[...] = buffer
        else:
            total += buffer
    return torch.from_numpy(total)
