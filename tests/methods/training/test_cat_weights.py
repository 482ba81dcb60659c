import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from methods.training.cat_weights import (
    best_rl,
    majority,
    majority_rl,
    majority_sft,
    normalised,
    others_rl,
    pass_rl,
    pass_sft,
    rival_threshold,
)

inside = st.floats(0.02, 0.98)
sizes = st.integers(1, 40)


def slope(function, p, h=1e-6):
    return (function(p + h) - function(p - h)) / (2 * h)


@given(inside, sizes)
def test_weights_are_the_derivatives_of_the_objective(p, n):
    k = majority(n)

    def solved(p):
        return 1 - (1 - p) ** n

    def won(p):
        return binom.sf(k - 1, n, p)

    assert pass_rl(p, n) == pytest.approx(slope(solved, p), rel=1e-4, abs=1e-8)
    assert pass_sft(p, n) == pytest.approx(p * slope(solved, p) / solved(p), rel=1e-4, abs=1e-8)
    assert majority_rl(p, n, k) == pytest.approx(slope(won, p), rel=1e-4, abs=1e-8)
    if won(p) > 1e-6:
        assert majority_sft(p, n, k) == pytest.approx(p * slope(won, p) / won(p), rel=1e-3, abs=1e-6)


@given(inside, st.integers(1, 12), st.integers(0, 6), st.data())
def test_weights_from_other_answers_are_unbiased_if_there_are_enough(p, n, more, data):
    k = data.draw(st.integers(1, n))
    others = n - 1 + more
    correct = np.arange(others + 1)
    chances = binom.pmf(correct, others, p)
    assert chances @ others_rl(correct, others - correct, n, k) == pytest.approx(majority_rl(p, n, k), rel=1e-9)


def test_weights_from_too_few_other_answers_use_their_share_of_correct_ones():
    assert others_rl(1, 2, 8, 1) == pytest.approx(pass_rl(1 / 3, 8))
    assert others_rl(1, 2, 8, 3) == pytest.approx(majority_rl(1 / 3, 8, 3))
    assert others_rl(0, 0, 8, 1) == pytest.approx(8)


def test_weights_from_other_answers_are_exact_at_one_answer_and_finite_in_large_groups():
    assert (others_rl(np.arange(9), 8 - np.arange(9), 1, 1) == 1.0).all()
    correct = np.arange(5000)
    large = others_rl(correct, 4999 - correct, 2500, 1200)
    assert np.isfinite(large).all()
    assert (large >= 0).all()
    assert large.max() > 1


def test_golden_values():
    assert pass_rl(0.25, 4) == pytest.approx(4 * 0.75**3)
    assert pass_sft(0.5, 2) == pytest.approx(2 * 0.5 * 0.5 / 0.75)
    assert majority_rl(0.3, 5, 3) == pytest.approx(5 * 6 * 0.3**2 * 0.7**2)
    assert majority_sft(0.3, 5, 3) == pytest.approx(3 * 10 * 0.027 * 0.49 / 0.16308)
    np.testing.assert_allclose(best_rl([0.0, 1.0, 1.0, 2.0], 2), [0.25, 1.0, 1.0, 1.75])
    assert [majority(n) for n in (1, 2, 3, 8)] == [1, 2, 2, 5]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_at_one_answer_all_weights_are_1(p):
    for weights in (pass_rl(p, 1), pass_sft(p, 1), majority_rl(p, 1, 1), majority_sft(p, 1, 1), best_rl(p, 1)):
        np.testing.assert_allclose(weights, 1.0)


@pytest.mark.parametrize("n", [2, 8, 64, 4096])
def test_limits_near_0_and_1(n):
    k = majority(n)
    tiny = 1e-300
    assert pass_rl([0.0, tiny, 1.0], n) == pytest.approx([n, n, 0.0])
    assert pass_sft([0.0, tiny, 1e-12, 1.0], n) == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-6)
    assert majority_sft([0.0, tiny, 1.0], n, k) == pytest.approx([k, k, 0.0 if n > k else n])
    assert majority_rl([0.0, 1.0], n, k) == pytest.approx([0.0, 0.0 if n > k else n])
    near = np.array([1e-18, 1e-9, 1 - 1e-9, 1 - 1e-16])
    for weights in (pass_rl(near, n), pass_sft(near, n), majority_rl(near, n, k), majority_sft(near, n, k)):
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()


@given(inside, sizes)
def test_at_p_0_the_weight_is_largest_for_pass_and_smallest_for_a_majority(p, n):
    assert pass_rl(0.0, n) >= pass_rl(p, n)
    if n > 2:
        assert majority_rl(0.0, n, majority(n)) <= majority_rl(p, n, majority(n))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), sizes)
def test_best_of_n_weights_have_mean_1_in_every_group_and_increase_with_the_rank(rewards, n):
    weights = best_rl(rewards, n)
    assert weights.mean() == pytest.approx(1.0)
    order = np.argsort(rewards, kind="stable")
    assert (np.diff(weights[order]) >= -1e-9).all()
    if 1 < n < 8:
        assert len({round(w, 12) for w in weights}) == len(set(rewards))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_normalised_weights_have_mean_1(weights):
    scaled = normalised(np.array(weights))
    assert scaled.mean() == pytest.approx(1.0) or sum(weights) < 1e-300
    assert math.isfinite(scaled.sum())


def test_weights_that_do_not_count_are_scaled_with_the_others():
    np.testing.assert_allclose(normalised(np.array([8.0, 1.0, 3.0]), [False, True, True]), [4.0, 0.5, 1.5])
    np.testing.assert_array_equal(normalised(np.array([8.0, 0.0]), [False, True]), [8.0, 0.0])
    np.testing.assert_array_equal(normalised(np.array([8.0, 2.0]), [False, False]), [8.0, 2.0])
    np.testing.assert_array_equal(normalised(np.zeros(3)), 0.0)


def test_the_threshold_exceeds_the_rivals_votes_and_is_at_most_a_majority():
    assert rival_threshold(8, [0.0, 0.125, 0.25, 0.5, 1.0]).tolist() == [1, 2, 3, 5, 5]
    assert rival_threshold(10, 0.3) == 4


def test_probabilities_and_thresholds_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"probability in \[0, 1\]"):
        pass_rl([0.5, 1.5], 2)
    with pytest.raises(ValueError, match="1 to 3 votes"):
        majority_rl(0.5, 3, 4)
