import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import holm


def test_golden():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrected_p_values_lie_between_p_values_and_bonferroni_and_keep_their_order(p_values):
    p, corrected = np.array(p_values), holm(p_values)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(p * p.size, 1.0) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()


def test_the_family_wise_error_rate_is_5_percent():
    rng = np.random.default_rng(0)
    called = np.mean([(holm(rng.random(8)) <= 0.05).any() for _ in range(4000)])
    assert called == pytest.approx(0.05, abs=0.01)


def test_values_that_are_not_probabilities_are_refused():
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, float("nan")])
