from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bench.weights.space
from bench.weights.noise import draw
from bench.weights.points import Point
from bench.weights.space import WeightSpace

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = {"embed.weight": (40, 8), "up.weight": (8, 24), "down.weight": (24, 8), "norm.weight": (8,), "scale": ()}
AMPLITUDE = st.floats(-0.5, 0.5).filter(lambda a: abs(a) > 1e-6)
POINT = st.dictionaries(st.integers(0, 6), AMPLITUDE, max_size=4).map(Point)


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Equal bit for bit, which `torch.equal` is not: it takes 0.0 for -0.0."""
    return all(torch.equal(a[name].flatten().view(torch.uint8), b[name].flatten().view(torch.uint8)) for name in a)


def noise(seed: int, name: str) -> torch.Tensor:
    out = np.empty(SHAPES[name], np.float32)
    draw(seed, name, out)
    return torch.from_numpy(out)


def at(point: Point, dtype: torch.dtype = torch.float32, threads: int | None = 1) -> dict[str, torch.Tensor]:
    """The weights at a point, reached straight from the base."""
    live = parameters(dtype)
    WeightSpace(live, threads).move_to(point)
    return live


@settings(max_examples=40)
@given(st.lists(POINT, max_size=12), st.sampled_from(DTYPES))
def test_the_base_comes_back_bit_for_bit_after_any_moves(moves: list[Point], dtype: torch.dtype) -> None:
    live = parameters(dtype)
    live["norm.weight"][0] = -0.0
    base = copied(live)
    space = WeightSpace(live, 1)
    for point in [*moves, Point()]:
        space.move_to(point)
    assert same(live, base)
    assert space.point.is_base


@settings(max_examples=40)
@given(st.lists(POINT, max_size=8), POINT, st.sampled_from(DTYPES))
def test_weights_at_a_point_do_not_depend_on_the_moves_before_it(
    moves: list[Point], point: Point, dtype: torch.dtype
) -> None:
    live = parameters(dtype)
    space = WeightSpace(live, 1)
    for earlier in [*moves, point]:
        space.move_to(earlier)
    assert same(live, at(point, dtype))
    assert space.point == point


@settings(max_examples=40)
@given(POINT, st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.sampled_from(DTYPES))
def test_a_line_search_through_the_cache_finds_the_weights_of_each_point(
    direction: Point, steps: list[float], dtype: torch.dtype
) -> None:
    live = parameters(dtype)
    space = WeightSpace(live, 1)
    for step in steps:
        space.move_to(step * direction)
        assert same(live, at(step * direction, dtype))


def test_a_line_search_draws_its_noise_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counting(seed: int, name: str, out: np.ndarray) -> None:
        drawn.append(seed)
        draw(seed, name, out)

    monkeypatch.setattr(bench.weights.space, "draw", counting)
    space = WeightSpace(parameters(), 1)
    for step in (1.0, 0.5, 2.0):
        space.move_to(step * Point({1: 0.25, 2: -0.125}))
    assert sorted(drawn) == [1] * len(SHAPES) + [2] * len(SHAPES)


@pytest.mark.parametrize("threads", [2, 7, None])
def test_the_number_of_threads_does_not_change_the_weights(threads: int | None) -> None:
    point = Point({1: 0.1, 5: -0.07, 6: 0.003})
    assert same(at(point, threads=threads), at(point, threads=1))


def test_one_seed_is_base_plus_amplitude_times_noise() -> None:
    live, base = at(Point({3: 0.25})), parameters()
    for name in SHAPES:
        torch.testing.assert_close(live[name], base[name] + 0.25 * noise(3, name), rtol=0, atol=0)


@given(POINT)
def test_a_point_is_base_plus_the_weighted_sum_of_its_noise(point: Point) -> None:
    live, base = at(point), parameters()
    for name in SHAPES:
        expected = base[name].double() + sum(a * noise(s, name).double() for s, a in point.amplitudes.items())
        torch.testing.assert_close(live[name].double(), expected, rtol=1e-6, atol=1e-6)


def test_sums_are_rounded_to_half_precision_once() -> None:
    point = Point({1: 0.01, 2: 0.02, 3: -0.005})
    base = {name: tensor.float() for name, tensor in parameters(torch.bfloat16).items()}
    WeightSpace(base, 1).move_to(point)
    assert same(at(point, torch.bfloat16), {name: tensor.bfloat16() for name, tensor in base.items()})


def test_the_memory_layout_of_a_parameter_does_not_change_its_weights() -> None:
    straight = parameters()
    turned = {name: tensor.mT.contiguous().mT if tensor.dim() == 2 else tensor for name, tensor in parameters().items()}
    assert not turned["up.weight"].is_contiguous()
    for live in (straight, turned):
        space = WeightSpace(live, 1)
        space.move_to(Point({1: 0.1, 2: 0.2}))
    assert same(straight, turned)
    space.move_to(Point())
    assert same(turned, parameters())


def test_the_order_of_parameters_does_not_change_their_weights() -> None:
    live = dict(reversed(parameters().items()))
    WeightSpace(live, 1).move_to(Point({1: 0.1, 2: 0.2}))
    assert same(live, at(Point({1: 0.1, 2: 0.2})))


def test_parameters_that_require_gradients_can_be_moved() -> None:
    live = {"w": torch.nn.Parameter(torch.ones(8, 24))}
    WeightSpace(live, 1).move_to(Point({1: 0.1}))
    assert not torch.equal(live["w"], torch.ones(8, 24))
    assert live["w"].is_leaf


class TestAMoveThatFailsHalfWay:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
        seeds: set[int] = set()

        def breaking(seed: int, name: str, out: np.ndarray) -> None:
            if seed in seeds and name == "norm.weight":
                raise MemoryError
            draw(seed, name, out)

        monkeypatch.setattr(bench.weights.space, "draw", breaking)
        return seeds

    def test_is_raised_and_leaves_no_point(self, failing: set[int]) -> None:
        failing.add(2)
        live = parameters()
        space = WeightSpace(live, 2)
        with pytest.raises(MemoryError):
            space.move_to(Point({2: 0.1}))
        assert not same(live, parameters())
        with pytest.raises(RuntimeError, match="failed half way"):
            _ = space.point

    @pytest.mark.parametrize("point", [Point(), Point({1: 0.1}), Point({1: 0.1, 2: 0.2})])
    def test_is_mended_by_any_further_move(self, failing: set[int], point: Point) -> None:
        live = parameters()
        space = WeightSpace(live, 2)
        space.move_to(Point({1: 0.1, 2: 0.2}))
        failing.add(2)
        with pytest.raises(MemoryError):
            space.move_to(Point({2: 0.1}))
        failing.clear()
        space.move_to(point)
        assert same(live, at(point))
        assert space.point == point

    def test_does_not_enter_the_cache(self, failing: set[int]) -> None:
        point = Point({1: 0.1, 2: 0.2})
        failing.add(2)
        live = parameters()
        space = WeightSpace(live, 1)
        with pytest.raises(MemoryError):
            space.move_to(point)
        failing.clear()
        space.move_to(point)
        assert same(live, at(point))
