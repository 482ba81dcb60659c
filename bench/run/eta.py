"""Time left of a run: planned work and measured speeds give seconds. Pure functions.

A run is a sequence of parts. Each part has work of one kind, in a unit that all parts share, such as FLOPs. Its
expected speed is a mean of what was measured on this part, on its kind, and by the calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRUST = 0.05
"""Weight of an earlier measurement, as a share of the planned work. With none, the first step of a part would decide
alone about its speed, and the estimate would jump."""


@dataclass(frozen=True)
class Part:
    """Part of a run.

    Attributes:
        kind: Kind of its work. Parts of one kind are expected to have one speed.
        planned: Planned work.
        done: Work done so far.
        measured: Work of which the time was measured.
        seconds: That time.
        ended: Whether it has ended. It may have done less than planned.
    """

    kind: str
    planned: float
    done: float = 0.0
    measured: float = 0.0
    seconds: float = 0.0
    ended: bool = False

    @property
    def left(self) -> float:
        """Work that is left."""
        return 0.0 if self.ended else max(0.0, self.planned - self.done)


@dataclass(frozen=True)
class Left:
    """Time left of a run when it was last measured.

    Attributes:
        now: Seconds left of the present part.
        later: Seconds left of all other parts.
    """

    now: float
    later: float

    def after(self, seconds: float) -> float:
        """Return the time left this many seconds later. A part that is late does not shorten the parts after it."""
        return max(0.0, self.now - seconds) + self.later


def time_left(parts: Sequence[Part], prior: dict[str, float] | None = None) -> Left | None:
    """Return the time left; None if no speed is known.

    Args:
        parts: Parts of the run, in any order but for the present part: it is the first one that has work left.
        prior: Seconds per unit of work by kind, as known before anything was measured.
    """
    seconds = [part.left * rate if part.left else 0.0 for part, rate in zip(parts, rates(parts, prior), strict=True)]
    if not any(part.left for part in parts):
        return Left(0.0, 0.0)
    if any(map(_unknown, seconds)):
        return None
    present = next(number for number, part in enumerate(parts) if part.left)
    return Left(seconds[present], sum(seconds[:present]) + sum(seconds[present + 1 :]))


def rates(parts: Sequence[Part], prior: dict[str, float] | None = None) -> list[float]:
    """Return the expected seconds per unit for the rest of each part; nan if nothing is known of it.

    A kind that was neither measured nor known before is expected to be as fast as all measured work together.
    """
    overall = _mean([(part.measured, part.seconds) for part in parts])
    found = []
    for part in parts:
        same = [each for each in parts if each.kind == part.kind]
        known = (prior or {}).get(part.kind)
        measured = [(each.measured, each.seconds) for each in same]
        if known is not None:
            weight = TRUST * sum(each.planned for each in same) or 1.0
            measured.append((weight, weight * known))
        kind = _mean(measured)
        kind = overall if _unknown(kind) else kind
        weight = TRUST * part.planned
        own = [(part.measured, part.seconds)]
        found.append(kind if _unknown(kind) else _mean([*own, (weight, weight * kind)] if weight else own))
    return found


def _mean(measured: Sequence[tuple[float, float]]) -> float:
    """Return the seconds per unit of pairs of work and seconds; nan without work."""
    work = sum(work for work, _ in measured)
    return sum(seconds for _, seconds in measured) / work if work else float("nan")


def _unknown(rate: float) -> bool:
    return rate != rate
