"""Short versions of the tables of docs/gate.md. `python -m measurements.gate` prints the full tables."""

import numpy as np
import pytest
from simulated_gate import accepted, conditional_rates, shares, simulate

from bench.stats.gate import GateDesign, decide, keep_probability


def test_shares_have_the_gain_and_the_flips_without_a_gain():
    assert shares(1.0, 0.5, 0.0) == pytest.approx((0.2, 0.2))
    fixed, broken = shares(0.3, 0.12, 0.06)
    assert fixed - broken == pytest.approx(0.06)
    assert shares(0.15, 0.5, 0.2) == (0.2, 0.0)


def test_a_changed_model_fixes_and_breaks_the_shares_of_the_beta_distribution():
    rng = np.random.default_rng(0)
    odds = rng.beta(4 * 0.12, 4 * 0.88, 1_000_000)
    assert 0.3 * (odds * (1 - odds)).mean() == pytest.approx(shares(0.3, 0.12, 0.0)[0], rel=0.01)


def test_runs_that_are_rejected_by_their_p_values_are_rejected_look_by_look_too():
    design = GateDesign(48)
    counts = np.random.default_rng(0).multinomial(12, [0.2, 0.1, 0.7], (500, 4)).cumsum(axis=1)
    played = []
    for run in counts[..., :2].tolist():
        decisions = (decide(design, run[:look]) for look in range(1, 5))
        played.append(next(decision for decision in decisions if decision is not None).accepted)
    kept = accepted(design, counts[..., 0], counts[..., 1])
    assert kept.tolist() == played
    assert 0 < kept.sum() < 500


def test_the_gate_keeps_more_than_one_exact_test_on_half_of_its_items():
    fixed, broken = shares(1.0, 0.12, 0.06)
    old, new = simulate(64, fixed, broken, runs=2000)
    assert new == pytest.approx(keep_probability(GateDesign(128), fixed, broken), abs=0.04)
    assert new > old + 0.1


@pytest.mark.parametrize("n", [16, 64, 272])
def test_at_most_five_percent_of_runs_keep_a_change_without_a_gain(n):
    _, new = simulate(n, *shares(1.0, 0.5, 0.0), runs=20_000)
    assert new <= 0.05


def test_drawing_the_items_of_each_run_brings_the_rates_of_fixed_splits_closer_together():
    same, drawn = (conditional_rates(64, split, 1.0, 0.5, sets=100, runs=150) for split in (128, 512))
    assert drawn.std() < 0.7 * same.std()
    assert drawn.mean() <= 0.06
