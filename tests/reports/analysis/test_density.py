import numpy as np
import pytest

from reports.analysis.density import noise_share, rank_correlation, shares, specialisation


def coins(rng, candidates, base, flips):
    """Return candidates that replace some of the base's answers by coin flips, each on other items."""
    afresh = rng.random((candidates, base.size)) < flips
    return np.where(afresh, rng.random((candidates, base.size)) < 0.5, base)


def test_shares_are_counted_by_scale_and_threshold():
    base = np.array([True] * 50 + [False] * 50)
    correct = np.tile(base, (4, 1))
    correct[1, 50:52] = True  # + 2 points
    correct[2, 50:60] = True  # + 10
    correct[3, 0] = False  # - 1
    found = shares(correct, base, np.array([1.0, 1.0, 1.0, 2.0]), draws=200)
    values = {(s.sigma, s.threshold): (s.share.value, s.candidates) for s in found}
    assert values[1.0, 0.0] == (1.0, 3)
    assert values[1.0, 0.02] == (2 / 3, 3)
    assert values[1.0, 0.05] == (1 / 3, 3)
    assert values[2.0, 0.0] == (0.0, 1)
    one = next(s for s in found if (s.sigma, s.threshold) == (1.0, 0.05))
    assert 0 < one.share.low < 1 / 3 < one.share.high < 1
    assert one.elsewhere == pytest.approx(0.0)  # all ten fixes are in one half of the examples


def test_noise_flips_a_coin_for_each_changed_answer():
    # With 2 changed answers, a gain of 1 in 10 needs both to be fixes. Without a change the gain is 0.
    assert noise_share(np.array([2.0]), 10, 0.1) == pytest.approx(1 / 4)
    assert noise_share(np.array([2.0]), 10, 0.0) == pytest.approx(3 / 4)
    assert noise_share(np.array([0.0]), 10, 0.0) == 1
    assert noise_share(np.array([0.0]), 10, 0.1) == 0
    assert noise_share(np.array([2.0, 0.0]), 10, 0.3) == 0


def test_the_simulated_null_has_the_mean_of_the_formula():
    rng = np.random.default_rng(0)
    base = rng.random(60) < 0.5
    correct = coins(rng, 80, base, 0.2)
    change = correct.astype(int) - base
    signs = rng.choice([-1, 1], (4000, 60))
    for threshold in (0.0, 0.02, 0.05):
        drawn = (change @ signs.T >= threshold * 60 - 1e-6).mean()
        assert drawn == pytest.approx(noise_share(np.abs(change).sum(axis=1).astype(float), 60, threshold), abs=0.02)


def test_noise_alone_is_rarely_significant():
    p_values = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        base = rng.random(50) < 0.5
        # All candidates change the same items, so their gains are correlated.
        odds = np.where(rng.random(50) < 0.5, base, 1 - base)
        correct = rng.random((30, 50)) < np.where(rng.random((30, 50)) < 0.5, base, odds)
        found = shares(correct, base, np.ones(30), thresholds=(0.02,), draws=199, seed=seed)
        p_values.append(found[0].p_value)
    # Binomial with 150 draws at 5 %: more than 14 occur in one of a hundred such tests.
    assert (np.array(p_values) <= 0.05).sum() <= 14


def test_identical_perturbations_count_as_one():
    base = np.array([True] * 50 + [False] * 50)
    correct = np.tile(base, (60, 1))
    correct[:, 50:70] = True
    found = {s.threshold: s for s in shares(correct, base, np.ones(60), draws=4000)}
    # The p-value is the probability that one of them reaches the threshold: 2 Bin(20, 1/2) - 20 >= 1, or >= 5.
    assert found[0.01].p_value == pytest.approx(0.412, abs=0.03)
    assert found[0.05].p_value == pytest.approx(0.132, abs=0.03)


def test_good_perturbations_are_significant_and_stay_good_on_other_examples():
    rng = np.random.default_rng(1)
    base = rng.random(200) < 0.5
    good = rng.random(40) < 0.5
    fixed = rng.random((40, 200)) < np.where(good, 0.3, 0.0)[:, None]
    found = shares(coins(rng, 40, base, 0.05) | fixed, base, np.ones(40), thresholds=(0.05,))[0]
    assert found.share.value == pytest.approx(good.mean(), abs=0.1)
    assert found.p_value <= 0.01
    assert found.null < 0.02
    assert found.elsewhere > 0.1


def test_related_gains_correlate_and_unrelated_ones_do_not():
    rng = np.random.default_rng(2)
    quality = rng.normal(0, 0.2, 200)

    def gains(quality):
        return (rng.random((200, 100)) < 0.5 + quality[:, None]).astype(float) - 0.5

    sigmas = np.repeat([1.0, 2.0], 100)
    same = specialisation("other", gains(quality), gains(quality), sigmas)
    apart = specialisation("other", gains(quality), gains(rng.permutation(quality)), sigmas)
    assert [s.sigma for s in same] == [1.0, 2.0]
    assert all(s.correlation.low > 0.7 and s.candidates == 100 for s in same)
    assert all(s.correlation.low < 0 < s.correlation.high for s in apart)
    assert all(min(s.reliability) > 0.8 for s in same)


def test_the_interval_of_a_rank_correlation_covers():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(300):
        x = rng.standard_normal(40)
        y = 0.5 * x + np.sqrt(0.75) * rng.standard_normal(40)
        found = rank_correlation(x, y)
        # The true value: Spearman's correlation of normal pairs with correlation 0.5.
        inside += found.low <= 6 / np.pi * np.arcsin(0.25) <= found.high
    assert inside >= 0.91 * 300
    assert rank_correlation(np.ones(9), np.arange(9.0)).value == 0
