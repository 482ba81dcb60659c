"""Training progress: the expected cost of the next step, divergence, and collapse. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile

from methods.training.curve import Row, mean_of

COLLAPSED = 0.25
"""Fraction of the initial mean below which mean reward or mean length counts as collapsed."""
WINDOW_STEPS, WINDOW_ANSWERS = 10, 512
"""Minimum numbers of steps and answers in a mean, so that chance does not look like a collapse."""
NO_ENTROPY = 1e-3
"""Entropy in nats below which sampling gives the same answer again and again. A token of probability .9999 has it."""
LASTING = 3
"""Number of steps that a collapse must last, so that one step with few answers is none."""

SIGNS: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("all answers to each prompt have equal rewards", lambda row: row.get("flat") == 1.0),
    ("sampling has no entropy", lambda row: _below(row.get("entropy"), NO_ENTROPY)),
    ("all answers end at their first token", lambda row: row.get("length") == 1.0 and row.get("truncated") != 1.0),
    ("all answers are cut off at the limit", lambda row: row.get("truncated") == 1.0),
)
"""Signs of a collapse, and whether a step shows them."""


def next_cost(costs: Sequence[int]) -> int:
    """Return the expected FLOPs of the next step: the maximum so far, 0 before the first step.

    If a step costs more than expected, the meter cuts it off.
    """
    return max(costs, default=0)


def divergence(rows: Sequence[Row], batch: int) -> str | None:
    """Return the reason if training diverged, else None.

    Training diverged if

    - a value is not finite;
    - the mean `reward` or `length` over the last steps fell below a quarter of that over the first steps, provided that
      was positive;
    - the last steps had neither entropy nor reward, but an earlier step had a reward. No further step can change that,
      because equal answers give no signal.

    Args:
        rows: One row per step.
        batch: Number of answers per step.
    """
    if not rows:
        return None
    for name, value in rows[-1].items():
        if value is not None and not math.isfinite(value):
            return f"{name} is {value} at step {len(rows)}"
    dead = _lasting(rows, lambda row: row.get("reward") == 0.0 and _below(row.get("entropy"), NO_ENTROPY))
    if dead >= LASTING and any(row.get("reward") for row in rows):
        return f"reward and entropy are 0 since step {len(rows) - dead + 1}"
    window = max(WINDOW_STEPS, math.ceil(WINDOW_ANSWERS / batch))
    if len(rows) < 2 * window:
        return None
    for name in ("reward", "length"):
        began, now = mean_of(rows[:window], name), mean_of(rows[-window:], name)
        if began is not None and now is not None and began > 0 and now < COLLAPSED * began:
            return f"mean {name} fell from {began:.3g} to {now:.3g} by step {len(rows)}"
    return None


def collapse(rows: Sequence[Row]) -> str | None:
    """Return the signs of a collapse that the last steps show, or None.

    A sign counts if the last three steps show it, or all steps of a shorter training. It need not be a failure: a model
    that has learned the task answers correctly without entropy. Example: `sampling has no entropy since step 4 of 33`.

    Args:
        rows: One row per step.
    """
    found = []
    for sign, shown in SIGNS:
        if (steps := _lasting(rows, shown)) >= min(LASTING, max(len(rows), 1)):
            found.append(f"{sign} since step {len(rows) - steps + 1} of {len(rows)}")
    return "; ".join(found) or None


def _lasting(rows: Sequence[Row], shown: Callable[[Row], bool]) -> int:
    """Return how many steps in a row, up to the last one, show something."""
    return sum(1 for _ in takewhile(shown, reversed(rows)))


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit
