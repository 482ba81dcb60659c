from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import PositiveFloat, PositiveInt, ValidationError

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.weights.points import Point
from methods.interface import Evaluation, MethodConfig
from methods.search.population import LOOKAHEAD, Several, next_allowance, score_population
from methods.testing import FLOPS, CoinFlips

SIZES = {"support": 40, "select": 10, "gate": 10}
SHAPE = ModelShape(
    layers=1, hidden_size=2, heads=1, kv_heads=1, head_dim=2, intermediate_size=2, vocab_size=2, tied=True
).profile()
TOKEN = Meter(SHAPE).flops(Work(prefill_tokens=1))


class Recorder(CoinFlips):
    """Context that logs announcements and evaluations, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log: list[tuple[str, int]] = []
        self.evaluated: list[Point] = []

    def prepare(self, points, split, *, examples):
        self.log.append(("prepare", len(points)))

    def evaluate(self, point, split, **rest):
        self.log.append(("evaluate", len(rest["examples"])))
        self.evaluated.append(point)
        return super().evaluate(point, split, **rest)


class Metered(CoinFlips):
    """Context that books a candidate with a real meter: first its prompts, then its answer tokens one by one."""

    def __init__(self, meter: Meter, answers: list[int]) -> None:
        super().__init__(0, SIZES, 1)
        self.meter, self.answers, self.budget = meter, iter(answers), meter.limit
        self.evaluation_flops = float(TOKEN)

    @property
    def remaining(self):
        return self.meter.remaining

    @remaining.setter
    def remaining(self, value):
        pass

    def evaluate(self, point, split, *, account, examples, allowance):
        with self.meter.account(account, allowance):
            try:
                self.meter.reserve(Work(prefill_tokens=len(examples)))
                for _ in range(next(self.answers)):
                    self.meter.reserve(Work(decode_tokens=1))
            except AllowanceSpent:
                return Evaluation(np.empty(0), np.empty(0, bool), self.meter.flops(self.meter.opened), complete=False)
        return Evaluation(np.zeros(1), np.zeros(1, bool), self.meter.flops(self.meter.opened))


def single(index: int) -> Point:
    return Point({index: 1e-3})


@given(st.integers(1, 2000), st.integers(1, 40))
def test_less_than_the_cost_of_two_candidates_stays_unspent(evaluations: int, size: int) -> None:
    context = CoinFlips(0, SIZES, evaluations)  # raises if it is exceeded
    found = score_population(context, "population", single, "support", range(size), budget=context.budget)
    assert len(found) >= evaluations // size - 1
    assert context.remaining < 2 * size * FLOPS


@pytest.mark.slow
@given(st.integers(20, 2000), st.lists(st.integers(0, 60), min_size=500, max_size=500))
def test_candidates_of_any_cost_never_trip_the_meter(tokens: int, answers: list[int]) -> None:
    meter = Meter(SHAPE, tokens * TOKEN)
    context = Metered(meter, [min(n, tokens - 20) for n in answers])
    found = score_population(context, "population", single, "support", range(20), budget=context.budget)
    assert not meter.tripped
    assert found


def test_the_budget_of_a_population_is_spent_on_whole_candidates() -> None:
    context = CoinFlips(0, SIZES, 1000)
    assert len(score_population(context, "population", single, "support", range(10), budget=105 * FLOPS)) == 10


def test_a_limit_ends_the_population() -> None:
    context = Recorder(0, SIZES, 1000)
    found = score_population(context, "population", single, "support", range(10), budget=context.budget, limit=7)
    assert [candidate.displacement for candidate in found] == [single(i) for i in range(7)]
    assert context.remaining == 930 * FLOPS


def test_a_candidate_that_exceeds_the_budget_is_cut_off_billed_and_left_out() -> None:
    class Expensive(CoinFlips):
        def evaluate(self, point, split, *, allowance, **rest):
            if single(5) == point:
                self.remaining -= allowance
                return Evaluation(np.empty(0), np.empty(0, bool), allowance, complete=False)
            return super().evaluate(point, split, allowance=allowance, **rest)

    context = Expensive(0, SIZES, 1000)
    found = score_population(context, "population", single, "support", range(10), budget=500 * FLOPS)
    assert len(found) == 5
    assert context.remaining == 500 * FLOPS


def test_candidates_are_announced_ahead_and_never_beyond_the_limit() -> None:
    context = Recorder(0, SIZES, 10 * (LOOKAHEAD + 5))
    score_population(
        context,
        "population",
        single,
        "support",
        range(10),
        budget=context.budget,
        place=Point({-1: 1.0}).__add__,
        limit=36,
    )
    half = LOOKAHEAD // 2
    assert [entry for entry in context.log if entry[0] == "prepare"] == [("prepare", LOOKAHEAD), ("prepare", half + 4)]
    assert context.log[0][0] == "prepare"
    assert context.log[1 + half][0] == "prepare"
    assert context.evaluated[3] == Point({-1: 1.0, 3: 1e-3})


@example(evaluations=10, size=11)  # the first candidate is started, and cut off
@given(evaluations=st.integers(10, 1000), size=st.integers(1, 20))
def test_no_more_candidates_are_announced_than_the_budget_buys(evaluations: int, size: int) -> None:
    context = Recorder(0, SIZES, evaluations)
    found = score_population(context, "population", single, "support", range(size), budget=context.budget)
    requested = 0
    for kind, *rest in context.log:
        if kind == "prepare":
            assert requested + rest[0] <= max(1, evaluations // size)
        else:
            requested += 1
    assert requested == max(1, evaluations // size)
    assert len(found) == evaluations // size


def test_the_first_evaluation_always_starts_unless_the_budget_is_empty() -> None:
    assert next_allowance(5, 5, []) == 5
    assert next_allowance(0, 5, []) == 0


@pytest.mark.parametrize(
    ("budget", "remaining", "allowance"),
    [
        (30, 100, 10),  # 20 are spent; the rest covers the mean
        (29, 100, 0),
        (30, 18, 10),
        (99, 18, 18),
        (99, 9, 0),
    ],
)
def test_an_evaluation_starts_if_the_rest_covers_the_mean_cost(budget: int, remaining: int, allowance: int) -> None:
    assert next_allowance(budget, remaining, [8, 12]) == allowance


class Settings(MethodConfig):
    sizes: Several[PositiveInt] = (1, 5)
    scales: Several[PositiveFloat] = (0.1,)


@pytest.mark.parametrize("value", [5, "5", [5], (5,), "5,"])
def test_a_single_value_is_a_tuple_of_one(value: object) -> None:
    assert Settings(sizes=value).sizes == (5,)


def test_text_is_split_at_commas() -> None:
    assert Settings(sizes="1, 5,10").sizes == (1, 5, 10)
    assert Settings(scales=".002,1e-2").scales == (0.002, 0.01)


@pytest.mark.parametrize("value", ["", "1,zero", "1,-5", -5, None])
def test_invalid_lists_of_values_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="sizes"):
        Settings(sizes=value)
