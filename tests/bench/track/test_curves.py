import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compute.ledger import Work
from bench.track.curves import POINTS, Curves, booking
from bench.track.interface import SPENT, STEP, TRAINED

NONE: dict[str, float] = {}


def price(work):
    return 10 * work.evaluations


def curves(budget=1000, after=NONE):
    return Curves(price, budget // 10, budget, after)


def scored(point, start, rewards, *, account="sample", complete=True, **more):
    key = {"score": f"support {start}", "point": point, "account": account, "prompt": "default"} | more
    return {"key": key, "value": {"rewards": rewards, "complete": complete, "work": {"evaluations": len(rewards)}}}


def points(each, entries):
    return [point for entry in entries for point in each.entry(entry)]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"prefetched": {}, "value": {"work": {"evaluations": 1}}}, None),
        ({"key": {"of answers": "judge"}, "value": {"found": []}}, None),
        ({"key": {"ended": [0, 3]}, "value": {"work": {"evaluations": 9}}}, None),
        ({"key": {"train": 0}, "value": {"work": {"evaluations": 2}}}, ("train", 2)),
        ({"key": {"train": 0, "trial": [0, 3]}, "value": {"work": {"evaluations": 2}}}, ("tune", 2)),
        ({"key": {"account": "gate"}, "value": {"work": {"evaluations": 2}}}, ("gate", 2)),
        ({"key": {"timed": 8}, "value": {"work": {"evaluations": 2}, "warm_up": {"evaluations": 3}}}, ("setup", 5)),
    ],
)
def test_an_entry_books_its_work_once(entry, expected):
    booked = booking(entry)
    assert booked == (expected and (expected[0], Work(evaluations=expected[1])))


def test_the_step_is_what_was_spent_in_evaluations_of_the_base():
    found = points(curves(), [scored("a", 0, [1.0, 0.0]), scored("b", 0, [1.0, 1.0])])
    assert [point.step for point in found] == [2, 4]
    assert [point.values[SPENT] for point in found] == [20, 40]
    assert found[-1].values["account/sample"] == 40
    assert all(point.values[STEP] == point.step for point in found)


def test_work_that_is_not_billed_has_a_curve_and_no_step():
    setup = {"key": {"account": "setup"}, "value": {"work": {"evaluations": 16}}}
    (point,) = points(curves(), [setup])
    assert (point.step, point.values["account/setup"]) == (0, 160)


def test_the_best_score_is_of_the_candidates_with_the_most_examples():
    each = curves()
    found = points(
        each,
        [
            scored("lucky", 0, [1.0]),
            scored("a", 0, [0.0, 1.0]),
            scored("b", 0, [0.0, 0.0]),
            scored("a", 2, [1.0, 1.0]),
            scored("stopped", 0, [], complete=False),
        ],
    )
    assert [point.values["support/score"] for point in found] == [1.0, 0.5, 0.0, 0.75]
    assert [point.values["support/best"] for point in found] == [1.0, 0.5, 0.5, 0.75]


def test_scores_of_trials_are_not_the_methods():
    (point,) = points(curves(), [scored("a", 0, [1.0], trial=[0, 1])])
    assert point.values.keys() == {STEP, SPENT, "account/tune"}


def test_a_row_has_the_digits_of_the_record_and_no_value_that_is_not_finite():
    (point,) = curves().row(50, {"step": 1.0, "reward": 1 / 3, "loss": None, "norm": math.nan})
    expected = {STEP: 5.0, TRAINED: 50, "training/step": 1.0, "training/reward": 0.333333, "training/best": 0.333333}
    assert point.values == expected


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(0, 3000))
def test_few_points_remain_and_the_last_is_among_them(costs, after):
    each = curves(budget=100 * POINTS, after={TRAINED: after})
    found, spent = [], 0
    for number, cost in enumerate(costs, start=1):
        spent += cost
        found += each.row(spent, {"step": float(number)})
    found += each.rest()
    flops = [point.values[TRAINED] for point in found]
    assert flops == sorted(flops)
    assert all(place > after for place in flops)
    assert all(next_ - this >= 100 for this, next_ in itertools.pairwise(flops[:-1]))
    if spent > after and costs:
        assert found[-1].values["training/step"] == len(costs)
