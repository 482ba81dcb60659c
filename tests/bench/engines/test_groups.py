"""Which jobs share a batch: a function of the announcements alone."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.engines.groups import TERMS, Groups, cut
from bench.engines.interface import Job, Sampling
from bench.weights.points import Point

SAMPLING = Sampling(max_new_tokens=3)


def job(seed, *, prompts=13, added=True, centre=0):
    point = Point({1000 + centre: 0.1}, "lowrank") if centre else Point()
    more = Point({seed: 0.1}, "lowrank")
    return Job(point, ((1, 2),) * prompts, SAMPLING, (), more if added else None)


@given(st.integers(1, 60), st.integers(1, 300), st.integers(1, 256), st.sampled_from(["cpu", "cuda"]))
def test_groups_divide_the_announced_jobs_evenly_in_their_order(count, prompts, batch, device):
    settings = {"batch_size": batch, "backend": "transformers", "device": device}
    groups, jobs = Groups(settings), [job(seed, prompts=prompts) for seed in range(count)]
    groups.announce(jobs)
    found = list(dict.fromkeys(groups.of(each) for each in jobs))
    assert [each for group in found for each in group] == jobs
    sizes = [len(group) for group in found]
    assert max(sizes) - min(sizes) <= 1
    assert len(found) <= min(count, max(len(cut(count * prompts, settings)), -(-count // TERMS)))
    assert max(sizes) <= TERMS
    if device == "cuda":  # groups fill a batch
        assert len(found) == 1 or sum(sizes[:2]) * prompts >= batch or len(found) == -(-count // TERMS)


@pytest.mark.parametrize(
    ("count", "prompts", "sizes"),
    [(32, 13, [4] * 8), (8, 13, [2] * 4), (16, 1, [8, 8]), (2, 200, [1, 1]), (4, 3, [4]), (1, 500, [1])],
)
def test_a_small_population_keeps_several_engines_of_a_cpu_busy(count, prompts, sizes):
    groups = Groups({"batch_size": 64, "backend": "transformers", "device": "cpu"})
    groups.announce(jobs := [job(seed, prompts=prompts) for seed in range(count)])
    assert [len(group) for group in dict.fromkeys(map(groups.of, jobs))] == sizes


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [(32, 64, [5, 5, 6, 5, 5, 6]), (16, 208, [16]), (32, 208, [16, 16]), (8, 64, [8]), (32, 256, [16, 16])],
)
def test_a_group_on_a_gpu_fills_a_batch(count, batch, sizes):
    groups = Groups({"batch_size": batch, "backend": "transformers", "device": "cuda"})
    groups.announce(jobs := [job(seed) for seed in range(count)])
    assert [len(group) for group in dict.fromkeys(map(groups.of, jobs))] == sizes


def test_a_job_keeps_its_group_while_it_stays_announced_and_new_ones_form_others():
    groups, jobs = Groups({"batch_size": 32}), [job(seed) for seed in range(48)]
    groups.announce(jobs[:32])
    before = [groups.of(each) for each in jobs[16:32]]
    groups.announce(jobs[16:])
    assert [groups.of(each) for each in jobs[16:32]] == before
    new = {each for one in jobs[32:] for each in groups.of(one)}
    assert new == set(jobs[32:])
    assert groups.of(jobs[0]) == (jobs[0],)  # it is no longer announced


def test_jobs_around_other_centres_and_jobs_that_move_are_in_other_groups():
    groups, other = Groups({"batch_size": 64}), job(1, centre=1)
    moved = job(3, added=False)
    groups.announce([job(1), job(2), other, moved])
    assert groups.of(job(1)) == groups.of(job(2)) == (job(1), job(2))
    assert groups.of(other) == (other,)
    assert groups.of(moved) == (moved,)


def test_a_job_from_another_process_is_found_among_those_made_here():
    # Without it, an engine in another process would not know the group of a job, as strings hash differently there.
    moved = Job(*job(1).__reduce__()[1])
    object.__setattr__(moved, "_hash", 1)
    assert hash(pickle.loads(pickle.dumps(moved))) == hash(job(1))
