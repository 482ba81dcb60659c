import pytest

from bench.weights.points import Point
from methods.corp.config import CorpConfig, make_schedule
from methods.corp.run import CorpRun, Proposal, by_priority
from methods.testing import FLOPS, CoinFlips

SIZES = {"support": 24, "select": 120}
EVALUATIONS = 12_000


@pytest.fixture
def start():
    def start(*, effect=0.0):
        config = CorpConfig()
        context = CoinFlips(0, SIZES, EVALUATIONS, effect=effect)
        run = CorpRun(context, config, make_schedule(EVALUATIONS, SIZES, config))
        assert run.prepare_decisions("stage 2")
        return run

    return start


def proposals(count):
    return [Proposal(Point({seed: 1.0}), {"seed": float(seed)}) for seed in range(1, count + 1)]


def commit(run, proposal):
    point = run.point + proposal.displacement
    return run.commit_if_better("stage 2, round 1", proposal, run.select(point))


def test_the_choice_is_the_first_best_proposal_and_nan_rules_one_out(start):
    run = start()
    scores = iter([0.2, float("nan"), 0.7, 0.7, 0.1])
    found = {}

    def criterion(evaluation):
        if id(evaluation) not in found:
            found[id(evaluation)] = (next(scores), evaluation)
        return found[id(evaluation)][0]

    proposal, evaluation = run.choose(proposals(5), run.flops(EVALUATIONS), "choice", 5, criterion)
    assert proposal.origin == {"seed": 3.0}
    assert found[id(evaluation)][0] == 0.7


def test_the_choice_ends_with_its_budget(start):
    run = start()
    before = run.context.remaining
    run.choose(proposals(9), 3 * run.schedule.select * FLOPS, "choice", 9, lambda evaluation: evaluation.reward)
    assert before - run.context.remaining == 3 * run.schedule.select * FLOPS
    assert run.choose([], run.flops(100), "choice", 0, lambda evaluation: evaluation.reward) is None


def test_a_better_model_is_committed_and_the_next_step_starts_there(start):
    run = start(effect=0.45)
    (proposal,) = proposals(1)
    assert commit(run, proposal)
    assert run.point == proposal.displacement
    assert run.decided.correct.mean() > 0.8
    (entry,) = run.report["stages"]
    assert (entry["stage"], entry["committed"], entry["proposal"]) == ("stage 2, round 1", True, proposal.origin)


def test_a_worse_model_is_not_committed_and_the_current_one_stays(start):
    run = start(effect=-0.4)
    decided, selected = run.decided, run.selected
    assert not commit(run, *proposals(1))
    assert run.point.is_base
    assert (run.decided, run.selected) == (decided, selected)
    assert "does not exceed" in run.report["stages"][0]["reason"]


def test_the_examples_that_decide_are_not_those_that_choose(start):
    run = start()
    asked = []
    run.context.evaluate = lambda point, split, *, examples, **_: asked.append((split, examples)) or run.decided
    run.select(Point({1: 1.0}))
    run.prepare_decisions("stage 2")
    (_, chooses), (_, decides) = asked
    assert {split for split, _ in asked} == {"select"}
    assert not set(chooses) & set(decides)


def test_a_proposal_that_costs_too_much_at_the_decision_is_not_committed(start):
    run = start(effect=0.45)
    run.context.remaining = run.schedule.select * FLOPS + 1
    assert not commit(run, *proposals(1))
    assert run.point.is_base
    assert "more than 1.25 times the FLOPs" in run.report["stages"][0]["reason"]


def test_the_first_points_combine_the_first_entries_of_every_axis():
    points = by_priority(8, (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), (5.0, 6.0, 7.0))
    assert len(set(points)) == len(points) == 27
    first = points[:8]
    assert set(first) == {(q, b, a) for q in (1.0, 2.0) for b in (10.0, 20.0) for a in (5.0, 6.0)}
    assert [point[:2] for point in first] == sorted(point[:2] for point in first)
