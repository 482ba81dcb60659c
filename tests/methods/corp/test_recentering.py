import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.weights.noise import Noise
from bench.weights.points import Point, gram
from methods.corp import consolidate
from methods.corp.recentering import (
    PrincipalDirections,
    cloud_of_positives,
    constructive,
    ess_target,
    local_displacement,
    next_isotropic,
    weights_for_ess,
)


def test_the_low_rank_part_carries_its_share_of_the_energy():
    cloud = PrincipalDirections((Point({1: 1.0}), Point({2: 1.0})), (3e-6, 1e-6))
    rng = np.random.default_rng(0)
    sigma, isotropic = 1e-3, 0.3
    energies = []
    for seed in range(4000):
        point = local_displacement(seed + 10, cloud, rng.standard_normal(2), sigma=sigma, isotropic=isotropic)
        assert point.amplitudes[seed + 10] == pytest.approx(sigma * np.sqrt(isotropic))
        energies.append([point.amplitudes.get(1, 0) ** 2, point.amplitudes.get(2, 0) ** 2])
    first, second = np.mean(energies, axis=0)
    assert first + second == pytest.approx((1 - isotropic) * sigma**2, rel=0.05)
    assert first / second == pytest.approx(3.0, rel=0.15)


def test_as_released_the_low_rank_part_is_scaled_by_the_standard_deviation_of_the_cloud():
    variances = (3e-6, 1e-6)
    cloud = PrincipalDirections((Point({1: 1.0}), Point({2: 1.0})), variances)
    normals = np.array([0.7, -1.3])
    matched = local_displacement(9, cloud, normals, sigma=1e-3, isotropic=0.3)
    released = local_displacement(9, cloud, normals, sigma=1e-3, isotropic=0.3, low_rank_energy="as_released")
    assert released.amplitudes[9] == matched.amplitudes[9]
    for seed, variance, normal in zip((1, 2), variances, normals, strict=True):
        assert released.amplitudes[seed] == pytest.approx(1e-3 * np.sqrt(0.7 * variance) * normal)
        assert released.amplitudes[seed] / matched.amplitudes[seed] == pytest.approx(np.sqrt(sum(variances)))


def test_without_directions_all_energy_is_isotropic():
    assert local_displacement(5, PrincipalDirections((), ()), np.empty(0), sigma=0.1, isotropic=0.3) == Point({5: 0.1})


def test_local_noise_is_of_the_configured_kind():
    tied = Noise("tied")
    cloud = PrincipalDirections((Point({1: 1.0}, noise=tied),), (1e-6,))
    for around in (cloud, PrincipalDirections((), ())):
        point = local_displacement(5, around, np.ones(len(around.directions)), sigma=0.1, isotropic=0.3, noise=tied)
        assert point.noise == tied


def test_cloud_directions_have_unit_length():
    displacements = [Point({seed: 1e-3 * (1 + seed % 3)}) for seed in range(12)]
    rewards = np.linspace(0, 1, 12)
    consolidation = consolidate(rewards, [p.norm for p in displacements], q=0.5, beta=5.0, rank=4)
    cloud = PrincipalDirections.of(consolidation, displacements)
    np.testing.assert_allclose(gram(cloud.directions), np.eye(4), atol=1e-6)
    assert list(cloud.variances) == sorted(cloud.variances, reverse=True)


def test_constructive_counts_regressions_twice():
    before, now = np.array([0, 0, 0, 1, 1], bool), np.array([1, 1, 0, 0, 1], bool)
    assert constructive(before, now, penalty=2.0) == pytest.approx(0.0)
    assert constructive(before, now, penalty=1.0) == pytest.approx(0.2)
    assert np.isnan(constructive(np.empty(0, bool), np.empty(0, bool), penalty=1.0))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60, unique=True), st.floats(1.5, 20))
@example([0.03125 * i for i in range(20)], float(np.nextafter(20, 0)))
def test_weights_meet_the_effective_sample_size(scores, target):
    scores = np.array(scores)
    weights = weights_for_ess(scores, target)
    assert weights.sum() == pytest.approx(1.0)
    size = 1 / np.square(weights).sum()
    if scores.size <= target:
        np.testing.assert_allclose(weights, 1 / scores.size)
    elif np.sort(scores)[-1] - np.sort(scores)[-2] > 1e-3 * np.ptp(scores):
        assert size == pytest.approx(target, rel=1e-3)


def test_ties_at_the_top_share_the_weight():
    weights = weights_for_ess(np.array([1.0, 1.0, 1.0, 0.0]), 2.0)
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(weights_for_ess(np.ones(5), 2.0), 0.2)


def test_effective_sample_size_falls_geometrically():
    assert [ess_target(i, 3, 16, 4) for i in range(3)] == pytest.approx([16, 8, 4])
    assert ess_target(0, 1, 16, 4) == 16


def test_success_makes_the_search_less_isotropic():
    assert next_isotropic(0.5, 1.0) == pytest.approx(0.5 * 0.5 + 0.5 * 0.15)
    assert next_isotropic(0.5, 0.0) == pytest.approx(0.5 * 0.5 + 0.5 * 0.95)
    assert 0.05 <= next_isotropic(0.05, 1.0) <= 0.95


def test_cloud_of_positives_ignores_the_rest():
    displacements = [Point({seed: 1.0}) for seed in range(6)]
    scores = np.array([0.2, -0.1, 0.1, 0.0, 0.3, -0.4])
    cloud = cloud_of_positives(displacements, scores, gram(displacements), target=3, rank=8)
    assert {seed for d in cloud.directions for seed in d.amplitudes} == {0, 2, 4}
    assert len(cloud.directions) == 2
    np.testing.assert_allclose(gram(cloud.directions), np.eye(2), atol=1e-9)
    assert cloud_of_positives(displacements, -np.ones(6), gram(displacements), target=3, rank=8) is None
