import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.weights import noise_numba, noise_torch
from bench.weights.noise import NoiseKind, draw, stream_keys

N = 10_000_000
UP = "model.layers.0.mlp.up_proj.weight"
GATE = "model.layers.0.mlp.gate_proj.weight"
WEIGHT = st.floats(-1, 1, width=32) | st.just(0.0)


def compiled(seed: int, name: str, size: int = N, kind: NoiseKind = "iid") -> np.ndarray:
    out = np.full((1, size), np.nan, np.float32)
    noise_numba.sums(stream_keys([seed], name, kind), np.ones((1, 1), np.float32), 0, out)
    return out[0]


def by_definition(keys: int, weights: np.ndarray, start: int, size: int) -> np.ndarray:
    """Return the sums computed by NumPy seed by seed, without weights of zero."""
    out = np.zeros((len(weights), size), np.float32)
    noise = np.empty(size, np.float32)
    for seed in range(keys):
        draw(seed, UP, noise, start=start)
        for row, weight in zip(out, weights[:, seed], strict=True):
            if weight != 0:
                row += weight * noise
    return out


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32)


@st.composite
def problems(draw_from: st.DrawFn) -> tuple[np.ndarray, int, int]:
    rows, seeds = draw_from(st.integers(1, 4)), draw_from(st.integers(1, 19))
    weights = draw_from(st.lists(WEIGHT, min_size=rows * seeds, max_size=rows * seeds))
    start, size = 4 * draw_from(st.integers(0, 1000)), draw_from(st.integers(0, 1300))
    return np.array(weights, np.float32).reshape(rows, seeds), start, size


@settings(max_examples=60, deadline=None)
@given(problems())
def test_compiled_sums_are_bit_identical_to_the_definition(problem: tuple[np.ndarray, int, int]) -> None:
    weights, start, size = problem
    out = np.full((len(weights), size), np.nan, np.float32)
    noise_numba.sums(stream_keys(range(weights.shape[1]), UP), weights, start, out)
    np.testing.assert_array_equal(bits(out), bits(by_definition(weights.shape[1], weights, start, size)))


@settings(max_examples=15, deadline=None)
@given(problems(), st.sampled_from([256, 1 << 22]))
def test_sums_by_torch_operations_are_bit_identical_to_compiled_ones(
    problem: tuple[np.ndarray, int, int], chunk: int
) -> None:
    weights, start, size = problem
    keys = stream_keys(range(weights.shape[1]), UP)
    ours, theirs = np.empty((len(weights), size), np.float32), torch.empty((len(weights), size))
    noise_numba.sums(keys, weights, start, ours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_torch, "CHUNK", chunk)
        noise_torch.sums(keys, weights, start, theirs[:, :])
    np.testing.assert_array_equal(bits(theirs.numpy()), bits(ours))


def test_a_million_draws_of_the_three_implementations_are_bit_identical() -> None:
    size = 1_000_003
    defined, torch_made = np.empty(size, np.float32), torch.empty((1, size))
    draw(11, UP, defined)
    noise_torch.sums(stream_keys([11], UP), np.ones((1, 1), np.float32), 0, torch_made)
    np.testing.assert_array_equal(bits(compiled(11, UP, size)), bits(defined))
    np.testing.assert_array_equal(bits(torch_made[0].numpy()), bits(defined))


def test_compiled_tied_noise_is_bit_identical_to_the_definition() -> None:
    defined = np.empty(1000, np.float32)
    draw(11, GATE, defined, kind="tied")
    np.testing.assert_array_equal(compiled(11, UP, 1000, "tied"), defined)


FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 3.39e38, 1e-45, -1e-40])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(FLOATS, st.floats(-7, 7, width=32)), min_size=1, max_size=40), st.floats(-2, 2))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_adding_rounds_as_torch_does(dtype: torch.dtype, pairs: list[tuple[float, float]], scale: float) -> None:
    source, total = (torch.tensor(values, dtype=torch.float32) for values in zip(*pairs, strict=True))
    base = source.to(dtype)
    expected, live = base.clone(), base.clone()
    noise_torch.add(total, scale, base, expected)
    integer, unsigned = (torch.int16, np.uint16) if dtype == torch.bfloat16 else (torch.float32, np.float32)
    arrays = (base.view(integer).numpy().view(unsigned), live.view(integer).numpy().view(unsigned))
    noise_numba.add(total.numpy(), scale, *arrays)
    assert torch.equal(live.isnan(), expected.isnan())
    assert torch.equal(live.nan_to_num(1.0).view(torch.uint8), expected.nan_to_num(1.0).view(torch.uint8))


def test_ties_of_bfloat16_rounding_go_to_even() -> None:
    base = np.zeros(4, np.uint16)
    live = np.empty(4, np.uint16)
    total = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF], np.uint32).view(np.float32)
    noise_numba.add(total, 1.0, base, live)
    assert [hex(value) for value in live] == ["0x3f80", "0x3f82", "0x3f81", "0x3f81"]


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return compiled(0, UP)


@pytest.mark.slow
class TestTenMillionDraws:
    def test_have_the_moments_of_a_standard_normal(self, noise: np.ndarray) -> None:
        # Five standard errors of each moment: sqrt(Var / N) with variances 1, 2, 15 and 96 of x, x^2, x^3 and x^4.
        square = noise.astype(np.float64) ** 2
        assert noise.mean(dtype=np.float64) == pytest.approx(0, abs=5 * np.sqrt(1 / N))
        assert square.mean() == pytest.approx(1, abs=5 * np.sqrt(2 / N))
        assert (square * noise).mean() == pytest.approx(0, abs=5 * np.sqrt(15 / N))
        assert (square * square).mean() == pytest.approx(3, abs=5 * np.sqrt(96 / N))

    def test_are_normal_by_kolmogorov_smirnov(self, noise: np.ndarray) -> None:
        assert stats.kstest(noise, "norm", method="asymp").pvalue > 1e-4

    def test_are_normal_in_the_tails(self, noise: np.ndarray) -> None:
        for bound in (3, 4, 5):
            expected = stats.norm.sf(bound) * N
            for side in (noise > bound, noise < -bound):
                assert abs(np.count_nonzero(side) - expected) < 5 * np.sqrt(expected) + 1

    @pytest.mark.parametrize(("seed", "name"), [(1, UP), (-1, UP), (2**63 - 1, UP), (0, GATE)])
    def test_are_uncorrelated_between_seeds_and_between_tensors(self, noise: np.ndarray, seed: int, name: str) -> None:
        other = compiled(seed, name)
        assert abs(float(noise @ other)) < 5 * np.sqrt(N)
        assert abs(float(np.square(noise) @ np.square(other)) - N) < 5 * np.sqrt(8 * N)  # Var(x^2 y^2) = 8

    def test_are_uncorrelated_between_neighbours(self, noise: np.ndarray) -> None:
        square = np.square(noise) - 1
        for lag in (1, 2, 3, 4, 64, noise_numba.CHUNK):
            assert abs(float(noise[:-lag] @ noise[lag:])) < 5 * np.sqrt(N)
            assert abs(float(square[:-lag] @ square[lag:])) < 5 * np.sqrt(4 * N)  # Var((x^2 - 1)(y^2 - 1)) = 4
