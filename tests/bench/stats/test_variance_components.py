import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.stats import (
    accuracy_over_seeds,
    difference_over_seeds,
    exact_interval,
    interval_holds,
    mcnemar_exact,
    mean_difference,
    mean_variance,
    paired_difference_interval,
)


def test_seeds_with_equal_answers_give_the_interval_of_one_seed() -> None:
    one = np.random.default_rng(0).random((200, 1)) < 0.3
    single, triple = accuracy_over_seeds(one), accuracy_over_seeds(np.repeat(one, 3, axis=1))
    assert (triple.low, triple.high) == pytest.approx((single.low, single.high), abs=0.001)


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
    assert found.units == 4
    freedom = found.variance**2 / (found.uncertainty + found.items**2 / 3)
    assert found.degrees_of_freedom == pytest.approx(freedom)


@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
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


def small_tables(n):
    """Every table of n items, with one column before and one after, as fixes and regressions."""
    for fixes in range(n + 1):
        for regressions in range(n + 1 - fixes):
            before = np.array([0] * fixes + [1] * regressions + [0] * (n - fixes - regressions))
            after = np.array([1] * fixes + [0] * (n - fixes))
            yield before, after[:, None], fixes, regressions


@pytest.mark.parametrize("n", [1, 2, 7, 16])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 1 - 0.05 / 15])
def test_the_interval_of_one_seed_excludes_zero_exactly_if_the_p_value_is_small(n, confidence):
    for before, after, fixes, regressions in small_tables(n):
        found = difference_over_seeds(before, after, confidence=confidence)
        assert (found.low > 0 or found.high < 0) == (found.p_value <= 1 - confidence)
        assert found.p_value >= mcnemar_exact(fixes, regressions)
        low, high = paired_difference_interval(fixes, regressions, n, confidence)
        assert found.low <= low
        assert found.high >= high


@given(
    st.integers(3, 60),
    st.integers(1, 8),
    st.floats(0, 1),
    st.floats(0, 0.6),
    st.sampled_from([0.9, 0.95, 0.999]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_an_interval_excludes_zero_exactly_if_the_p_value_is_small(n, seeds, right, flips, confidence, clustered, seed):
    rng = np.random.default_rng(seed)
    before = rng.random((n, 1)) < right
    after = before ^ (rng.random((n, seeds)) < flips)
    changed = rng.random(seeds) < 0.7
    changed[0] = True
    for mask in (None, changed):
        after = after if mask is None else np.where(mask, after, before)
        found = difference_over_seeds(
            before,
            after,
            confidence=confidence,
            clusters=np.arange(n) // 2 if clustered else None,
            changed=mask,
        )
        assert (found.low > 0 or found.high < 0) == (found.p_value <= 1 - confidence)
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_added_items_golden():
    """With half a fix and half a regression among two more items, 5 seeds and no variance between them."""
    before, after = np.zeros((38, 1)), np.zeros((38, 5))
    after[:10] = 1.0
    found = difference_over_seeds(before, after)
    mean, squares = 10 / 40, 11 - 40 * (10 / 40) ** 2
    half = 2.026192 * np.sqrt(squares) / 40  # Student's quantile for 37 degrees of freedom
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=1e-6)
    assert found.value == 10 / 38


def test_seeds_that_kept_the_base_enter_by_the_share_of_the_others():
    rng = np.random.default_rng(0)
    before = rng.random((400, 1)) < 0.5
    after = before ^ (rng.random((400, 8)) < np.where(before, 0.02, 0.15))
    changed = np.arange(8) < 6
    gain = difference_over_seeds(before, after[:, :6])
    found = difference_over_seeds(before, np.where(changed, after, before), changed=changed)
    share = exact_interval(6, 8)
    assert (found.low, found.high) == pytest.approx((share.low * gain.low, share.high * gain.high))
    assert found.value == pytest.approx(6 / 8 * gain.value)
    assert found.p_value == gain.p_value
    always = difference_over_seeds(before, after[:, :6], changed=np.ones(6, dtype=bool))
    assert (always.low, always.high) == pytest.approx((exact_interval(6, 6).low * gain.low, gain.high))
    with pytest.raises(ValueError, match="changed has no true value"):
        difference_over_seeds(before, after, changed=np.zeros(8, dtype=bool))


def test_intervals_need_one_seed_or_five_of_which_two_are_changed():
    assert [seeds for seeds in range(1, 9) if interval_holds(seeds)] == [1, 5, 6, 7, 8]
    assert [changed for changed in range(6) if interval_holds(5, changed)] == [2, 3, 4, 5]
    assert not interval_holds(1, 0)
    assert not interval_holds(1, 1)


def test_the_variance_of_clusters_golden():
    """The clusters' deviations add up to 1, -1 and 0; with clusters of one item each the variance is the plain one."""
    table = np.array([[1], [1], [0], [0], [1], [0]], dtype=float)
    assert mean_variance(table, [7, 7, 3, 3, 5, 5]).items == pytest.approx((1 + 1 + 0) / 36)
    assert mean_variance(table, range(6)) == mean_variance(table)
    assert mean_variance(table, [7, 7, 3, 3, 5, 5]).units == 3
    with pytest.raises(ValueError, match="clusters has 2 numbers: one for each of the 6 items is needed"):
        mean_variance(table, [1, 2])
    with pytest.raises(ValueError, match="clusters has 2 numbers"):
        accuracy_over_seeds(table, [1, 2])
    with pytest.raises(ValueError, match="one number for all items"):
        difference_over_seeds(table, 1 - table, clusters=[4] * 6)


def test_items_that_repeat_one_another_count_once():
    rng = np.random.default_rng(4)
    before, after = rng.random((300, 1)) < 0.4, rng.random((300, 5)) < 0.45
    one = difference_over_seeds(before, after)
    copied = [np.repeat(part, 3, axis=0) for part in (before, after)]
    found = difference_over_seeds(*copied, clusters=np.repeat(np.arange(300), 3))
    naive = difference_over_seeds(*copied)
    assert found.high - found.low == pytest.approx(one.high - one.low, rel=0.03)
    assert naive.high - naive.low < 0.85 * (one.high - one.low)
    accuracy, single = accuracy_over_seeds(copied[1], np.repeat(np.arange(300), 3)), accuracy_over_seeds(after)
    assert accuracy.high - accuracy.low == pytest.approx(single.high - single.low, rel=0.03)
