"""Startup check that a move through weight space updates every tensor that vLLM uses.

Answers would not reveal a tensor that a reload misses, because they stay fluent with partly old weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.engines.interface import TokenIds
from bench.weights.noise import PLAIN, Noise
from bench.weights.points import Point

PROBE = 32
"""Length of the probe prompt in tokens."""
TOLERANCE = {"float32": 0.02, "bfloat16": 0.2, "float16": 0.2}
"""Largest accepted error of log-probabilities after a move, relative to the change that the move makes.

It is larger in half precision because of rounding.
"""
PARTS = (1 / 4, 1 / 16)
"""Noise scales of the trial moves, relative to the root mean square of the parameters."""


def probe(vocabulary: int, longest: int) -> TokenIds:
    """Return a prompt of tokens spread evenly over the vocabulary, of at most `longest` tokens."""
    length = min(PROBE, longest)
    return tuple(i * vocabulary // length for i in range(length))


def error_of_moves(
    both_at: Callable[[Point], tuple[list[float], list[float]]],
    scale: float,
    tolerance: float,
    noise: Noise = PLAIN,
) -> float:
    """Return the error of vLLM's log-probabilities after moves, relative to the change that the moves make.

    Points at decreasing distance from the base are tried until the error is below the tolerance. The smallest error is
    returned. Rounding hides a change that is too small, and distorts one that is too large. A tensor that was not
    updated shows at every distance: if a tied head is not updated, the error is a quarter or more on SmolLM2, and a
    tenth or more on a model of two layers.

    Args:
        both_at: Function that moves to a point, and returns the probe's log-probabilities by the transformers model
            and by vLLM.
        scale: Root mean square of all parameters.
        tolerance: Error below which no further point is tried.
        noise: Noise of the points.
    """
    errors: list[float] = []
    for part in PARTS:
        places = Point({0: scale * part}, noise), Point()
        ours, theirs = np.array([both_at(place) for place in places]).swapaxes(0, 1)
        error = float(np.abs(ours - theirs).mean(axis=1).max() / np.abs(ours[0] - ours[1]).mean())
        if error < tolerance:
            return error
        errors.append(error)
    return min(errors)
