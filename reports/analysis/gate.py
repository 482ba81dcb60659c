"""Power of a run's gate: probabilities that it keeps a result, given its size and the share of answers that changed.

A result changes each answer with the probability that was observed. A changed answer is a fix with probability
(flips + gain) / (2 flips), else a regression; without a true gain both are equally likely. The probabilities are those
of `bench.stats.gate`, the test of the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.rows import GateRecord, Row
from bench.stats.gate import GateDesign, detectable_gain, expected_items, keep_probability
from reports.analysis.results import GatePower

CHANCES = (0.5, 0.8, 0.95)
GAINS = tuple(i / 100 for i in range(0, 31, 2))


def power_of(rows: Sequence[Row]) -> tuple[GatePower, ...]:
    """Return the false-positive rate and the power of the gate for each gated row that answered items."""
    return tuple(_power(row.label, row.gate) for row in rows if row.gate and row.gate.items)


def _power(label: str, gate: GateRecord) -> GatePower:
    design = GateDesign(gate.max_items, gate.level)
    flips = (gate.fixes + gate.regressions) / gate.items

    def shares(gain: float) -> tuple[float, float]:
        changed = max(flips, gain)
        return (changed + gain) / 2, (changed - gain) / 2

    regressions = gate.regressions / gate.items
    return GatePower(
        label=label,
        accepted=gate.accepted,
        reason=gate.reason,
        items=gate.items,
        max_items=gate.max_items,
        level=gate.level,
        flip_rate=flips,
        keeps_noise=keep_probability(design, *shares(0.0)),
        expected_items=expected_items(design, *shares(0.0)),
        gains=GAINS,
        power=tuple(keep_probability(design, *shares(gain)) for gain in GAINS),
        detectable={
            f"{chance:g}": detectable_gain(design, regressions, chance) if regressions < 0.5 else None
            for chance in CHANCES
        },
    )
