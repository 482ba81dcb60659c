"""Short versions of the tables of docs/statistics.md. `python -m measurements.statistics` prints the full tables."""

import math

import pytest
from simulated_answers import (
    ACCURACIES,
    ITEMS,
    accuracy_coverage,
    change,
    difference_coverage,
    exact_coverage,
    significant,
)

from bench.stats import wilson_interval

GRID = [(n, p) for n in ITEMS for p in ACCURACIES]


@pytest.mark.parametrize(("n", "p"), GRID)
def test_wilson_covers_94_to_96_percent_within_the_limits_of_integer_counts(n, p):
    exact, edge = exact_coverage(n, p)
    # Counts are integers, so no interval can be closer to 95 % than the probability of its outermost counts allows.
    assert 0.94 <= exact <= 0.96 or abs(exact - 0.95) < edge / 2
    simulated = accuracy_coverage(n, p, seeds=1, count=2000)
    assert abs(simulated - exact) <= 4 * math.sqrt(exact * (1 - exact) / 2000)


def test_exact_coverage_golden():
    # The intervals of 0, 1 and 2 out of 50 cover .02, and that of 3 does not. The binomial probability is .9216.
    assert [wilson_interval(k, 50).low <= 0.02 for k in range(5)] == [True, True, True, False, False]
    assert exact_coverage(50, 0.02)[0] == pytest.approx(0.92157, abs=1e-5)


@pytest.mark.parametrize(("n", "p"), GRID)
def test_tangos_interval_covers_94_percent_or_more(n, p):
    for effect in (0.0, 0.05) if p < 0.9 else (0.0,):
        assert difference_coverage(n, change(p, effect), count=2000) >= 0.94


@pytest.mark.parametrize(("n", "p"), GRID)
def test_a_model_compared_with_itself_is_significant_in_at_most_6_percent(n, p):
    share, _ = significant(n, change(p, 0.0), seeds=1, count=1000)
    assert share <= 0.06


@pytest.mark.parametrize("seeds", [5, 8])
def test_several_seeds_keep_the_false_positive_rate_and_the_coverage(seeds):
    share, covered = significant(164, change(0.5, 0.0, 0.01), seeds=seeds, count=400)
    assert share <= 0.06
    assert covered >= 0.94


@pytest.mark.parametrize("seed_sd", [0.0, 0.01])
def test_intervals_of_accuracy_over_several_seeds_have_their_coverage(seed_sd):
    assert accuracy_coverage(164, 0.5, seeds=5, count=500, seed_sd=seed_sd) >= 0.93


def test_power_grows_with_items_and_seeds():
    more = change(0.5, 0.05)
    powers = [significant(n, more, seeds=k, count=200)[0] for n, k in ((50, 1), (164, 1), (164, 5), (1319, 1))]
    assert powers == sorted(powers)
    assert powers[-1] > 0.95


def test_a_change_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="room"):
        change(0.9, 0.2)
