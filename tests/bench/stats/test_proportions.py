import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    accuracy_over_seeds,
    coverage_over_items,
    difference_over_seeds,
    exact_interval,
    mcnemar_exact,
    paired_difference_interval,
    pass_at_k,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_published(successes, n, expected):
    assert wilson_interval(successes, n) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        # Newcombe 1998, table I, method 5.
        (81, 263, (0.2527, 0.3676)),
        (15, 148, (0.0578, 0.1617)),
        (0, 20, (0.0000, 0.1684)),
        (1, 29, (0.0009, 0.1776)),
    ],
)
def test_exact_published(successes, n, expected):
    assert exact_interval(successes, n) == pytest.approx(expected, abs=5e-5)


def test_exact_is_symmetric_and_the_whole_range_without_trials():
    assert exact_interval(0, 0) == (0.0, 1.0)
    low, high = exact_interval(3, 7)
    assert exact_interval(4, 7) == pytest.approx((1 - high, 1 - low))
    assert exact_interval(7, 7)[1] == 1.0


def test_wilson_without_trials_is_the_whole_range():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


def test_one_seed_gives_wilsons_interval_and_the_exact_paired_test() -> None:
    before, after = np.array([0] * 30 + [1] * 20), np.array([0] * 22 + [1] * 26 + [0] * 2)
    accuracy = accuracy_over_seeds(after[:, None])
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson_interval(26, 50))
    difference = difference_over_seeds(before, after[:, None])
    assert difference.p_value == pytest.approx(mcnemar_exact(8, 2))
    assert (difference.low, difference.high) == pytest.approx(paired_difference_interval(8, 2, 50))


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (5, 2, 1, 2 / 5),
        (10, 3, 5, 1 - 21 / 252),  # C(7, 5) / C(10, 5)
        (16, 1, 8, 0.5),
        (16, 0, 8, 0.0),
        (16, 9, 8, 1.0),  # fewer wrong ones than k
        (4, 4, 4, 1.0),
        (200, 1, 100, 0.5),
    ],
)
def test_pass_at_k_golden(n, c, k, expected):
    assert pass_at_k(np.array([n]), np.array([c]), k) == pytest.approx([expected])


@given(st.integers(1, 8), st.floats(0, 1), st.integers(1, 8))
def test_pass_at_k_is_unbiased(k, p, more):
    n = k + more
    right = np.arange(n + 1)
    chance = np.array([math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in right])
    expected = float(chance @ pass_at_k(np.full(n + 1, n), right, k))
    assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


def test_too_few_samples_give_nan_and_impossible_counts_are_refused():
    assert np.isnan(pass_at_k(np.array([3, 4]), np.array([3, 1]), 4)).tolist() == [True, False]
    for samples, right, k in ((4, 5, 2), (4, -1, 2), (4, 1, 0)):
        with pytest.raises(ValueError, match="needed"):
            pass_at_k(np.array([samples]), np.array([right]), k)


def test_the_interval_of_pass_at_k_is_wilsons_if_estimates_are_zeros_and_ones():
    values = np.array([1.0] * 30 + [0.0] * 20)
    found = coverage_over_items(values, 2)
    assert (found.low, found.high) == pytest.approx(wilson_interval(30, 50), abs=0.003)
    certain = coverage_over_items(np.ones(50), 2)
    assert (certain.low, certain.high) == pytest.approx(wilson_interval(50, 50))
    narrow = coverage_over_items(np.full(50, 0.6) + np.tile([0.1, -0.1], 25), 2)
    assert (narrow.low, narrow.high) == pytest.approx(wilson_interval(60, 100))
