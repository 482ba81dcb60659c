"""Gate: a significance test on held-out examples that decides whether a change is accepted. Pure functions.

The published gate accepts a change if the mean gain exceeds one standard error. It is applied after a choice among many
proposals, and again in every round, so that it accepts pure noise with probability .31 to .99. This gate differs in
three ways: (i) it tests only the proposal that was chosen on the select split, (ii) it divides its error rate over all
tests of the run (Bonferroni), and (iii) it uses the exact distribution of fixes and regressions, because few examples
change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.stats.paired import mcnemar_exact


@dataclass(frozen=True)
class GateDecision:
    """Decision of the gate and its reason.

    Attributes:
        accepted: Whether the change is accepted.
        examples: Number of examples that could be scored for both models.
        fixes: Number of examples that were wrong before and are right now.
        regressions: Number of examples that were right before and are wrong now.
        gain: Paired gain in accuracy, (fixes - regressions) / examples.
        standard_error: Standard error of the gain.
        p_value: p-value of the one-sided exact McNemar test of fixes against regressions.
        level: Significance level; a larger p-value rejects the change.
        reason: Reason in words, such as "12 fixes against 1 regressions, p = 0.00171 within 0.05".
    """

    accepted: bool
    examples: int
    fixes: int
    regressions: int
    gain: float
    standard_error: float
    p_value: float
    level: float
    reason: str


def decide(
    before: NDArray[np.bool_],
    now: NDArray[np.bool_],
    *,
    level: float,
    z: float = 1.0,
    penalty: float = 1.0,
) -> GateDecision:
    """Decide whether a proposal replaces the current model.

    Args:
        before: Whether the current model is right, shape [examples].
        now: Whether the proposal is right on the same examples, shape [examples].
        level: Significance level of this test.
        z: Number of standard errors that the mean gain must exceed as well. The paper uses 1.
        penalty: Weight of one regression relative to one fix. Stage 2 of the paper uses 2.

    Raises:
        ValueError: If the arrays differ in length.
    """
    if before.shape != now.shape:
        raise ValueError(f"before and now must have the same length, but have shapes {before.shape} and {now.shape}")
    fixes, regressions = int(np.sum(~before & now)), int(np.sum(before & ~now))
    return decide_counts(before.size, fixes, regressions, level=level, z=z, penalty=penalty)


def decide_counts(
    n: int, fixes: int, regressions: int, *, level: float, z: float = 1.0, penalty: float = 1.0
) -> GateDecision:
    """Decide from counts. See `decide`.

    Args:
        n: Number of examples.
        fixes: Number of examples that were wrong before and are right now.
        regressions: Number of examples that were right before and are wrong now.
        level: Significance level of this test.
        z: Number of standard errors that the mean gain must exceed as well.
        penalty: Weight of one regression relative to one fix.
    """
    gain = (fixes - regressions) / n if n else 0.0
    variance = ((fixes + regressions) / n - gain**2) / n if n else 0.0
    error = math.sqrt(max(variance, 0.0))
    p_value = mcnemar_exact(fixes, regressions, alternative="greater")
    if fixes - penalty * regressions <= 0:
        reason = f"{fixes} fixes do not outweigh {regressions} regressions at a penalty of {penalty:g}"
    elif gain - z * error <= 0:
        reason = f"a gain of {gain:+.3f} is within {z:g} standard errors of {error:.3f}"
    elif p_value > level:
        reason = f"p = {p_value:.3g} exceeds {level:.3g}: chance alone could have done it"
    else:
        reason = f"{fixes} fixes against {regressions} regressions, p = {p_value:.3g} within {level:.3g}"
        return GateDecision(True, n, fixes, regressions, gain, error, p_value, level, reason)
    return GateDecision(False, n, fixes, regressions, gain, error, p_value, level, reason)
