"""Sections `moves` and `noise`: exact moves through weight space and their speed, and the noise of each kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.models.digest import digest
from bench.models.opening import open_model
from bench.models.tensors import movable
from bench.weights import noise_numba, noise_torch
from bench.weights.noise import draw, stream_keys
from bench.weights.points import Point
from bench.weights.space import WeightSpace
from measurements.gpu.schema import Found
from measurements.gpu.shapes import Setup
from measurements.weights import SIGMA, seconds, time_moves

THERE, ELSEWHERE = Point({1: SIGMA, 2: -SIGMA / 2}), Point({3: SIGMA})
REPEATS = 5
STARTS = (0, 2**34)
"""Positions in a tensor; the second needs both words of the generator's counter."""
SEEDS, WEIGHTS = (7, 8, 9), np.array([[1.0, 0.0, 0.0], [0.5, -1.5, 0.25]], dtype=np.float32)


def moves(setup: Setup) -> Found:
    """Compare the bytes of a point and of the base with those of a CPU, and time moves against a copy."""
    model = open_model(Path(setup.model), torch.bfloat16)
    on_cpu = {name: each.clone() for name, each in movable(model).items()}
    live = movable(model.to(setup.device))
    base = digest(live)
    space, reference = WeightSpace(live), WeightSpace(on_cpu)
    reference.move_to(THERE)
    space.move_to(THERE)
    at = digest(live)
    space.move_to(ELSEWHERE)
    other = digest(live)
    space.move_to(THERE)
    again = digest(live)
    space.move_to(Point())
    checks = {
        "a move changes the weights": len({base, at, other}) == 3,
        "a point has the bytes that it has on a CPU": at == digest(on_cpu),
        "a point has the same bytes by another way": at == again,
        "the way back restores the base's bytes": digest(live) == base,
    }
    del reference, on_cpu
    space.move_to(ELSEWHERE)  # what is slow once only
    space.move_to(Point())
    took = time_moves(space, live, setup.size.moves)
    size = sum(each.nbytes for each in live.values())
    source = torch.zeros(size, dtype=torch.uint8, device=setup.device)
    target = torch.empty_like(source)
    limit = 2 * size / fastest(lambda: target.copy_(source))
    speeds = {"move of one seed": took.to, "way back": took.back}
    figures = {"plain copy, GB/s": limit / 1e9}
    for name, taken in speeds.items():
        figures |= {f"{name}, GB/s": 2 * size / taken / 1e9, f"{name}, share of the copy": 2 * size / taken / limit}
    figures["move of one seed, times as fast as torch.randn, add, cast"] = took.plain_to / took.to
    return Found(checks=checks, figures=figures)


def noise(setup: Setup) -> Found:
    """Compare the noise of the device's kernel and of the compiled one with that of NumPy, byte for byte."""
    count, keys = setup.size.noise, stream_keys(SEEDS, "w")
    on_device = torch.empty((len(WEIGHTS), count), device=setup.device)
    compiled = np.empty(on_device.shape, dtype=np.float32)
    same = {"device": True, "compiled": True}
    for start in STARTS:
        expected = np.zeros_like(compiled)
        for seed, column in zip(SEEDS, WEIGHTS.T, strict=True):
            values = np.empty(count, dtype=np.float32)
            draw(seed, "w", values, start=start)
            for row, weight in zip(expected, column, strict=True):
                if weight:
                    row += values * weight
        noise_torch.sums(keys, WEIGHTS, start, on_device)
        noise_numba.sums(keys, WEIGHTS, start, compiled)
        same["device"] &= on_device.cpu().numpy().tobytes() == expected.tobytes()
        same["compiled"] &= compiled.tobytes() == expected.tobytes()
    one = on_device[:1]
    rates = {
        "kernel on the device": lambda: noise_torch.sums(keys[:1], WEIGHTS[:1, :1], 0, one),
        "compiled kernel, one core": lambda: noise_numba.sums(keys[:1], WEIGHTS[:1, :1], 0, compiled[:1]),
        "NumPy": lambda: draw(SEEDS[0], "w", compiled[0]),
    }
    return Found(
        checks={f"{name} kernel: the bytes of NumPy": found for name, found in same.items()},
        figures={f"{name}, million values/s": count / fastest(work) / 1e6 for name, work in rates.items()},
    )


def fastest(work: Callable[[], object]) -> float:
    return min(seconds(work) for _ in range(REPEATS))
