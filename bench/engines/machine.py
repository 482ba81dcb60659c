"""Limits of this machine's CPU, by a micro-benchmark of about a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bench.engines.packed import kernels_for
from bench.engines.placement import cores

SIZE = 1536
"""Rows and columns of the matrices: large enough to be limited by the cores, small enough to take milliseconds."""
COPIED = 128 << 20
"""Bytes copied at a time, more than the caches hold."""
REPEATS = 5
"""The fastest counts."""
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Limits:
    """Measured limits of the CPU with all cores.

    Attributes:
        bandwidth: Bytes read and written per second by a copy.
        flops: FLOP per second of a matrix product, by dtype.
    """

    bandwidth: float
    flops: dict[str, float]


def measure_limits() -> Limits:
    """Measure what this machine's CPU does in a second."""
    with _all_cores():
        source = torch.zeros(COPIED, dtype=torch.uint8)
        target = torch.empty_like(source)
        bandwidth = 2 * COPIED / _fastest(lambda: target.copy_(source))
    return Limits(bandwidth, {dtype: measure_flops(dtype) for dtype in DTYPES})


def measure_flops(dtype: str) -> float:
    """Measure the FLOP per second of a matrix product in a dtype. It takes seconds where the CPU has no units for it.

    Args:
        dtype: One of `DTYPES`.
    """
    with _all_cores():
        weights, states = (torch.randn(SIZE, SIZE, dtype=getattr(torch, dtype)) for _ in range(2))
        return 2 * SIZE**3 / _fastest(_product(states, weights))


@contextmanager
def _all_cores() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def _product(states: torch.Tensor, weights: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return the product as the engine would compute it."""
    if kernels_for("cpu", weights.dtype, small=False) == "torch":
        return lambda: torch.nn.functional.linear(states, weights)
    packed = torch.ops.mkldnn._reorder_linear_weight(weights)
    return lambda: torch.ops.mkldnn._linear_pointwise(states, packed, None, "none", [], "")


def _fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest repeat."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
