"""What training did step by step: the curve on record, what the next step will cost, and when it has diverged. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Row = dict[str, float]

COLLAPSED = 0.25
"""Part of where it began; below it, mean reward or mean length has collapsed."""
WINDOW_STEPS, WINDOW_ANSWERS = 10, 512
"""Least steps and answers that a mean is taken over: enough that chance does not look like a collapse."""


def next_cost(costs: Sequence[int]) -> int:
    """Return what the next step is taken to cost: the dearest so far, 0 before the first.

    A step that turns out dearer is cut off by the meter and not by this.
    """
    return max(costs, default=0)


def divergence(rows: Sequence[Mapping[str, float]], batch: int) -> str | None:
    """Return why training has come to nothing, or None.

    Args:
        rows: One a step. Any value that is not finite is divergence; so is a mean of `reward` or `length` over the
            last steps that fell below a quarter of that over the first, if that was positive.
        batch: Answers a step.
    """
    if not rows:
        return None
    for name, value in rows[-1].items():
        if not math.isfinite(value):
            return f"{name} is {value} at step {len(rows)}"
    window = max(WINDOW_STEPS, math.ceil(WINDOW_ANSWERS / batch))
    if len(rows) < 2 * window:
        return None
    for name in ("reward", "length"):
        began, now = _mean(rows[:window], name), _mean(rows[-window:], name)
        if began > 0 and now < COLLAPSED * began:
            return f"mean {name} fell from {began:.3g} to {now:.3g} by step {len(rows)}"
    return None


def curve(rows: Sequence[Mapping[str, float]], points: int = 400) -> dict[str, list[float | None]]:
    """Return columns of at most so many points, each the mean over as many steps as it takes, with the last `step`.

    What is not finite is None, as JSON has no name for it.
    """
    if not rows:
        return {}
    width = math.ceil(len(rows) / points)
    bins = [rows[start : start + width] for start in range(0, len(rows), width)]
    columns: dict[str, list[float | None]] = {"step": []}
    for number in range(1, len(bins) + 1):
        columns["step"].append(float(min(len(rows), number * width)))
    for name in rows[0]:
        means = [_mean(part, name) for part in bins]
        columns[name] = [float(f"{mean:.6g}") if math.isfinite(mean) else None for mean in means]
    return columns


def _mean(rows: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)
