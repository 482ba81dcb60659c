import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats.gate import decide
from methods.gate import paired_correctness
from methods.interface import Evaluation


def outcome(fixes, regressions, same=20):
    before = np.array([False] * fixes + [True] * regressions + [True] * same)
    now = np.array([True] * fixes + [False] * regressions + [True] * same)
    return before, now


def test_a_clear_gain_is_accepted():
    decision = decide(*outcome(12, 1), level=0.05)
    assert decision.accepted
    assert (decision.fixes, decision.regressions, decision.examples) == (12, 1, 33)
    assert decision.gain == pytest.approx(11 / 33)
    assert decision.p_value == pytest.approx(14 / 2**13)


def test_the_smallest_accepted_number_of_fixes_depends_on_the_level():
    assert not decide(*outcome(4, 0), level=0.05).accepted
    assert decide(*outcome(5, 0), level=0.05).accepted
    assert not decide(*outcome(5, 0), level=0.025).accepted


def test_no_change_is_not_accepted():
    assert not decide(*outcome(0, 0), level=0.5).accepted
    assert not decide(np.empty(0, bool), np.empty(0, bool), level=0.5).accepted


def test_the_penalty_is_the_weight_of_regressions():
    assert decide(*outcome(40, 21), level=0.05, penalty=1).accepted
    decision = decide(*outcome(40, 21), level=0.05, penalty=2)
    assert not decision.accepted
    assert "penalty" in decision.reason


def test_more_standard_errors_make_the_gate_stricter():
    assert decide(*outcome(8, 1), level=0.05, z=1).accepted
    assert not decide(*outcome(8, 1), level=0.05, z=4).accepted


def test_the_standard_error_is_that_of_the_paired_differences():
    before, now = outcome(7, 3, same=15)
    differences = now.astype(float) - before.astype(float)
    expected = differences.std() / np.sqrt(differences.size)
    assert decide(before, now, level=0.05).standard_error == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.001, 0.01, 0.05]))
def test_an_accepted_change_is_a_significant_gain(fixes, regressions, level):
    decision = decide(*outcome(fixes, regressions), level=level)
    if decision.accepted:
        assert decision.gain > 0
        assert decision.p_value <= level
    else:
        assert decision.gain <= 0 or decision.p_value > level


@given(st.integers(0, 40), st.integers(0, 40))
def test_one_more_fix_never_rejects_an_accepted_change(fixes, regressions):
    if decide(*outcome(fixes, regressions), level=0.05).accepted:
        assert decide(*outcome(fixes + 1, regressions), level=0.05).accepted


def test_unpaired_arrays_are_refused():
    with pytest.raises(ValueError, match="same length"):
        decide(np.ones(3, bool), np.ones(4, bool), level=0.05)


def test_examples_that_could_not_be_scored_for_both_models_are_left_out():
    nan, wrong = float("nan"), np.zeros(6, dtype=np.bool_)
    base = Evaluation(np.array([nan] * 5 + [0.0]), wrong, 1)
    trained = Evaluation(np.array([1.0] * 5 + [nan]), np.array([True] * 5 + [False]), 1)
    decision = decide(*paired_correctness(base, trained), level=0.05)
    assert (decision.accepted, decision.examples, decision.fixes) == (False, 0, 0)
