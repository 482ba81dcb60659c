"""Answers of candidates that share a batch, by a stand-in for an engine whose answers depend on the batch."""

import pytest

from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.compute.profile import ComputeProfile
from bench.engines.interface import Completion, Job, Sampling
from bench.engines.pool import run_job
from bench.engines.shared import SharedBatches
from bench.weights.points import Point

PROFILE = ComputeProfile(100, 10)
JOBS = [Job(Point(), ((1,),), Sampling(max_new_tokens=4), (), Point({seed: 0.1}, "lowrank")) for seed in range(1, 5)]
TOGETHER, ALONE = Work(decode_tokens=11), Work(decode_tokens=10)


class Batches:
    """Answers with one token more in a group than alone, as engines may in half precision."""

    profile = PROFILE

    def __init__(self) -> None:
        self.shared = SharedBatches(PROFILE, {"batch_size": 64}, self._answer)
        self.shared.announce(JOBS)
        self.answered: list[int] = []

    def _answer(self, jobs, meters):
        self.answered.append(len(jobs))
        for meter in meters:
            meter.reserve(ALONE if len(jobs) == 1 else TOGETHER)
        return [[Completion(f"of {len(jobs)}", (1,), 1, "stop")] for _ in jobs]

    def move_to(self, point):
        assert point == Point()

    def generate(self, prompts, sampling, meter, end_rules, added):
        return self.shared.request(Job(Point(), prompts, sampling, end_rules, added), meter)


def flops(work):
    return Meter(PROFILE).flops(work)


def test_a_group_is_computed_once_and_each_job_is_booked_when_it_is_requested():
    engine, meter = Batches(), Meter(PROFILE)
    with meter.account("sample"):
        for number, job in enumerate(JOBS, 1):
            assert [each.text for each in engine.shared.request(job, meter)] == ["of 4"]
            assert meter.opened == Work(decode_tokens=11 * number)
    assert engine.answered == [4]


@pytest.mark.parametrize("limit", [flops(TOGETHER) - 1, flops(ALONE)])
def test_a_limit_ends_a_job_and_never_changes_its_answers(limit):
    engine, meter = Batches(), Meter(PROFILE)
    with meter.account("sample", limit), pytest.raises(AllowanceSpent):
        engine.shared.request(JOBS[0], meter)
    found = run_job(Batches(), JOBS[0], limit)
    assert found.completions is None
    assert found.refused == TOGETHER


def test_a_job_that_a_smaller_limit_ended_is_answered_in_its_group_under_a_larger_one():
    engine = Batches()
    assert run_job(engine, JOBS[0], flops(ALONE)).completions is None
    again = run_job(engine, JOBS[0], flops(TOGETHER))
    assert [each.text for each in again.completions] == ["of 4"]
    assert engine.answered == [4, 1]
