import numpy as np
import pytest
from scipy.special import ndtr

from bench.stats import difference_over_seeds, mean_variance, pairwise_p_values, tied_ranks


def p_values(*tables):
    return pairwise_p_values(np.array([t.mean(axis=1) for t in tables]), [mean_variance(t) for t in tables])


def test_one_seed_is_mcnemars_score_test():
    before, after = np.array([0] * 30 + [1] * 20), np.array([0] * 18 + [1] * 28 + [0] * 4)
    found = p_values(before[:, None].astype(float), after[:, None].astype(float))
    assert found[0, 1] == pytest.approx(2 * ndtr(-(12 - 4) / np.sqrt(16)))
    assert found[0, 1] == found[1, 0]
    assert found[0, 0] == 1.0


def test_seeds_agree_with_the_test_of_two_rows():
    rng = np.random.default_rng(0)
    before, after = (rng.random((500, 1)) < 0.4).astype(float), (rng.random((500, 4)) < 0.5).astype(float)
    pair = difference_over_seeds(before, after).p_value
    # The two tests have similar but different variance estimates.
    assert np.log(p_values(before, after)[0, 1]) == pytest.approx(np.log(pair), rel=0.25)


def test_a_rank_counts_the_rows_that_are_significantly_better():
    rng = np.random.default_rng(1)
    noise = rng.random((400, 1))
    tables = [(noise < share).astype(float) for share in (0.3, 0.31, 0.6, 0.3)]
    values = np.array([t.mean() for t in tables])
    assert tied_ranks(values, p_values(*tables)) == [2, 2, 1, 2]


def test_rows_of_the_same_rank_may_differ_significantly_from_different_rows():
    p = np.array([[1, 0.5, 0.001], [0.5, 1, 0.5], [0.001, 0.5, 1]])
    assert tied_ranks(np.array([0.3, 0.2, 0.1]), p) == [1, 1, 2]
    assert tied_ranks(np.array([0.3]), np.ones((1, 1))) == [1]


def test_rows_without_a_difference_share_a_rank_in_95_percent_of_tables():
    rng, split = np.random.default_rng(2), 0
    for _ in range(400):
        tables = [(rng.random((150, 3)) < 0.3).astype(float) for _ in range(4)]
        split += max(tied_ranks(np.array([t.mean() for t in tables]), p_values(*tables))) > 1
    assert split / 400 <= 0.08
