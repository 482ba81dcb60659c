import numpy as np
import pytest

from bench.weights.points import Point
from methods.interface import Evaluation
from methods.search.population import score_population
from methods.search.race import Racing, race_population
from methods.testing import CoinFlips

SIZES = {"support": 200, "select": 10, "gate": 10}
RACING = Racing(lambda size: size // 10, 0.95, lambda evaluation: evaluation.rewards)


def draw(index):
    return Point({index: 1.0})


class Population(CoinFlips):
    """Candidates of different merit. A candidate always gives the same answer to the same example."""

    def evaluate(self, point, split, *, examples=None, **rest):
        found = super().evaluate(point, split, examples=examples, **rest)
        if not found.complete:
            return found
        (index,) = point.amplitudes
        rng = np.random.default_rng([self.seed, index])
        correct = (rng.random(SIZES[split]) < rng.normal(0.3, 0.1))[examples.start : examples.stop]
        return Evaluation(correct.astype(np.float64), correct, found.flops)


def race(context, examples=range(200), racing=RACING, **rest):
    found = race_population(context, "population", draw, "support", examples, racing, budget=context.remaining, **rest)
    return found, context.report["racing"]


@pytest.mark.parametrize("evaluations", [256, 4096, 10_007])
def test_the_budget_is_spent_and_savings_buy_further_candidates(evaluations):
    context = Population(0, SIZES, evaluations)
    examples = range(8 if evaluations == 256 else 40)
    found, report = race(context, examples)
    assert context.budget - context.remaining >= 0.95 * context.budget
    assert len(found) == sum(report["cohorts"])
    assert report["evaluations"] == (context.budget - context.remaining) / 1000
    assert report["evaluations"] + report["saved"] == len(found) * len(examples)
    if len(examples) == 40:
        assert len(found) > 1.3 * evaluations // 40


def test_finalists_are_scored_on_all_examples_and_others_on_the_first_slices():
    found, report = race(Population(1, SIZES, 20_000))
    sizes = {c.evaluation.rewards.size for c in found if not c.finalist}
    assert {c.evaluation.rewards.size for c in found if c.finalist} == {200}
    assert sizes <= {25, 35, 50, 71, 100, 141}
    assert report["finalists"] == sum(c.finalist for c in found) >= len(found) // 10
    assert [c.displacement for c in found] == [draw(i) for i in range(len(found))]


def test_racing_does_not_change_a_candidates_rewards():
    raced, _ = race(Population(2, SIZES, 20_000))
    context = Population(2, SIZES, 200 * len(raced))
    full = score_population(context, "population", draw, "support", range(200), budget=context.remaining)
    for candidate, reference in zip(raced, full, strict=False):
        scored = candidate.evaluation.rewards.size
        np.testing.assert_array_equal(candidate.evaluation.rewards, reference.evaluation.rewards[:scored])


def test_at_confidence_one_the_population_is_scored_in_full():
    found, report = race(Population(3, SIZES, 4000), racing=Racing(RACING.top, 1.0, RACING.values))
    assert report["saved"] == 0
    assert report["cohorts"] == [20]
    assert all(candidate.finalist for candidate in found)


def test_the_limit_bounds_the_population():
    found, _ = race(Population(4, SIZES, 20_000), limit=30)
    assert len(found) == 30


def test_candidates_that_cost_more_than_the_base_do_not_exceed_the_budget():
    class Expensive(Population):
        """Each answer of a candidate costs three times as much as the base's."""

        def evaluate(self, point, split, *, examples, allowance, account):
            extra = 2 * 1000 * len(examples)
            if allowance < 3 * 1000 * len(examples):
                self.remaining -= allowance
                return Evaluation(np.empty(0), np.empty(0, bool), allowance, complete=False)
            found = super().evaluate(point, split, examples=examples, allowance=allowance, account=account)
            self.remaining -= extra
            return Evaluation(found.rewards, found.correct, found.flops + extra)

    context = Expensive(5, SIZES, 20_000)
    found, report = race(context)
    assert 0 <= context.remaining <= 0.05 * context.budget
    assert report["finalists"] >= len(found) // 10 > 0
