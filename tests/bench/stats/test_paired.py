import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import multinomial

from bench.stats import (
    PairedCounts,
    accuracy_over_seeds,
    coverage_over_items,
    difference_over_seeds,
    mcnemar_exact,
    mean_difference,
    paired_counts,
    paired_difference_interval,
    pass_at_k,
    wilson_interval,
)

COUNTS = st.integers(0, 200)


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


def test_wilson_without_trials_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_probability(confidence):
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        paired_difference_interval(1, 0, 2, confidence)


@pytest.mark.parametrize(
    ("fixes", "regressions", "two_sided", "greater"),
    [
        # Complete response before and after consolidation (Cavo et al. 2012), as worked in Fagerland,
        # Lydersen & Laake 2017, Statistical Analysis of Contingency Tables, chapter 8.
        (16, 6, 0.052479, 0.052479 / 2),
        # One of eight discordant pairs: 2 * (1 + 8) / 2^8.
        (7, 1, 18 / 256, 9 / 256),
        (1, 7, 18 / 256, 255 / 256),
        (5, 0, 1 / 16, 1 / 32),
        (4, 4, 1.0, 163 / 256),
        (0, 0, 1.0, 1.0),
    ],
)
def test_mcnemar_published(fixes, regressions, two_sided, greater):
    assert mcnemar_exact(fixes, regressions) == pytest.approx(two_sided, abs=5e-7)
    assert mcnemar_exact(fixes, regressions, "greater") == pytest.approx(greater, abs=5e-7)


@given(COUNTS, COUNTS)
def test_mcnemar_two_sided_is_symmetric_and_twice_the_smaller_tail(fixes, regressions):
    p = mcnemar_exact(fixes, regressions)
    assert p == pytest.approx(mcnemar_exact(regressions, fixes))
    tail = mcnemar_exact(max(fixes, regressions), min(fixes, regressions), "greater")
    assert p == pytest.approx(min(1.0, 2 * tail))


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="regressions is -1"):
        mcnemar_exact(1, -1)
    with pytest.raises(ValueError, match="fixes is -1"):
        paired_difference_interval(-1, 1, 5)


def test_paired_counts():
    before = [True, True, False, False, False, True]
    after = np.array([1, 0, 1, 1, 0, 1])
    counts = paired_counts(before, after)
    assert counts == PairedCounts(both_right=2, fixes=2, regressions=1, both_wrong=1)
    assert counts.n == 6
    assert counts.difference == pytest.approx(np.mean(after) - np.mean(before))


def test_paired_counts_of_nothing():
    counts = paired_counts([], [])
    assert counts == PairedCounts(0, 0, 0, 0)
    assert math.isnan(counts.difference)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([True], [True, False], "before has 1 items, after has 2"),
        ([True, False], [1.0, 0.5], r"after has the value .*0\.5"),
        ([[True]], [True], "before has shape"),
        ([math.nan], [True], "before has the value"),
    ],
)
def test_paired_counts_refuses(before, after, message):
    with pytest.raises(ValueError, match=message):
        paired_counts(before, after)


def test_paired_interval_published():
    # Cavo et al. 2012, worked there as before minus after: -0.1240 to -0.0054 with 161 patients.
    assert paired_difference_interval(16, 6, 161) == pytest.approx((0.0054, 0.1240), abs=5e-5)


@given(COUNTS, COUNTS, COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_paired_interval_inverts_the_score_test(fixes, regressions, concordant, confidence):
    n = fixes + regressions + concordant
    low, high = paired_difference_interval(fixes, regressions, n, confidence)
    assert -1 <= low <= high <= 1
    mirrored = paired_difference_interval(regressions, fixes, n, confidence)
    assert (low, high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-9)
    if n == 0:
        assert (low, high) == (-1, 1)
        return
    assert low - 1e-9 <= (fixes - regressions) / n <= high + 1e-9
    z = ndtri((1 + confidence) / 2)
    if fixes + regressions:
        mcnemar = (fixes - regressions) / math.sqrt(fixes + regressions)
        assert (low > 0) == (mcnemar > z)
        assert (high < 0) == (mcnemar < -z)
    else:
        assert high == pytest.approx(z**2 / (n + z**2))


@given(st.integers(1, 500))
def test_paired_interval_when_every_pair_is_fixed(n):
    low, high = paired_difference_interval(n, 0, n)
    z = ndtri(0.975)
    assert high == 1
    assert low == pytest.approx((n - z**2) / (n + z**2), abs=1e-9)


def test_more_discordant_pairs_than_items():
    with pytest.raises(ValueError, match="n is 3"):
        paired_difference_interval(2, 2, 3)


@pytest.mark.parametrize("n", [10, 25, 60])
def test_paired_interval_covers(n):
    """Exact coverage, over all tables of n pairs, for discordance from rare to common."""
    tables = np.array([(f, r, n - f - r) for f in range(n + 1) for r in range(n + 1 - f)])
    bounds = np.array([paired_difference_interval(int(f), int(r), n) for f, r, _ in tables])
    coverage = []
    for fixed in (0.01, 0.03, 0.1, 0.2, 0.3):
        for regressed in (0.01, 0.03, 0.1, 0.2, 0.3):
            difference = fixed - regressed
            inside = (bounds[:, 0] - 1e-9 <= difference) & (difference <= bounds[:, 1] + 1e-9)
            likelihood = multinomial.pmf(tables, n, (fixed, regressed, 1 - fixed - regressed))
            coverage.append(likelihood[inside].sum())
    assert min(coverage) > 0.93
    assert 0.94 < np.mean(coverage) < 0.99


def test_one_seed_gives_wilsons_interval_and_the_exact_paired_test() -> None:
    before, after = np.array([0] * 30 + [1] * 20), np.array([0] * 22 + [1] * 26 + [0] * 2)
    accuracy = accuracy_over_seeds(after[:, None])
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson_interval(26, 50))
    difference = difference_over_seeds(before, after[:, None])
    assert difference.p_value == pytest.approx(mcnemar_exact(8, 2))
    assert (difference.low, difference.high) == pytest.approx(paired_difference_interval(8, 2, 50))


def test_seeds_that_answer_alike_say_no_more_than_one() -> None:
    one = np.random.default_rng(0).random((200, 1)) < 0.3
    single, triple = accuracy_over_seeds(one), accuracy_over_seeds(np.repeat(one, 3, axis=1))
    assert (triple.low, triple.high) == pytest.approx((single.low, single.high), abs=1e-9)


def test_seeds_that_answer_independently_say_more() -> None:
    rng = np.random.default_rng(0)
    widths = [e.high - e.low for e in (accuracy_over_seeds(rng.random((400, s)) < 0.3) for s in (1, 4))]
    assert widths[1] < 0.6 * widths[0]


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_intervals_over_seeds_cover_the_truth(p: float) -> None:
    """Items vary in difficulty, seeds answer independently given the item."""
    rng, hits, runs = np.random.default_rng(1), 0, 600
    for _ in range(runs):
        odds = rng.beta(4 * p, 4 * (1 - p), 100)
        estimate = accuracy_over_seeds(rng.random((100, 3)) < odds[:, None])
        hits += estimate.low <= p <= estimate.high
    assert hits / runs >= 0.93


def test_the_test_over_seeds_rejects_a_true_hypothesis_at_its_level() -> None:
    rng, rejected, runs = np.random.default_rng(2), 0, 300
    for _ in range(runs):
        odds = rng.random(80)[:, None]
        before, after = rng.random((80, 1)) < odds, rng.random((80, 3)) < odds
        rejected += (difference_over_seeds(before, after).p_value or 0) <= 0.05
    assert rejected / runs <= 0.08


def test_a_difference_over_seeds_is_found_and_none_is_none() -> None:
    rng = np.random.default_rng(3)
    before = (rng.random((300, 1)) < 0.3).astype(float)
    after = np.repeat(before, 3, axis=1)
    assert difference_over_seeds(before, after).p_value == 1.0
    after[:60] = 1.0
    estimate = difference_over_seeds(before, after)
    assert estimate.p_value is not None
    assert estimate.p_value < 0.001
    assert 0 < estimate.low < estimate.value < estimate.high


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


def test_too_few_samples_estimate_nothing_and_impossible_counts_are_refused():
    assert np.isnan(pass_at_k(np.array([3, 4]), np.array([3, 1]), 4)).tolist() == [True, False]
    for samples, right, k in ((4, 5, 2), (4, -1, 2), (4, 1, 0)):
        with pytest.raises(ValueError, match="needed"):
            pass_at_k(np.array([samples]), np.array([right]), k)


def test_the_interval_of_a_coverage_is_wilsons_where_estimates_are_all_or_nothing_and_never_a_point():
    values = np.array([1.0] * 30 + [0.0] * 20)
    found = coverage_over_items(values, 2)
    assert (found.low, found.high) == pytest.approx(wilson_interval(30, 50), abs=0.003)
    certain = coverage_over_items(np.ones(50), 2)
    assert (certain.low, certain.high) == pytest.approx(wilson_interval(50, 50))
    narrow = coverage_over_items(np.full(50, 0.6) + np.tile([0.1, -0.1], 25), 2)
    assert (narrow.low, narrow.high) == pytest.approx(wilson_interval(60, 100))


def test_a_mean_difference_of_nothing_is_certain_of_nothing():
    assert mean_difference(np.zeros(20)).p_value == 1.0
    found = mean_difference(np.tile([0.5, 0.3], 20))
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high
    assert found.p_value is not None
    assert found.p_value < 0.001
