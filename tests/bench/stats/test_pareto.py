import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import area_under_front, pareto_front, performance_profile, profile_interval

POINTS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=12)


def test_front_golden():
    costs, values = np.array([1.0, 2, 2, 3, 4, 4]), np.array([0.2, 0.5, 0.4, 0.5, 0.6, 0.6])
    assert pareto_front(costs, values).tolist() == [True, True, False, False, True, True]


@given(POINTS)
def test_the_front_has_the_points_that_no_point_dominates(points):
    costs, values = np.array(points, dtype=float).T

    def dominated(i):
        return any(
            c <= costs[i] and v >= values[i] and (c < costs[i] or v > values[i])
            for c, v in zip(costs, values, strict=True)
        )

    assert pareto_front(costs, values).tolist() == [not dominated(i) for i in range(len(points))]


def test_area_golden():
    # From 1 to 100: .2 over the first half of the logarithm, .6 over the second.
    assert area_under_front(np.array([1.0, 10]), np.array([0.2, 0.6]), 1, 100) == pytest.approx(0.4)
    assert area_under_front(np.array([10.0]), np.array([0.6]), 1, 100) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="range"):
        area_under_front(np.array([1.0]), np.array([0.6]), 1, 1)


@given(POINTS)
def test_the_area_depends_on_the_front_only_and_is_bounded_by_the_values(points):
    costs, values = np.array(points, dtype=float).T
    front = pareto_front(costs, values)
    area = area_under_front(costs, values, 1, 6)
    assert area == pytest.approx(area_under_front(costs[front], values[front], 1, 6))
    assert 0 <= area <= values.max() + 1e-9


@given(POINTS, st.integers(1, 5), st.integers(0, 5), st.booleans())
def test_points_that_another_one_dominates_or_that_lie_beyond_the_range_leave_the_area(points, cost, value, beyond):
    costs, values = np.array(points, dtype=float).T
    best = values[costs <= cost].max(initial=-1.0)
    more = (7.0, 1.0) if beyond else (cost, min(value, best))
    if more[1] >= 0:
        extended = area_under_front(np.append(costs, more[0]), np.append(values, more[1]), 1, 6)
        assert extended == pytest.approx(area_under_front(costs, values, 1, 6), rel=1e-12)


def test_profile_golden():
    accuracies = np.array([[0.5, 0.2, np.nan], [0.45, 0.3, 0.1]])
    profile = performance_profile(accuracies, np.array([0.0, 0.05, 0.1]))
    assert profile == pytest.approx(np.array([[1 / 3, 1 / 3, 2 / 3], [2 / 3, 1.0, 1.0]]))
    with pytest.raises(ValueError, match="task"):
        performance_profile(np.array([[np.nan]]), np.array([0.0]))


@given(st.integers(0, 2**32 - 1))
def test_profiles_do_not_decrease_and_each_task_has_a_winner(seed):
    accuracies = np.random.default_rng(seed).random((4, 5))
    profile = performance_profile(accuracies, np.linspace(0, 1, 11))
    assert (np.diff(profile, axis=1) >= 0).all()
    assert profile[:, 0].sum() >= 1 - 1e-9
    assert (profile[:, -1] == 1).all()


def test_the_interval_of_a_profile_golden():
    """Resampled, the first method has .4, .5 or .6 and the second always .45, so either can be the best one."""
    scores = [[np.array([0.4, 0.6])], [np.array([0.45, 0.45])]]
    low, high = profile_interval(scores, np.array([0.0, 0.2]))
    assert (low[:, 0] == 0).all()
    assert (high == 1).all()
    assert (low[:, 1] == 1).all()


def test_a_profile_of_single_seeds_and_failed_methods_has_no_variation():
    accuracies = np.array([[0.5, 0.2, np.nan], [0.45, 0.3, 0.1]])
    scores = [[np.array([a] if a == a else []) for a in row] for row in accuracies]
    margins = np.array([0.0, 0.05])
    for bound in profile_interval(scores, margins, resamples=50):
        assert bound == pytest.approx(performance_profile(accuracies, margins))
