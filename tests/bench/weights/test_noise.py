import hashlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.weights.noise import COS, LOG, LOG_OF_TWO, NOISE_VERSION, SIN, box_muller, draw, normals, philox, stream_keys

N = 1_000_000
UP = "model.layers.0.mlp.up_proj.weight"
GATE = "model.layers.0.mlp.gate_proj.weight"


def drawn(seed: int, name: str, shape: int | tuple[int, ...] = N, start: int = 0, kind: str = "iid") -> np.ndarray:
    out = np.full(shape, np.nan, dtype=np.float32)
    draw(seed, name, out, start=start, kind=kind)
    return out


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.fixture(scope="module")
def million() -> np.ndarray:
    return drawn(0, UP).astype(np.float64)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    assert philox(counter, key) == words
    arrays = philox([np.array([word]) for word in counter], key)
    assert tuple(int(word[0]) for word in arrays) == words


def test_the_values_are_those_of_the_noise_version() -> None:
    """If this fails, saved points no longer mean the same weights: increment NOISE_VERSION."""
    assert NOISE_VERSION == "philox4x32-10-box-muller-1"
    np.testing.assert_array_equal(drawn(0, "w", 4), np.array([0.81040287, -0.9990589, 0.78537905, 0.04868531], "f4"))
    values = drawn(0, "w", (1000, 1000)).astype("<f4")
    assert hashlib.sha256(values.tobytes()).hexdigest().startswith("b0f4a0111967e219")


def test_the_polynomials_approximate_their_functions() -> None:
    x = np.linspace(math.sqrt(0.5) - 1, math.sqrt(2) - 1, 100_001)
    x = x[x != 0]
    np.testing.assert_allclose(np.polynomial.Polynomial(LOG)(x), -2 * np.log1p(x) / x, rtol=3e-7)
    assert pytest.approx(-2 * math.log(2), rel=1e-7) == LOG_OF_TWO
    t = np.linspace(-0.5, 0.5, 100_000)
    np.testing.assert_allclose(t * np.polynomial.Polynomial(SIN)(t * t), np.sin(np.pi * t), atol=2e-7)
    np.testing.assert_allclose(np.polynomial.Polynomial(COS)(t * t), np.cos(np.pi * t), atol=2e-7)


WORD = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])


@given(WORD, WORD)
def test_the_transform_is_that_of_box_and_muller(first: int, second: int) -> None:
    radius = math.sqrt(-2 * math.log(float(np.float32(first | 1)) / 2**32))
    angle = math.pi * (second - (second >> 31 << 32)) / 2**32
    sign = -1 if first & 1 else 1
    z0, z1 = box_muller(np, np.array([first]), np.array([second]))
    assert z0[0] == pytest.approx(sign * radius * math.cos(angle), abs=4e-6)
    assert z1[0] == pytest.approx(radius * math.sin(angle), abs=4e-6)


def test_the_smallest_word_gives_the_largest_value() -> None:
    z0, _ = box_muller(np, np.array([0]), np.array([0]))
    assert z0[0] == pytest.approx(math.sqrt(64 * math.log(2)), rel=1e-6)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.integers(1, 70))
def test_torch_operations_give_the_same_bits(seed: int, first: int, count: int) -> None:
    (key,) = stream_keys([seed], UP)
    blocks = np.arange(first, first + count)
    ours = normals(np, key.tolist(), blocks)
    theirs = normals(torch, key.tolist(), torch.from_numpy(blocks))
    np.testing.assert_array_equal(theirs.numpy().view(np.uint32), ours.view(np.uint32))


@given(st.integers(0, 5000), st.integers(0, 600))
def test_any_slice_of_a_tensor_can_be_drawn_alone(start: int, size: int) -> None:
    np.testing.assert_array_equal(drawn(7, UP, size, start), drawn(7, UP, 5600)[start : start + size])


@pytest.mark.parametrize("start", [0, 3, 2**34 + 1])
def test_slices_longer_than_a_chunk_and_far_into_a_tensor(start: int) -> None:
    whole = drawn(7, UP, 300_000, start)
    np.testing.assert_array_equal(drawn(7, UP, 9, start + 262_139), whole[262_139 : 262_139 + 9])


def test_blocks_beyond_32_bits_are_not_those_at_the_start() -> None:
    assert not np.array_equal(drawn(7, UP, 8, 2**34), drawn(7, UP, 8))


def test_tied_noise_has_one_stream_for_all_tensors() -> None:
    tied = drawn(3, UP, 1000, kind="tied")
    np.testing.assert_array_equal(tied, drawn(3, GATE, 1000, kind="tied"))
    assert not np.array_equal(tied, drawn(4, UP, 1000, kind="tied"))
    assert not np.array_equal(tied, drawn(3, "", 1000))


def test_moments_are_those_of_a_standard_normal(million: np.ndarray) -> None:
    # Five standard errors of each moment: sqrt(Var / N) with variances 1, 2, 15 and 96 of x, x^2, x^3 and x^4.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert (million**power).mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / N))


def test_the_tails_are_normal(million: np.ndarray) -> None:
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


def test_global_generators_are_neither_used_nor_changed() -> None:
    before = drawn(3, UP, 8)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(drawn(3, UP, 8), before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
