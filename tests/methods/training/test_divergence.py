import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.training.curve import COLUMNS, curve
from methods.training.divergence import collapse, divergence, next_cost


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


def test_a_step_where_nothing_was_judged_has_no_value():
    unjudged = {"reward": None, "length": 4.0, "loss": 0.1}
    assert curve([*rows([0.5]), unjudged])["reward"] == [0.5, None]
    assert curve([*rows([0.5]), unjudged], points=1)["reward"] == [0.5]
    assert divergence([*rows([0.5] * 10), *[unjudged] * 10], 64) is None


def test_steps_may_have_different_columns():
    sampled, trained = {"reward": 0.5, "length": 4.0}, {"loss": 0.1}
    columns = {
        "step": [1.0, 2.0, 3.0],
        "reward": [0.5, None, 0.5],
        "length": [4.0, None, 4.0],
        "loss": [None, 0.1, None],
    }
    assert curve([sampled, trained, sampled]) == columns
    assert curve([sampled, trained, sampled], points=2) == {
        "step": [2.0, 3.0], "reward": [0.5, 0.5], "length": [4.0, 4.0], "loss": [0.1, None]
    }  # fmt: skip
    fallen = [*[sampled, trained] * 10, *[sampled | {"reward": 0.0}, trained] * 10]
    assert divergence(fallen, 64) == "mean reward fell from 0.5 to 0 by step 40"


def test_the_documentation_explains_every_column_in_the_same_words():
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    assert [f"| `{name}` | {text} |" for name, text in COLUMNS.items()] == [
        line for line in page.partition("## The curve")[2].partition("The run ends")[0].splitlines() if "| `" in line
    ]


def test_a_lasting_collapse_is_told_with_its_first_step_at_any_length():
    healthy = {"reward": 0.5, "length": 3.0, "truncated": 0.1, "entropy": 0.8, "flat": 0.2}
    for fields, sign in (
        ({"flat": 1.0}, "all answers to each prompt have equal rewards"),
        ({"entropy": 0.0}, "sampling has no entropy"),
        ({"length": 1.0, "truncated": 0.0}, "all answers end at their first token"),
        ({"truncated": 1.0}, "all answers are cut off at the limit"),
    ):
        assert collapse([healthy] * 2 + [healthy | fields] * 3) == f"{sign} since step 3 of 5"
        assert collapse([healthy | fields] * 2) == f"{sign} since step 1 of 2"
        assert collapse([healthy] * 2 + [healthy | fields] * 2) is None
        assert collapse([healthy | fields] * 3 + [healthy]) is None
    assert collapse([]) is None


def test_neither_entropy_nor_reward_is_divergence_at_any_length():
    healthy, dead = {"reward": 0.5, "entropy": 0.8}, {"reward": 0.0, "entropy": 0.0}
    assert divergence([healthy, dead, dead, dead], 8) == "reward and entropy are 0 since step 2"
    assert divergence([healthy, dead, dead], 8) is None
    assert divergence([healthy, *[dead | {"reward": 1.0}] * 3], 8) is None  # a model that learned the task
    assert divergence([dead] * 3, 8) is None  # a base without entropy that never had a reward
