"""Accuracy against compute: the Pareto front and the area under it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_front(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a mask of the points on the Pareto front.

    A point is on the front if no other point is at least as cheap and at least as good, and better in one of the two.
    Confidence intervals are ignored, so a point may be on the front by chance.

    Args:
        costs: Costs, shape (points,); lower is better.
        values: Values, shape (points,); higher is better.
    """
    order = np.lexsort((-values, costs))
    best, cheapest = -np.inf, np.nan
    front = np.zeros(values.size, dtype=bool)
    for i in order:
        if values[i] > best:
            front[i], best, cheapest = True, values[i], costs[i]
        else:  # a duplicate of a point on the front is on the front too
            front[i] = values[i] == best and costs[i] == cheapest
    return front


def area_under_front(costs: NDArray[np.float64], values: NDArray[np.float64], low: float, high: float) -> float:
    """Return the mean of the best value so far over log compute, from `low` to `high`.

    The best value at a given compute is the largest value among points that cost at most this much, or 0 if there is
    none. The result has the unit of the values.

    Args:
        costs: Costs, shape (points,), above 0.
        values: Values, shape (points,), at least 0.
        low: Lower end of the compute range, above 0.
        high: Upper end of the compute range, above `low`.

    Raises:
        ValueError: If the range is empty or not positive.
    """
    if not 0 < low < high:
        raise ValueError(f"compute from {low} to {high}: a positive range is needed")
    order = np.argsort(costs, kind="stable")
    steps = np.log(np.clip(np.append(costs[order], high), low, high))
    best = np.maximum.accumulate(values[order])
    return float(best @ np.diff(steps) / np.log(high / low))
