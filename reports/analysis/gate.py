"""What a gate lets through: exact probabilities from its size, its level and how many answers proposals change.

Of n examples a proposal changes each with the flip rate, for better with probability (flips + gain) / 2 and for worse
otherwise; without a true gain either is as likely. The decision is `methods.gate`'s own, asked for every outcome.
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
    """A look's rule.

    Attributes:
        examples: That decide.
        level: What the p-value has to stay within.
        z: Standard errors that the gain has to exceed.
        penalty: What one regression costs against one fix.
    """

    examples: int
    level: float
    z: float = 1.0
    penalty: float = 1.0

    def thresholds(self) -> NDArray[np.int64]:
        """Return, for 0 to n changed answers, the fewest fixes that pass; one more than all where none do."""
        return _thresholds(self)

    def passes(self, fixes: int, regressions: int) -> bool:
        """Say whether a proposal with so many fixes and regressions is kept."""
        rule = {"level": self.level, "z": self.z, "penalty": self.penalty}
        return decide_counts(self.examples, fixes, regressions, **rule).accepted


@cache
def _thresholds(gate: GateDesign) -> NDArray[np.int64]:
    fewest, found = 0, []
    for changed in range(gate.examples + 1):
        # More fixes among as many changes never hurt, and one more change never asks for fewer.
        while fewest <= changed and not gate.passes(fewest, changed - fewest):
            fewest += 1
        found.append(min(fewest, changed + 1))
    return np.array(found)


def acceptance(gate: GateDesign, flip_rate: float, gain: float = 0.0) -> float:
    """Return the probability that a look keeps a proposal.

    Args:
        gate: Its rule.
        flip_rate: Share of answers that the proposal changes; a gain needs that many at least.
        gain: True gain in accuracy.

    Raises:
        ValueError: If the flip rate or the gain is no share.
    """
    if not (0 <= flip_rate <= 1 and -1 <= gain <= 1):
        raise ValueError(f"flip rate {flip_rate}, gain {gain}: shares are needed")
    flips = max(flip_rate, abs(gain))
    if flips == 0:
        return 0.0
    changed = np.arange(gate.examples + 1)
    better = (flips + gain) / (2 * flips)
    return float(binom.pmf(changed, gate.examples, flips) @ binom.sf(gate.thresholds() - 1, changed, better))


def detectable(gate: GateDesign, flip_rate: float) -> dict[str, float | None]:
    """Return the smallest true gains that a look keeps with given probabilities; None where even 100 points are not."""

    def smallest(chance: float) -> float | None:
        def excess(gain: float) -> float:
            return acceptance(gate, flip_rate, gain) - chance

        return float(brentq(excess, 0.0, 1.0, xtol=1e-6)) if excess(0.0) < 0 < excess(1.0) else None

    return {f"{chance:g}": smallest(chance) for chance in CHANCES}


def power_of(looks: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> GatePower | None:
    """Return what a run's gate lets through and can detect; None if it took no look.

    Args:
        looks: Its decisions on record, in order; those that did not get as far have no level.
        settings: Of the method.
    """
    told = [look for look in looks if look.get("level") is not None and look["examples"]]
    if not told:
        return None
    changed = sum(look["fixes"] + look["regressions"] for look in told)
    flip_rate = changed / sum(look["examples"] for look in told)
    gates = [_gate(look, settings) for look in told]
    accepts = [acceptance(gate, flip_rate) for gate in gates]
    last = gates[-1]
    gains = tuple(i / 200 for i in range(41))
    return GatePower(
        flip_rate=flip_rate,
        looks=tuple(
            Look(look.get("stage", "after training"), gate.examples, gate.level, chance)
            for look, gate, chance in zip(told, gates, accepts, strict=True)
        ),
        accepts_noise=min(sum(accepts), 1.0),
        granted=sum(gate.level for gate in gates),
        gains=gains,
        power=tuple(acceptance(last, flip_rate, gain) for gain in gains),
        detectable=detectable(last, flip_rate),
    )


def _gate(look: Mapping[str, Any], settings: Mapping[str, Any]) -> GateDesign:
    """The rule of a look: regressions cost more from the second stage on, where a method says so."""
    later = str(look.get("stage", "")).startswith("stage 2")
    return GateDesign(
        examples=look["examples"],
        level=look["level"],
        z=settings.get("z", 1.0),
        penalty=settings.get("penalty", 1.0) if later else 1.0,
    )
