"""The gate: one decision, on examples that chose nothing, whether a change is kept. Pure.

The released gate asks whether the mean gain exceeds its standard error once, after a choice among many proposals and
again at every round; with nothing but noise it lets a change pass with probability .31 to .99. This one (i) is asked
only about the one proposal that the select split chose, (ii) splits its error rate over all the looks that the run may
take (Bonferroni), and (iii) uses the exact distribution of fixes against regressions, since few examples change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.stats.paired import mcnemar_exact


@dataclass(frozen=True)
class GateDecision:
    """What was decided and why.

    Attributes:
        accepted: Whether the change is kept.
        examples: Examples that could be judged for both.
        fixes: Wrong before, right now.
        regressions: Right before, wrong now.
        gain: (fixes - regressions) / examples, the paired gain in accuracy.
        standard_error: Of the gain.
        p_value: One-sided exact McNemar test of fixes against regressions.
        level: What the p-value had to stay within.
        reason: One sentence.
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
    """Decide whether a proposal replaces the model it started from.

    Args:
        before: [examples], whether the current model was right.
        now: [examples], whether the proposal is right on the same examples.
        level: Probability of accepting a change without effect, for this look alone.
        z: Standard errors that the mean gain must exceed as well; the paper's criterion at 1.
        penalty: What one regression costs against one fix; stage 2 of the paper uses 2.

    Raises:
        ValueError: If the arrays differ in length.
    """
    if before.shape != now.shape:
        raise ValueError(f"paired arrays of {before.shape} and {now.shape} examples")
    fixes, regressions = int(np.sum(~before & now)), int(np.sum(before & ~now))
    return decide_counts(before.size, fixes, regressions, level=level, z=z, penalty=penalty)


def decide_counts(
    n: int, fixes: int, regressions: int, *, level: float, z: float = 1.0, penalty: float = 1.0
) -> GateDecision:
    """Decide from counts, as `decide` does from answers.

    Args:
        n: Examples.
        fixes: Wrong before, right now.
        regressions: Right before, wrong now.
        level: See `decide`.
        z: See `decide`.
        penalty: See `decide`.
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
