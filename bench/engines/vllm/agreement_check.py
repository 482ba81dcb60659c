"""Whether a move reaches all that vLLM computes with.

What a reload leaves behind shows nowhere else: answers are fluent whatever part of the weights is an old one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.engines.interface import TokenIds
from bench.weights.points import Point

PROBE = 32
"""Tokens by which a move is tried."""
TOLERANCE = {"float32": 0.02, "bfloat16": 0.2, "float16": 0.2}
"""How far off probabilities may be after a move, as a part of the change that it makes; half precision takes some."""
PARTS = (1 / 4, 1 / 16)
"""How far a trial move goes, in root mean squares of the parameters."""


def probe(vocabulary: int, longest: int) -> TokenIds:
    """Return a prompt of tokens from all over a vocabulary."""
    length = min(PROBE, longest)
    return tuple(i * vocabulary // length for i in range(length))


def error_of_moves(
    both_at: Callable[[Point], tuple[list[float], list[float]]], scale: float, tolerance: float
) -> float:
    """Return how far off vLLM's logarithms of probabilities are after moves, as a part of the change that they make.

    The base is compared with points of decreasing distance, until one is within the tolerance; the least error counts.
    Rounding hides a change that is too small and garbles one too large. An old tensor shows at every distance: a tied
    head that stays behind is a quarter of the change or more on SmolLM2, a tenth or more on a model of two layers.

    Args:
        both_at: Moves to a point, and returns the probe's logarithms by the checkpoint's own code and by vLLM.
        scale: Root mean square of all parameters.
        tolerance: Below which no further point is tried.
    """
    errors: list[float] = []
    for part in PARTS:
        places = Point({0: scale * part}), Point()
        ours, theirs = np.array([both_at(place) for place in places]).swapaxes(0, 1)
        error = float(np.abs(ours - theirs).mean(axis=1).max() / np.abs(ours[0] - ours[1]).mean())
        if error < tolerance:
            return error
        errors.append(error)
    return min(errors)
