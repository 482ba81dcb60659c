import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.stats import (
    accuracy_over_seeds,
    difference_over_seeds,
    mean_difference,
    mean_variance,
)


def test_seeds_with_equal_answers_give_the_interval_of_one_seed() -> None:
    one = np.random.default_rng(0).random((200, 1)) < 0.3
    single, triple = accuracy_over_seeds(one), accuracy_over_seeds(np.repeat(one, 3, axis=1))
    assert (triple.low, triple.high) == pytest.approx((single.low, single.high), abs=1e-9)


def test_independent_seeds_give_a_narrower_interval() -> None:
    rng = np.random.default_rng(0)
    widths = [e.high - e.low for e in (accuracy_over_seeds(rng.random((400, s)) < 0.3) for s in (1, 4))]
    assert widths[1] < 0.6 * widths[0]


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_intervals_over_seeds_cover_the_truth(p: float) -> None:
    """Items vary in difficulty, and seeds answer independently given the item."""
    rng, hits, runs = np.random.default_rng(1), 0, 600
    for _ in range(runs):
        odds = rng.beta(4 * p, 4 * (1 - p), 100)
        estimate = accuracy_over_seeds(rng.random((100, 3)) < odds[:, None])
        hits += estimate.low <= p <= estimate.high
    assert hits / runs >= 0.93


def test_the_test_over_seeds_has_its_nominal_false_positive_rate() -> None:
    rng, rejected, runs = np.random.default_rng(2), 0, 300
    for _ in range(runs):
        odds = rng.random(80)[:, None]
        before, after = rng.random((80, 1)) < odds, rng.random((80, 3)) < odds
        rejected += (difference_over_seeds(before, after).p_value or 0) <= 0.05
    assert rejected / runs <= 0.08


def test_a_difference_over_seeds_is_significant_and_no_difference_is_not() -> None:
    rng = np.random.default_rng(3)
    before = (rng.random((300, 1)) < 0.3).astype(float)
    after = np.repeat(before, 3, axis=1)
    assert difference_over_seeds(before, after).p_value == 1.0
    after[:60] = 1.0
    estimate = difference_over_seeds(before, after)
    assert estimate.p_value is not None
    assert estimate.p_value < 0.001
    assert 0 < estimate.low < estimate.value < estimate.high


def test_the_p_value_of_a_mean_difference_is_1_without_a_difference_and_small_with_one():
    assert mean_difference(np.zeros(20)).p_value == 1.0
    found = mean_difference(np.tile([0.5, 0.3], 20))
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high
    assert found.p_value is not None
    assert found.p_value < 0.001


def test_variance_components_golden() -> None:
    """Compare with the mean squares, written out."""
    table = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]])
    found = mean_variance(table)
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    residual = table - rows[:, None] - columns[None, :] + table.mean()
    between, within = 4 * columns.var(ddof=1), (residual**2).sum() / 6
    assert found.mean == pytest.approx(0.5)
    assert found.items == pytest.approx(rows.var() / 4)
    assert found.seeds == pytest.approx((between - within) / 12)
    assert found.uncertainty == pytest.approx((between**2 / 2 + within**2 / 6) / 144)


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
@example(3, 3, 5094532)  # equal means of items and of seeds, whose variances are rounding errors
def test_intervals_over_seeds_contain_their_estimate_and_are_symmetric(items, seeds, seed):
    rng = np.random.default_rng(seed)
    before, after = rng.random((items, 1)) < 0.5, rng.random((items, seeds)) < rng.random()
    accuracy = accuracy_over_seeds(after)
    assert 0 <= accuracy.low <= accuracy.value + 1e-9
    assert accuracy.value - 1e-9 <= accuracy.high <= 1
    wrong = accuracy_over_seeds(~after)
    assert (wrong.low, wrong.high) == pytest.approx((1 - accuracy.high, 1 - accuracy.low))
    gain = difference_over_seeds(before, after)
    assert -1 <= gain.low <= gain.value + 1e-9
    assert gain.value - 1e-9 <= gain.high <= 1
    assert gain.p_value is not None
    assert 0 <= gain.p_value <= 1
    loss = difference_over_seeds(~before, ~after)
    assert (loss.low, loss.high, loss.p_value) == pytest.approx((-gain.high, -gain.low, gain.p_value), abs=1e-7)


def test_seeds_of_different_accuracy_give_a_wider_interval_than_one_seed() -> None:
    rng = np.random.default_rng(5)
    apart = rng.random((1000, 3)) < np.array([0.3, 0.5, 0.7])
    estimate, one = accuracy_over_seeds(apart), accuracy_over_seeds(apart[:, 1:2])
    assert estimate.high - estimate.low > 3 * (one.high - one.low)
