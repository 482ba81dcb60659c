"""Training progress: the recorded curve, the expected cost of the next step, and divergence. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Row = dict[str, float]
"""Values of one step, such as `{"reward": 0.4, "correct": 0.4, "length": 3.8, "loss": 0.02, "norm": 0.9}`."""

COLLAPSED = 0.25
"""Fraction of the initial mean below which mean reward or mean length counts as collapsed."""
WINDOW_STEPS, WINDOW_ANSWERS = 10, 512
"""Minimum numbers of steps and answers in a mean, so that chance does not look like a collapse."""


def next_cost(costs: Sequence[int]) -> int:
    """Return the expected FLOPs of the next step: the maximum so far, 0 before the first step.

    If a step costs more than expected, the meter cuts it off.
    """
    return max(costs, default=0)


def divergence(rows: Sequence[Mapping[str, float]], batch: int) -> str | None:
    """Return the reason if training diverged, else None.

    Training diverged if a value is not finite, or if the mean `reward` or `length` over the last steps fell below a
    quarter of that over the first steps, provided that was positive.

    Args:
        rows: One row per step.
        batch: Number of answers per step.
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
    """Return the training curve as columns of at most `points` values.

    Each value is the mean over a run of steps, and `step` is the last step of that run. Non-finite values become None,
    because JSON has none. Example: `{"step": [2.0, 4.0], "reward": [0.4, 0.5], "loss": [0.02, None]}`.

    Args:
        rows: One row per step.
        points: Maximum number of points.
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
