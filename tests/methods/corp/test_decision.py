import math

import numpy as np
import pytest

from methods.corp.decision import decide, paired_correctness
from methods.interface import Evaluation


def outcome(fixes, regressions, same):
    before = np.array([False] * fixes + [True] * regressions + [True] * same)
    now = np.array([True] * fixes + [False] * regressions + [True] * same)
    return before, now


@pytest.mark.parametrize(
    ("fixes", "regressions", "z", "penalty", "accepted"),
    [(8, 1, 1.0, 2.0, True), (8, 4, 1.0, 2.0, False), (8, 4, 1.0, 1.0, True), (8, 4, 2.0, 1.0, False), (0, 0, 0, 0, 0)],
)
def test_the_mean_constructive_gain_must_exceed_z_standard_errors(fixes, regressions, z, penalty, accepted):
    n = 40
    found = decide(*outcome(fixes, regressions, n - fixes - regressions), z=z, penalty=penalty)
    gains = np.array([1.0] * fixes + [-penalty] * regressions + [0.0] * (n - fixes - regressions))
    assert found.gain == pytest.approx(gains.mean())
    assert found.standard_error == pytest.approx(gains.std() / math.sqrt(n))
    assert found.accepted == accepted
    assert (found.examples, found.fixes, found.regressions) == (n, fixes, regressions)


def test_without_examples_nothing_is_accepted():
    assert not decide(np.empty(0, bool), np.empty(0, bool), z=0.0, penalty=0.0).accepted


def test_only_examples_scored_for_both_models_are_paired():
    before = Evaluation(np.array([0.0, np.nan, 1.0]), np.array([False, False, True]), 1)
    now = Evaluation(np.array([1.0, 1.0, np.nan]), np.array([True, True, False]), 1)
    assert [found.tolist() for found in paired_correctness(before, now)] == [[False], [True]]
