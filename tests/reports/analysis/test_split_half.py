from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.weights.cloud import halve, halve_examples, make_cloud
from methods.corp import consolidate
from methods.corp.consolidation import consolidate_gram
from reports.analysis.population import Moved, Population
from reports.analysis.split_half import Half, Measured, against_null, compare_halves, split_half, transfer


def test_a_cloud_is_that_of_corps_consolidation():
    rng = np.random.default_rng(0)
    vectors, rewards = rng.standard_normal((40, 100)), rng.random(40)
    gram = vectors @ vectors.T
    ours = make_cloud(rewards, gram, 5)
    theirs = consolidate_gram(rewards, gram, q=0.5, beta=1 / rewards.std(), rank=5, reweight=False)
    np.testing.assert_array_equal(ours.elite, theirs.elite)
    np.testing.assert_allclose(ours.weights, theirs.pass2)
    assert ours.norm == pytest.approx(theirs.norm)
    assert ours.effective_sample_size == pytest.approx(theirs.effective_sample_size)
    mine, others = ours.principal @ vectors[ours.elite], theirs.principal @ vectors[theirs.elite]
    np.testing.assert_allclose(mine @ mine.T, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(np.linalg.svd(mine @ others.T)[1], 1, atol=1e-9)


def test_equal_rewards_give_equal_weights():
    cloud = make_cloud(np.ones(6), np.eye(6), 2)
    np.testing.assert_allclose(cloud.weights, 1 / 6)
    assert cloud.norm == pytest.approx(consolidate(np.ones(6), np.ones(6), q=0.5, beta=0.0).norm)


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=40))
def test_halves_share_every_scale_evenly(sigmas):
    scales = np.array(sigmas)
    first = halve(scales)
    for sigma in set(sigmas):
        ours = first[scales == sigma]
        assert int(ours.sum()) == -(-ours.size // 2)
    one, two = halve_examples(len(sigmas))
    assert [*one, *two] == list(range(len(sigmas)))


def test_a_half_overlaps_completely_with_itself():
    rng = np.random.default_rng(1)
    rewards, gram = rng.random(30), np.diag(rng.random(30) + 1)
    half = Half(rewards, np.ones(30), gram)
    found = compare_halves(half, half, gram, rank=3, permutations=99)
    assert found.subspace.value == pytest.approx(1)
    assert found.mean.value == pytest.approx(1)
    assert found.mean.p_value == 0.01


def test_scale_alone_is_no_structure():
    # Far candidates do worse in both halves, and nothing else differs. Permuting within scales changes nothing.
    sigmas = np.repeat([1.0, 2.0], 20)
    half = Half(np.repeat([0.9, 0.1], 20), sigmas, np.diag(sigmas**2))
    found = compare_halves(half, half, half.gram, rank=2, permutations=19)
    assert found.mean.p_value == 1
    assert found.subspace.p_value == 1


def test_halves_of_the_wrong_shape_are_refused():
    half = Half(np.arange(8.0), np.ones(8), np.eye(8))
    with pytest.raises(ValueError, match=r"cross has shape \(8, 7\)"):
        compare_halves(half, half, np.ones((8, 7)), rank=1)
    small = Half(np.arange(3.0), np.ones(3), np.eye(3))
    with pytest.raises(ValueError, match="each half needs 4"):
        compare_halves(small, small, np.eye(3), rank=1)


def test_a_value_is_compared_with_the_null():
    null = np.arange(99.0)
    found = against_null(94.0, null)
    assert found.p_value == pytest.approx(6 / 100)
    assert found.null_mean == pytest.approx(49)
    assert found.edges == (0, 98)
    assert sum(found.counts) == 99
    assert against_null(200.0, null).p_value == 0.01
    assert against_null(-1.0, null).p_value == 1


def _measured(rng, moved, count=9):
    return Measured(np.zeros(20, bool), np.arange(20) < moved, rng.random((count, 20)) < 0.3)


def test_a_step_is_ranked_among_the_random_steps_of_both_halves():
    rng = np.random.default_rng(2)
    best = transfer(1.0, _measured(rng, 20), _measured(rng, 20))
    assert best.p_value == pytest.approx(1 / 100)  # the best of ten in both halves
    assert (best.moved, best.base, best.randoms, best.examples) == (1.0, 0.0, 9, 40)
    assert best.gain.low > 0.8
    assert best.excess.value == pytest.approx(1 - best.random)
    assert transfer(1.0, _measured(rng, 0), _measured(rng, 0)).p_value == 1


def test_the_rank_of_a_step_is_uniform_if_directions_are_random():
    rng = np.random.default_rng(3)

    def random():
        # All directions are alike; items differ in difficulty.
        odds = rng.random(20)
        answers = rng.random((10, 20)) < odds
        return Measured(np.zeros(20, bool), answers[0], answers[1:])

    p_values = np.array([transfer(1.0, random(), random()).p_value for _ in range(600)])
    for level in (0.05, 0.2, 0.5):
        share = (p_values <= level).mean()
        assert share <= level + 3 * np.sqrt(level * (1 - level) / 600)
        assert share >= 0.3 * level  # apart from ties, the test has its full power


def test_candidates_and_examples_are_split_and_steps_measured_on_the_other_half():
    rng = np.random.default_rng(4)
    sigmas, correct = np.tile([1.0, 2.0], 12), rng.random((24, 11)) < 0.5
    base = np.arange(11) < 5
    steps = (Moved(2.0, range(5, 11), np.ones(6, bool)), Moved(2.0, range(5), np.zeros(5, bool)))
    alone = Moved(1.0, range(5), np.ones(5, bool))
    population = Population(sigmas, correct.astype(float), correct, base, None, "iid", (*steps, alone))
    found = split_half(population, rng.standard_normal((24, 50)), rank=2, permutations=19)
    assert found.examples == (5, 6)
    assert found.reproduced.candidates == (24, 24)
    assert found.reproduced.dimensions is None
    assert found.shared.candidates == (12, 12)
    assert found.shared.dimensions == 50
    (step,) = found.transfer  # one half is missing for the other length
    assert (step.sigma, step.randoms, step.base, step.moved) == (2.0, 6, 5 / 11, 6 / 11)
    first = halve(sigmas) & (sigmas == 2)
    random = np.r_[correct[first][:, :5].sum(), correct[~halve(sigmas) & (sigmas == 2)][:, 5:].sum()].sum() / 66
    assert step.random == pytest.approx(random)


def test_notes_say_what_was_left_out_without_seeds_or_steps():
    correct = np.random.default_rng(5).random((10, 6)) < 0.5
    population = Population(np.ones(10), correct.astype(float), correct, None, None, "iid", ())
    found = split_half(population, None, rank=2, permutations=9)
    assert found.shared is None
    assert "this version draws other seeds" in found.notes[0]
    assert "bench run -m landscape" in found.notes[1]
    with_seeds = split_half(replace(population, seeds=tuple(range(10))), None, rank=2, permutations=9)
    assert with_seeds.notes == found.notes[1:]
