import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.training.divergence import curve, divergence, next_cost


def rows(rewards, **fields):
    return [{"reward": reward, "length": 4.0, "loss": 0.1} | fields for reward in rewards]


def test_the_next_step_is_expected_to_cost_the_maximum_so_far():
    assert next_cost([]) == 0
    assert next_cost([5, 9, 7]) == 9


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_value_is_divergence(value):
    reason = divergence([*rows([0.5]), {"reward": 0.5, "length": 4.0, "loss": value}], 64)
    assert reason == f"loss is {value} at step 2"


def test_a_collapsed_reward_is_divergence_and_a_lower_one_is_not():
    assert "mean reward fell from 0.5 to 0" in divergence(rows([0.5] * 10 + [0.0] * 10), 64)
    assert divergence(rows([0.5] * 10 + [0.2] * 10), 64) is None
    assert divergence(rows([0.5] * 10 + [0.0] * 9), 64) is None  # too few steps to tell
    assert divergence(rows([0.5] * 10 + [0.0] * 10), 8) is None  # too few answers
    assert divergence(rows([0.0] * 40), 64) is None  # the initial reward is zero


def test_a_collapsed_length_is_divergence():
    collapsed = rows([0.5] * 10) + [row | {"length": 0.5} for row in rows([0.5] * 10)]
    assert "mean length fell from 4 to 0.5" in divergence(collapsed, 64)


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 20))
def test_a_curve_has_at_most_the_given_number_of_points_and_covers_all_steps(rewards, points):
    columns = curve(rows(rewards), points)
    if not rewards:
        assert columns == {}
        return
    assert len(columns["reward"]) == len(columns["step"]) <= points
    assert columns["step"][-1] == len(rewards)
    if len(rewards) <= points:
        assert columns["reward"] == pytest.approx(rewards, abs=1e-5)


def test_a_curve_has_none_for_a_non_finite_value():
    assert curve(rows([0.5, math.nan]))["reward"] == [0.5, None]
