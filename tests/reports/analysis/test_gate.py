import numpy as np
import pytest

from bench.stats.gate import decide
from reports.analysis.gate import GateDesign, acceptance, detectable, power_of


@pytest.mark.parametrize(
    "gate", [GateDesign(30, 0.05), GateDesign(40, 0.025, z=2.0), GateDesign(25, 0.2, z=1.0, penalty=2.0)]
)
def test_thresholds_are_those_of_the_decision(gate):
    fewest = gate.thresholds()
    before = np.zeros(gate.examples, bool)
    for changed in range(gate.examples + 1):
        passed = []
        for fixes in range(changed + 1):
            # The first `changed - fixes` examples are regressions, the following ones are fixes.
            base, now = before.copy(), before.copy()
            base[: changed - fixes] = True
            now[changed - fixes : changed] = True
            passed.append(decide(base, now, level=gate.level, z=gate.z, penalty=gate.penalty).accepted)
        assert passed == [fixes >= fewest[changed] for fixes in range(changed + 1)]


def test_noise_is_accepted_at_most_at_the_level_and_as_often_as_simulated():
    gate = GateDesign(100, 0.05)
    exact = acceptance(gate, 0.3)
    assert 0 < exact <= 0.05
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(4000):
        before = rng.random(100) < 0.5
        now = np.where(rng.random(100) < 0.3, ~before, before)
        kept += decide(before, now, level=0.05).accepted
    assert kept / 4000 == pytest.approx(exact, abs=0.01)


def test_larger_gains_are_accepted_more_often():
    gate = GateDesign(200, 0.025)
    power = [acceptance(gate, 0.2, gain) for gain in (-0.05, 0.0, 0.03, 0.06, 0.2, 0.5)]
    assert power == sorted(power)
    assert power[-1] > 0.999
    found = detectable(gate, 0.2)
    assert found["0.5"] < found["0.8"] < found["0.95"]
    assert acceptance(gate, 0.2, found["0.8"]) == pytest.approx(0.8, abs=1e-3)
    assert detectable(GateDesign(3, 0.01), 0.2) == {"0.5": None, "0.8": None, "0.95": None}
    assert acceptance(gate, 0.0) == 0
    with pytest.raises(ValueError, match="flip rate"):
        acceptance(gate, 1.2)


def test_a_runs_looks_are_read_with_its_settings():
    look = {"examples": 60, "level": 0.025, "fixes": 8, "regressions": 4, "accepted": False}
    looks = [look | {"stage": "stage 1"}, look | {"stage": "stage 2, round 1"}, {"stage": "x", "accepted": False}]
    found = power_of(looks, {"z": 1.0, "penalty": 2.0})
    assert found.flip_rate == pytest.approx(0.2)
    assert [entry.stage for entry in found.looks] == ["stage 1", "stage 2, round 1"]
    assert found.looks[1].accepts_noise <= found.looks[0].accepts_noise <= 0.025
    assert found.accepts_noise == pytest.approx(sum(entry.accepts_noise for entry in found.looks))
    assert found.granted == pytest.approx(0.05)
    assert len(found.power) == len(found.gains)
    assert power_of([{"accepted": False, "reason": "none"}], {}) is None
    assert power_of([look], {}).looks[0].stage == "after training"
