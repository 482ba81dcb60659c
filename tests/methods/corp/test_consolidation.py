import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.weights.cloud import weighted_cloud
from methods.corp import consolidate
from methods.corp.consolidation import consolidate_gram

populations = st.integers(2, 24).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.floats(0, 1)),
        arrays(np.float64, n, elements=st.sampled_from([5e-4, 1e-3, 2e-3])),
    )
)
quantiles = st.sampled_from([0.0, 0.5, 0.7, 0.9, 1.0])
betas = st.sampled_from([0.0, 0.5, 5.0, 50.0])


def explicit(rewards, sigmas, q, beta):
    """Compute the formulas independently, on explicit vectors of an orthonormal basis, by SVD."""
    deltas = np.diag(sigmas)
    elite = np.flatnonzero(rewards >= np.quantile(rewards, q))
    deltas, r = deltas[elite], rewards[elite]
    w = np.exp(beta * (r - r.max()))
    w /= w.sum()
    m = w @ deltas
    a = np.array([d @ m / np.linalg.norm(d) / np.linalg.norm(m) for d in deltas])
    off = np.array([np.sum((d - (d @ m) / (m @ m) * m) ** 2) for d in deltas])
    z = lambda x: (x - x.mean()) / x.std() if x.std() > 1e-12 else np.zeros_like(x)  # noqa: E731
    w2 = np.exp(beta * (r - r.max()) + z(a) - z(off))
    w2 /= w2.sum()
    mean = w2 @ deltas
    singular = np.linalg.svd(np.sqrt(w2)[:, None] * (deltas - mean), compute_uv=False)[: len(elite)]
    return elite, w, a, off, w2, np.linalg.norm(mean), singular**2


@given(populations, quantiles, betas)
def test_agrees_with_explicit_vectors_and_svd(population, q, beta):
    rewards, sigmas = population
    got = consolidate(rewards, sigmas, q=q, beta=beta)
    elite, pass1, alignment, dispersion, pass2, norm, eigenvalues = explicit(rewards, sigmas, q, beta)
    np.testing.assert_array_equal(got.elite, elite)
    np.testing.assert_allclose(got.pass1, pass1, atol=1e-12)
    np.testing.assert_allclose(got.alignment, alignment, atol=1e-12)
    np.testing.assert_allclose(got.dispersion, dispersion, atol=1e-15)
    np.testing.assert_allclose(got.pass2, pass2, atol=1e-9)
    assert got.norm == pytest.approx(norm, rel=1e-9)
    np.testing.assert_allclose(got.eigenvalues, eigenvalues, atol=1e-15)
    assert got.trace == pytest.approx(eigenvalues.sum(), rel=1e-9, abs=1e-18)


def test_golden_numbers_by_hand():
    # Two candidates of equal length at beta 0; the expected numbers were computed by hand.
    got = consolidate([0.0, 1.0], [2.0, 2.0], q=0.0, beta=0.0)
    np.testing.assert_allclose(got.pass1, [0.5, 0.5])
    np.testing.assert_allclose(got.alignment, [np.sqrt(0.5)] * 2)
    np.testing.assert_allclose(got.dispersion, [2.0, 2.0])
    np.testing.assert_allclose(got.pass2, [0.5, 0.5])
    assert got.norm == pytest.approx(np.sqrt(2.0), rel=1e-12)
    np.testing.assert_allclose(got.eigenvalues, [2.0, 0.0], atol=1e-15)
    assert got.kappa == pytest.approx(1.0, rel=1e-12)
    assert got.effective_rank == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(np.abs(got.principal), [[np.sqrt(1 / 8), np.sqrt(1 / 8)]])


@given(populations, quantiles, betas)
def test_weights_sum_to_1_and_dispersion_complements_alignment(population, q, beta):
    rewards, sigmas = population
    got = consolidate(rewards, sigmas, q=q, beta=beta)
    assert got.pass1.sum() == pytest.approx(1.0)
    assert got.pass2.sum() == pytest.approx(1.0)
    assert 1.0 - 1e-9 <= got.effective_sample_size <= got.elite.size + 1e-9
    squares = np.square(sigmas[got.elite])
    np.testing.assert_allclose(got.dispersion, squares * (1 - np.square(got.alignment)), atol=1e-18)


@given(populations, quantiles, betas, st.integers(1, 8))
def test_principal_directions_are_orthonormal_and_carry_their_variance(population, q, beta, rank):
    rewards, sigmas = population
    got = consolidate(rewards, sigmas, q=q, beta=beta, rank=rank)
    gram = np.diag(np.square(sigmas[got.elite]))
    assert len(got.principal) <= min(rank, got.elite.size)
    np.testing.assert_allclose(got.principal @ gram @ got.principal.T, np.eye(len(got.principal)), atol=1e-6)
    centred = np.eye(got.elite.size) - got.pass2[None, :]
    for direction, variance in zip(got.principal, got.eigenvalues, strict=False):
        projections = centred @ gram @ direction
        assert got.pass2 @ projections**2 == pytest.approx(variance, rel=1e-6)


@given(populations, st.permutations(range(24)))
def test_order_of_candidates_does_not_matter(population, order):
    rewards, sigmas = population
    order = np.array([i for i in order if i < rewards.size])
    straight = consolidate(rewards, sigmas, q=0.5, beta=5.0)
    shuffled = consolidate(rewards[order], sigmas[order], q=0.5, beta=5.0)
    assert set(order[shuffled.elite]) == set(straight.elite)
    assert shuffled.norm == pytest.approx(straight.norm, rel=1e-9)
    np.testing.assert_allclose(shuffled.eigenvalues, straight.eigenvalues, atol=1e-15)


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_the_gram_matrix_of_structured_displacements_gives_the_same_as_their_vectors(n, seed):
    rng = np.random.default_rng(seed)
    vectors, rewards = rng.normal(size=(n, 5)), rng.random(n)
    got = consolidate_gram(rewards, vectors @ vectors.T, q=0.0, beta=2.0, rank=5)
    mean = got.pass2 @ vectors
    assert got.norm == pytest.approx(np.linalg.norm(mean), rel=1e-9)
    cloud = np.sqrt(got.pass2)[:, None] * (vectors - mean)
    spectrum = np.linalg.svd(cloud, compute_uv=False) ** 2
    np.testing.assert_allclose(got.eigenvalues[: spectrum.size], spectrum[:n], atol=1e-9)
    axes = got.principal @ vectors
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-6)


def test_a_single_elite_candidate_is_its_own_direction_and_has_no_cloud():
    got = consolidate([0.1, 0.9, 0.2], [1e-3, 2e-3, 1e-3], q=1.0, beta=10.0)
    np.testing.assert_array_equal(got.elite, [1])
    np.testing.assert_array_equal(got.pass2, [1.0])
    assert got.norm == pytest.approx(2e-3)
    assert (got.trace, got.kappa, got.effective_rank, len(got.principal)) == (0.0, float("inf"), 0.0, 0)


def test_displacements_that_cancel_have_no_alignment():
    got = consolidate_gram([1.0, 1.0], [[1.0, -1.0], [-1.0, 1.0]], q=0.0, beta=1.0)
    np.testing.assert_array_equal(got.alignment, [0.0, 0.0])
    np.testing.assert_array_equal(got.dispersion, [1.0, 1.0])
    assert got.norm == 0.0


def test_extreme_rewards_do_not_overflow():
    got = consolidate([0.0, 1.0], [1e-3, 1e-3], q=0.0, beta=1e6)
    assert np.isfinite(got.pass2).all()
    assert got.pass2[1] == pytest.approx(1.0)


def test_cloud_of_equal_weights_is_the_sample_covariance():
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    eigenvalues, _ = weighted_cloud(np.full(6, 1 / 6), vectors @ vectors.T, 4)
    np.testing.assert_allclose(eigenvalues[:4], np.linalg.eigvalsh(np.cov(vectors.T, ddof=0))[::-1], atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewards": [], "sigmas": [], "q": 0.5, "beta": 1.0}, "rewards must be"),
        ({"rewards": [float("nan")], "sigmas": [1.0], "q": 0.5, "beta": 1.0}, "finite"),
        ({"rewards": [1.0, 2.0], "sigmas": [1.0], "q": 0.5, "beta": 1.0}, "2 rewards"),
        ({"rewards": [1.0], "sigmas": [0.0], "q": 0.5, "beta": 1.0}, "positive"),
        ({"rewards": [1.0], "sigmas": [1.0], "q": 1.5, "beta": 1.0}, "q is 1.5"),
        ({"rewards": [1.0], "sigmas": [1.0], "q": 0.5, "beta": -1.0}, "beta is -1.0"),
        ({"rewards": [1.0], "sigmas": [1.0], "q": 0.5, "beta": 1.0, "rank": -1}, "rank is -1"),
    ],
)
def test_the_error_names_the_invalid_argument(arguments, message):
    rewards, sigmas = arguments.pop("rewards"), arguments.pop("sigmas")
    with pytest.raises(ValueError, match=message):
        consolidate(rewards, sigmas, **arguments)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=40), st.sampled_from([0.3, 0.5, 0.7, 0.9]), st.data())
def test_candidates_known_to_be_outside_the_elite_count_for_the_quantile_and_have_no_weight(scores, q, data):
    rewards = np.array(scores) / 20
    needed = rewards.size - int((rewards.size - 1) * q)
    kept = np.argsort(-rewards, kind="stable")[: data.draw(st.integers(needed, rewards.size))]
    raced = np.full(rewards.size, -np.inf)
    raced[kept] = rewards[kept]
    sigmas = np.full(rewards.size, 1e-3)
    full, got = consolidate(rewards, sigmas, q=q, beta=5.0), consolidate(raced, sigmas, q=q, beta=5.0)
    assert set(got.elite.tolist()) == set(full.elite.tolist()) & set(kept.tolist())
    assert rewards[got.elite].min() == rewards[full.elite].min()


def test_a_population_without_a_finite_reward_is_an_error():
    with pytest.raises(ValueError, match="one of them finite"):
        consolidate([-np.inf, -np.inf], [1.0, 1.0], q=0.5, beta=1.0)


def test_without_reweighting_pass_2_keeps_the_weights_of_pass_1():
    rewards, sigmas = [0.1, 0.4, 0.2, 0.5], [1e-3, 2e-3, 1e-3, 5e-4]
    off, on = (consolidate(rewards, sigmas, q=0.0, beta=3.0, reweight=r) for r in (False, True))
    np.testing.assert_array_equal(off.pass2, off.pass1)
    np.testing.assert_array_equal(off.pass1, on.pass1)
    assert not np.allclose(on.pass2, on.pass1)
    assert off.norm == pytest.approx(np.sqrt(np.sum(np.square(off.pass1 * sigmas))))
