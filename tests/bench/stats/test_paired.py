import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import multinomial

from bench.stats import (
    PairedCounts,
    mcnemar_exact,
    mcnemar_size,
    paired_counts,
    paired_difference_interval,
    wilson_interval,
)

COUNTS = st.integers(0, 200)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_probability(confidence):
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        paired_difference_interval(1, 0, 2, confidence)


@pytest.mark.parametrize(
    ("fixes", "regressions", "two_sided", "greater"),
    [
        # Complete response before and after consolidation (Cavo et al. 2012), as computed in Fagerland,
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
    # Cavo et al. 2012, computed there as before minus after: -0.1240 to -0.0054 with 161 patients.
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


def test_more_discordant_pairs_than_items_are_refused():
    with pytest.raises(ValueError, match="n is 3"):
        paired_difference_interval(2, 2, 3)


@pytest.mark.parametrize("n", [10, 25, 60])
def test_paired_interval_covers(n):
    """Compute the exact coverage over all tables of n pairs, for rare to common discordant pairs."""
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


@pytest.mark.parametrize(
    ("discordant", "level", "size"), [(5, 0.05, 1 / 32), (4, 0.05, 0.0), (0, 0.05, 0.0), (0, 1, 1.0)]
)
def test_the_size_of_the_exact_test_golden(discordant, level, size):
    assert mcnemar_size(discordant, level) == pytest.approx(size)


@given(st.integers(0, 120), st.floats(0, 1))
def test_the_size_is_the_largest_p_value_within_the_level(discordant, level):
    p_values = [mcnemar_exact(f, discordant - f, "greater") for f in range(discordant + 1)]
    assert mcnemar_size(discordant, level) == pytest.approx(max([p for p in p_values if p <= level], default=0.0))
