"""Paired correctness of two evaluations, on the examples that could be judged for both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from methods.interface import Evaluation


def judged(before: Evaluation, now: Evaluation) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Correctness of both on the examples that the judge could judge for both."""
    both = ~(np.isnan(before.rewards) | np.isnan(now.rewards))
    return before.correct[both], now.correct[both]
