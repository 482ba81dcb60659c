"""Decision of stage 2 of CoRP (arXiv 2605.31494): the mean constructive gain must exceed z standard errors.

The gain of an example is 1 for a fix, minus the penalty for a regression, and 0 otherwise. Pure functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.amounts import counted
from bench.stats.paired import paired_counts
from methods.interface import Evaluation


@dataclass(frozen=True)
class Decision:
    """Decision about one proposal of stage 2.

    Attributes:
        accepted: Whether the proposal replaces the current model.
        examples: Number of examples that could be scored for both models.
        fixes: Number of examples that were wrong before and are right now.
        regressions: Number of examples that were right before and are wrong now.
        gain: Mean constructive gain, (fixes - penalty * regressions) / examples.
        standard_error: Standard error of the gain.
        reason: Reason in words.
    """

    accepted: bool
    examples: int
    fixes: int
    regressions: int
    gain: float
    standard_error: float
    reason: str


def decide(before: NDArray[np.bool_], now: NDArray[np.bool_], *, z: float, penalty: float) -> Decision:
    """Decide whether a proposal replaces the current model.

    Args:
        before: Whether the current model is right, shape [examples].
        now: Whether the proposal is right on the same examples, shape [examples].
        z: Number of standard errors that the gain must exceed.
        penalty: Cost of a regression, in fixes.
    """
    counts = paired_counts(before, now)
    fixes, regressions, n = counts.fixes, counts.regressions, counts.n
    gain = (fixes - penalty * regressions) / n if n else 0.0
    variance = (fixes + penalty**2 * regressions) / n - gain**2 if n else 0.0
    error = math.sqrt(max(variance, 0.0) / n) if n else 0.0
    accepted = gain > 0 and gain - z * error > 0
    pairs = f"{counted(fixes, 'fix', 'fixes')}, {counted(regressions, 'regression')} on {counted(n, 'example')}"
    reason = (
        f"{pairs}: a mean constructive gain of {gain:+.3f} "
        f"{'exceeds' if accepted else 'does not exceed'} {z:g} standard errors of {error:.3f}"
    )
    return Decision(accepted, n, fixes, regressions, gain, error, reason)


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
