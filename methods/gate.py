"""Paired correctness of two evaluations, the input of the gate's test (`bench.stats.gate.decide`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from methods.interface import Evaluation


def paired_correctness(before: Evaluation, now: Evaluation) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the correctness of both evaluations on the examples that are scored in both.

    Args:
        before: Evaluation of the model to be replaced.
        now: Evaluation of the proposed model on the same examples.

    Returns:
        Two boolean arrays of equal length, [examples scored in both].
    """
    both = ~(np.isnan(before.rewards) | np.isnan(now.rewards))
    return before.correct[both], now.correct[both]
