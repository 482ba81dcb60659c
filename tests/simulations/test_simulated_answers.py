"""Quick versions of the tables of docs/statistics.md; `python -m measurements.statistics` makes them whole."""

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
def test_wilson_covers_94_to_96_percent_but_for_what_whole_counts_forbid(n, p):
    exact, edge = exact_coverage(n, p)
    # Whole counts: no interval can be nearer to 95 % than its outermost counts are likely.
    assert 0.94 <= exact <= 0.96 or abs(exact - 0.95) < edge / 2
    simulated = accuracy_coverage(n, p, seeds=1, count=2000)
    assert abs(simulated - exact) <= 4 * math.sqrt(exact * (1 - exact) / 2000)


def test_exact_coverage_golden():
    # 0, 1 and 2 of 50 cover .02, and 3 no longer do: .9216, binomial.
    assert [wilson_interval(k, 50).low <= 0.02 for k in range(5)] == [True, True, True, False, False]
    assert exact_coverage(50, 0.02)[0] == pytest.approx(0.92157, abs=1e-5)


@pytest.mark.parametrize(("n", "p"), GRID)
def test_tangos_interval_covers_94_percent_or_more(n, p):
    for effect in (0.0, 0.05) if p < 0.9 else (0.0,):
        assert difference_coverage(n, change(p, effect), count=2000) >= 0.94


@pytest.mark.parametrize(("n", "p"), GRID)
def test_a_comparison_of_a_model_with_itself_is_significant_in_at_most_6_percent(n, p):
    share, _ = significant(n, change(p, 0.0), seeds=1, count=1000)
    assert share <= 0.06


@pytest.mark.parametrize("seeds", [3, 8])
def test_several_seeds_are_no_more_often_significant(seeds):
    share, covered = significant(164, change(0.5, 0.0, 0.01), seeds=seeds, count=400)
    assert share <= 0.06
    assert covered >= 0.94


@pytest.mark.parametrize("seed_sd", [0.0, 0.01])
def test_accuracy_over_several_seeds_is_covered(seed_sd):
    assert accuracy_coverage(164, 0.5, seeds=3, count=500, seed_sd=seed_sd) >= 0.93


def test_power_grows_with_items_and_seeds():
    more = change(0.5, 0.05)
    powers = [significant(n, more, seeds=k, count=200)[0] for n, k in ((50, 1), (164, 1), (164, 3), (1319, 1))]
    assert powers == sorted(powers)
    assert powers[-1] > 0.95


def test_a_change_without_room_is_refused():
    with pytest.raises(ValueError, match="room"):
        change(0.9, 0.2)
