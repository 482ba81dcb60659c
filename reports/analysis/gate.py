"""Power of a gate: exact acceptance probabilities, given its size, its significance level and the flip rate.

The model: a proposal changes each of n answers with probability `flips`. A changed answer is a fix with probability
(flips + gain) / (2 flips), else a regression; without a true gain both are equally likely. Whether an outcome passes
is decided by `bench.stats.gate`, the same code as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from bench.stats.gate import decide_counts
from reports.analysis.results import GatePower, Look

CHANCES = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class GateDesign:
    """Rule of one look at the gate split.

    Attributes:
        examples: Number of examples that the look tests on.
        level: Significance level of the look.
        z: Number of standard errors that the gain must exceed.
        penalty: Cost of one regression, in fixes.
    """

    examples: int
    level: float
    z: float = 1.0
    penalty: float = 1.0

    def thresholds(self) -> NDArray[np.int64]:
        """Return the smallest number of fixes that passes, for 0 to n changed answers, shape [n + 1].

        If not even fixes alone pass, the number is that of the changed answers plus one.
        """
        return _thresholds(self)

    def passes(self, fixes: int, regressions: int) -> bool:
        """Return whether a proposal with these numbers of fixes and regressions is accepted."""
        rule = {"level": self.level, "z": self.z, "penalty": self.penalty}
        return decide_counts(self.examples, fixes, regressions, **rule).accepted


@cache
def _thresholds(gate: GateDesign) -> NDArray[np.int64]:
    fewest, found = 0, []
    for changed in range(gate.examples + 1):
        # More fixes among the same changes never hurt, and more changes never need fewer fixes.
        while fewest <= changed and not gate.passes(fewest, changed - fewest):
            fewest += 1
        found.append(min(fewest, changed + 1))
    return np.array(found)


def acceptance(gate: GateDesign, flip_rate: float, gain: float = 0.0) -> float:
    """Return the probability that a look accepts a proposal.

    Args:
        gate: Rule of the look.
        flip_rate: Fraction of answers that the proposal changes, in [0, 1]; raised to the gain if that is larger.
        gain: True gain in accuracy, in [-1, 1].

    Raises:
        ValueError: If the flip rate or the gain is out of range.
    """
    if not (0 <= flip_rate <= 1 and -1 <= gain <= 1):
        raise ValueError(f"flip rate {flip_rate} must be in [0, 1], and gain {gain} in [-1, 1]")
    flips = max(flip_rate, abs(gain))
    if flips == 0:
        return 0.0
    changed = np.arange(gate.examples + 1)
    better = (flips + gain) / (2 * flips)
    return float(binom.pmf(changed, gate.examples, flips) @ binom.sf(gate.thresholds() - 1, changed, better))


def detectable(gate: GateDesign, flip_rate: float) -> dict[str, float | None]:
    """Return the smallest true gain that a look accepts with probability 0.5, 0.8 and 0.95.

    None stands for a probability that even a gain of 100 points does not reach. For 200 examples at level 0.025 and a
    flip rate of 0.2:

        {"0.5": 0.066, "0.8": 0.091, "0.95": 0.114}
    """

    def smallest(chance: float) -> float | None:
        def excess(gain: float) -> float:
            return acceptance(gate, flip_rate, gain) - chance

        return float(brentq(excess, 0.0, 1.0, xtol=1e-6)) if excess(0.0) < 0 < excess(1.0) else None

    return {f"{chance:g}": smallest(chance) for chance in CHANCES}


def power_of(looks: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> GatePower | None:
    """Return the false-positive rate and the power of a run's gate, or None if it tested nothing.

    Args:
        looks: Recorded decisions of the gate, in order. A decision made without testing has no level and is ignored.
        settings: Settings of the method, of which `z` and `penalty` are used.
    """
    tested = [look for look in looks if look.get("level") is not None and look["examples"]]
    if not tested:
        return None
    changed = sum(look["fixes"] + look["regressions"] for look in tested)
    flip_rate = changed / sum(look["examples"] for look in tested)
    gates = [_gate(look, settings) for look in tested]
    accepts = [acceptance(gate, flip_rate) for gate in gates]
    last = gates[-1]
    gains = tuple(i / 200 for i in range(41))
    return GatePower(
        flip_rate=flip_rate,
        looks=tuple(
            Look(look.get("stage", "after training"), gate.examples, gate.level, chance)
            for look, gate, chance in zip(tested, gates, accepts, strict=True)
        ),
        accepts_noise=min(sum(accepts), 1.0),
        granted=sum(gate.level for gate in gates),
        gains=gains,
        power=tuple(acceptance(last, flip_rate, gain) for gain in gains),
        detectable=detectable(last, flip_rate),
    )


def _gate(look: Mapping[str, Any], settings: Mapping[str, Any]) -> GateDesign:
    """Return the rule of a look. The method's `penalty` for regressions applies from stage 2 on."""
    later = str(look.get("stage", "")).startswith("stage 2")
    return GateDesign(
        examples=look["examples"],
        level=look["level"],
        z=settings.get("z", 1.0),
        penalty=settings.get("penalty", 1.0) if later else 1.0,
    )
