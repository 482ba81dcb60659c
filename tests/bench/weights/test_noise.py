import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.weights.noise import NOISE_VERSION, draw

N = 1_000_000
UP = "model.layers.0.mlp.up_proj.weight"
GATE = "model.layers.0.mlp.gate_proj.weight"


def drawn(seed: int, name: str, shape: int | tuple[int, ...] = N) -> np.ndarray:
    out = np.full(shape, np.nan, dtype=np.float32)
    draw(seed, name, out)
    return out


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.fixture(scope="module")
def million() -> np.ndarray:
    return drawn(0, UP).astype(np.float64)


def test_the_values_are_those_of_the_noise_version() -> None:
    """If this fails, saved points no longer mean the same weights: raise NOISE_VERSION, or pin NumPy."""
    assert NOISE_VERSION == "philox-ziggurat-f32-1"
    np.testing.assert_array_equal(drawn(0, "w", 4), np.array([0.79115385, 0.6750438, -1.1473609, -1.1953552], "f4"))
    values = drawn(0, "w", (1000, 1000)).astype("<f4")
    assert hashlib.sha256(values.tobytes()).hexdigest().startswith("83d963bb32bb4554")


def test_moments_are_those_of_a_standard_normal(million: np.ndarray) -> None:
    # Five standard errors of each moment: sqrt(Var / N) with variances 1, 2, 15 and 96 of x, x^2, x^3 and x^4.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert (million**power).mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / N))


def test_the_distribution_is_a_standard_normal_by_kolmogorov_smirnov(million: np.ndarray) -> None:
    assert stats.kstest(million, "norm").pvalue > 1e-4


def test_the_tails_are_there(million: np.ndarray) -> None:
    expected = 2 * stats.norm.sf(4) * N
    assert abs((abs(million) > 4).sum() - expected) < 5 * np.sqrt(expected)


def test_neighbours_within_a_tensor_are_uncorrelated(million: np.ndarray) -> None:
    for lag in (1, 2, 3, 64, 1000):
        assert abs(correlation(million[:-lag], million[lag:])) < 5 / np.sqrt(N)


def test_two_tensors_of_one_shape_are_uncorrelated(million: np.ndarray) -> None:
    assert abs(correlation(million, drawn(0, GATE))) < 5 / np.sqrt(N)


@pytest.mark.parametrize("seed", [1, 2, -1, 2**63 - 1])
def test_two_seeds_are_uncorrelated(million: np.ndarray, seed: int) -> None:
    assert abs(correlation(million, drawn(seed, UP))) < 5 / np.sqrt(N)


@given(st.sets(st.tuples(st.integers(-(2**70), 2**70), st.text(max_size=5)), min_size=2, max_size=5))
def test_every_seed_and_name_has_a_stream_of_its_own(keys: set[tuple[int, str]]) -> None:
    assert len({drawn(seed, name, 4).tobytes() for seed, name in keys}) == len(keys)


@given(st.integers(0, 2**63 - 1), st.sampled_from([(24,), (4, 6), (6, 4), (2, 3, 4), (1, 24, 1)]))
def test_a_shape_does_not_change_the_values(seed: int, shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(drawn(seed, UP, shape).ravel(), drawn(seed, UP, 24))


def test_a_longer_tensor_begins_with_the_values_of_a_shorter_one() -> None:
    np.testing.assert_array_equal(drawn(5, UP, 1000)[:7], drawn(5, UP, 7))


def test_a_scalar_and_an_empty_tensor_are_drawn() -> None:
    assert drawn(5, UP, ()) == drawn(5, UP, 1)[0]
    assert drawn(5, UP, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("out", [np.empty((4, 6), np.float32, order="F"), np.empty((4, 12), np.float32)[:, ::2]])
def test_an_array_that_is_not_in_row_major_order_is_refused(out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        draw(0, UP, out)


def test_threads_do_not_change_the_values() -> None:
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(16)]
    alone = [drawn(3, name, 10_000) for name in names]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: drawn(3, name, 10_000), names))
    np.testing.assert_array_equal(alone, together)


def test_the_state_of_the_global_generators_neither_matters_nor_changes() -> None:
    before = drawn(3, UP, 8)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(drawn(3, UP, 8), before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
