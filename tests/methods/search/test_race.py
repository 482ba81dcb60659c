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
    """Candidates of different merit; the answer of one to one example is the same whenever it is asked."""

    def evaluate(self, point, split, *, examples=None, **rest):
        found = super().evaluate(point, split, examples=examples, **rest)
        if not found.complete:
            return found
        (index,) = point.amplitudes
        rng = np.random.default_rng([self.seed, index])
        correct = (rng.random(SIZES[split]) < rng.normal(0.3, 0.1))[examples.start : examples.stop]
        return Evaluation(correct.astype(np.float64), correct, found.flops)


def race(world, examples=range(200), racing=RACING, **rest):
    found = race_population(world, "population", draw, "support", examples, racing, budget=world.remaining, **rest)
    return found, world.report["racing"]


@pytest.mark.parametrize("evaluations", [256, 4096, 10_007])
def test_the_budget_is_spent_and_what_is_saved_buys_further_candidates(evaluations):
    world = Population(0, SIZES, evaluations)
    examples = range(8 if evaluations == 256 else 40)
    found, report = race(world, examples)
    assert world.budget - world.remaining >= 0.95 * world.budget
    assert len(found) == sum(report["cohorts"])
    assert report["evaluations"] == (world.budget - world.remaining) / 1000
    assert report["evaluations"] + report["saved"] == len(found) * len(examples)
    if len(examples) == 40:
        assert len(found) > 1.3 * evaluations // 40


def test_finalists_have_answered_everything_and_the_others_an_initial_part():
    found, report = race(Population(1, SIZES, 20_000))
    sizes = {c.evaluation.rewards.size for c in found if not c.finalist}
    assert {c.evaluation.rewards.size for c in found if c.finalist} == {200}
    assert sizes <= {25, 35, 50, 71, 100, 141}
    assert report["finalists"] == sum(c.finalist for c in found) >= len(found) // 10
    assert [c.displacement for c in found] == [draw(i) for i in range(len(found))]


def test_finalists_score_what_they_would_score_unraced():
    raced, _ = race(Population(2, SIZES, 20_000))
    world = Population(2, SIZES, 200 * len(raced))
    full = score_population(world, "population", draw, "support", range(200), budget=world.remaining)
    for candidate, reference in zip(raced, full, strict=False):
        asked = candidate.evaluation.rewards.size
        np.testing.assert_array_equal(candidate.evaluation.rewards, reference.evaluation.rewards[:asked])


def test_at_confidence_one_it_is_a_population_scored_in_full():
    found, report = race(Population(3, SIZES, 4000), racing=Racing(RACING.top, 1.0, RACING.values))
    assert report["saved"] == 0
    assert report["cohorts"] == [20]
    assert all(candidate.finalist for candidate in found)


def test_no_more_candidates_enter_than_the_limit():
    found, _ = race(Population(4, SIZES, 20_000), limit=30)
    assert len(found) == 30


def test_candidates_dearer_than_the_base_do_not_break_the_budget():
    class Rambling(Population):
        """Each answer of a candidate costs three times the base's."""

        def evaluate(self, point, split, *, examples, allowance, account):
            dear = 2 * 1000 * len(examples)
            if allowance < 3 * 1000 * len(examples):
                self.remaining -= allowance
                return Evaluation(np.empty(0), np.empty(0, bool), allowance, complete=False)
            found = super().evaluate(point, split, examples=examples, allowance=allowance, account=account)
            self.remaining -= dear
            return Evaluation(found.rewards, found.correct, found.flops + dear)

    world = Rambling(5, SIZES, 20_000)
    found, report = race(world)
    assert 0 <= world.remaining <= 0.05 * world.budget
    assert report["finalists"] >= len(found) // 10 > 0
