"""Accuracy against compute: what is not beaten by something as cheap, and how much of the range that covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_front(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which points no other beats: none is at most as dear and at least as good, and better in one of the two.

    Intervals play no part: a point of the front may be there by chance.

    Args:
        costs: Shape (points,), lower is better.
        values: Shape (points,), higher is better.
    """
    order = np.lexsort((-values, costs))
    best, cheapest = -np.inf, np.nan
    front = np.zeros(values.size, dtype=bool)
    for i in order:
        if values[i] > best:
            front[i], best, cheapest = True, values[i], costs[i]
        else:  # a point equal to one of the front in both is on it
            front[i] = values[i] == best and costs[i] == cheapest
    return front


def area_under_front(costs: NDArray[np.float64], values: NDArray[np.float64], low: float, high: float) -> float:
    """Average, over the logarithm of compute from `low` to `high`, the best value that was had for no more.

    In the unit of the values; 0 counts for compute at which nothing was had.

    Args:
        costs: Shape (points,), above 0.
        values: Shape (points,), at least 0.
        low: Least compute, above 0.
        high: Most compute, above `low`.

    Raises:
        ValueError: The range is empty or not positive.
    """
    if not 0 < low < high:
        raise ValueError(f"compute from {low} to {high}: a positive range is needed")
    order = np.argsort(costs, kind="stable")
    steps = np.log(np.clip(np.append(costs[order], high), low, high))
    best = np.maximum.accumulate(values[order])
    return float(best @ np.diff(steps) / np.log(high / low))
