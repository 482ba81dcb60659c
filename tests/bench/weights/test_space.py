import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.records.rows import Move
from bench.weights import noise_numba, noise_torch, slices
from bench.weights import space as space_module
from bench.weights.checkpoint import write_checkpoint
from bench.weights.noise import NoiseKind, draw, stream_keys
from bench.weights.points import Point
from bench.weights.slices import SLICE
from bench.weights.space import WeightSpace

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = {"embed.weight": (40, 8), "up.weight": (8, 24), "down.weight": (24, 8), "norm.weight": (8,), "scale": ()}
AMPLITUDE = st.floats(-0.5, 0.5).filter(lambda a: abs(a) > 1e-6)
POINT = st.builds(Point, st.dictionaries(st.integers(0, 6), AMPLITUDE, max_size=4), st.sampled_from(["iid", "tied"]))
ROW = 4 * sum(math.prod(shape) for shape in SHAPES.values())
"""Bytes of one stored direction."""


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether tensors are bit-identical; `torch.equal` alone treats 0.0 and -0.0 as equal."""
    return all(torch.equal(a[name].flatten().view(torch.uint8), b[name].flatten().view(torch.uint8)) for name in a)


def noise(seed: int, name: str, kind: NoiseKind = "iid") -> torch.Tensor:
    out = np.empty(SHAPES[name], np.float32)
    draw(seed, name, out, kind=kind)
    return torch.from_numpy(out)


def at(point: Point, dtype: torch.dtype = torch.float32, threads: int | None = 1) -> dict[str, torch.Tensor]:
    """Return the weights at a point, moved there directly from the base."""
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_base_comes_back_bit_for_bit_after_a_thousand_random_moves(dtype: torch.dtype) -> None:
    live = parameters(dtype)
    base = copied(live)
    space = WeightSpace(live, 1)
    generator = random.Random(0)
    points = [Point({generator.randrange(9): generator.gauss(0, 0.1) for _ in range(3)}) for _ in range(50)]
    space.prepare(points[:25])
    for _ in range(1000):
        space.move_to(generator.choice(points))
    space.move_to(Point())
    assert same(live, base)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Numbers of directions and seeds of each call of a kernel, one entry per slice."""
    seen: list[tuple[int, int]] = []
    sums, move = noise_numba.sums, noise_numba.move

    def counted_sums(keys, weights, *rest):
        seen.append(weights.shape)
        sums(keys, weights, *rest)

    def counted_move(keys, weights, *rest):
        seen.append(weights.shape)
        move(keys, weights, *rest)

    monkeypatch.setattr(noise_numba, "sums", counted_sums)
    monkeypatch.setattr(noise_numba, "move", counted_move)
    return seen


class TestACentre:
    CENTRED = st.builds(
        lambda *steps: steps[0].step(steps[1]).step(steps[2]),
        *[st.builds(Point, st.dictionaries(st.integers(0, 6), AMPLITUDE, max_size=3))] * 3,
    )

    @settings(max_examples=60, deadline=None)
    @given(st.lists(POINT | CENTRED, max_size=8), CENTRED, st.sampled_from(DTYPES), st.booleans())
    def test_weights_around_it_do_not_depend_on_the_moves_before(
        self, moves: list[Point], point: Point, dtype: torch.dtype, prepared: bool
    ) -> None:
        live = parameters(dtype)
        space = WeightSpace(live, 1)
        if prepared:
            space.prepare([*moves, point])
        for earlier in [*moves, point]:
            space.move_to(earlier)
        assert same(live, at(point, dtype))
        space.move_to(Point())
        assert same(live, parameters(dtype))

    @settings(max_examples=40, deadline=None)
    @given(CENTRED, st.sampled_from(DTYPES))
    def test_is_kept_in_float32_and_each_step_is_rounded(self, point: Point, dtype: torch.dtype) -> None:
        expected = {name: tensor.float() for name, tensor in parameters(dtype).items()}
        for step in point.steps:
            scale = max((abs(a) for a in step.amplitudes.values()), default=0.0)
            for name in SHAPES:
                total = torch.zeros(SHAPES[name])
                for seed, a in step.amplitudes.items():
                    total += noise(seed, name) * np.float32(a / scale)
                expected[name] = expected[name] + total * scale
        assert same(at(point, dtype), {name: tensor.to(dtype) for name, tensor in expected.items()})

    @settings(max_examples=20, deadline=None)
    @given(CENTRED, st.sampled_from(DTYPES))
    def test_has_the_same_weights_by_torch_operations(self, point: Point, dtype: torch.dtype) -> None:
        live = parameters(dtype)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(noise_numba, "sums", lambda *args: noise_torch.sums(*args[:3], torch.from_numpy(args[3])))
            patch.setattr(slices, "NUMPY_VIEWS", {})
            WeightSpace(live, 1).move_to(point)
        assert same(live, at(point, dtype))

    def test_has_the_same_weights_with_threads_and_in_another_layout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        point = Point({1: 0.1, 2: 0.2}).step(Point({3: 0.1, 1: 0.3})).step(Point({4: 0.1}))
        turned = {name: t.mT.contiguous().mT if t.dim() == 2 else t for name, t in parameters().items()}
        WeightSpace(turned, 1).move_to(point)
        assert same(turned, at(point))
        monkeypatch.setattr(slices, "SLICE", 16)
        assert same(at(point, threads=3), turned)

    def test_costs_its_noise_once_and_a_candidate_one_seed(self, passes: list[tuple[int, int]]) -> None:
        space, theta = WeightSpace(parameters(), 1), Point()
        for iteration in range(3):
            candidates = [theta.step(Point({10 * iteration + i: 0.01})) for i in range(5)]
            space.prepare(candidates)
            for candidate in candidates:
                space.move_to(candidate)
            space.move_to(Point())  # other points in between leave the centre where it is
            theta = theta.step(Point({10 * iteration + i: 0.001 * (i + 1) for i in range(5)}))
        space.move_to(theta)
        moves = [(1, 1)] * 5 + [(1, 5)] + [(1, 1)] * 5 + [(1, 5)] + [(1, 1)] * 5 + [(1, 5)]
        assert passes == [each for each in moves for _ in SHAPES]

    def test_is_made_anew_after_a_step_that_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        live, step, calls = parameters(torch.bfloat16), noise_numba.move, []
        space = WeightSpace(live, 1)
        far = Point({1: 0.1}).step(Point({2: 0.1})).step(Point({3: 0.1}))
        space.move_to(Point({1: 0.1}).step(Point({2: 0.1})))

        def breaking(*args):
            calls.append(args)
            if len(calls) == 3:
                raise MemoryError
            step(*args)

        monkeypatch.setattr(noise_numba, "move", breaking)
        with pytest.raises(MemoryError):
            space.move_to(far)
        space.move_to(far)
        assert same(live, at(far, torch.bfloat16))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_does_not_hide_a_move(self, dtype: torch.dtype) -> None:
        near = Point({1: 0.01, 2: 0.02}).step(Point({3: 0.01}))
        base, live = parameters(dtype), parameters(dtype)
        moved = {
            name: sum(a * noise(seed, name) for seed, a in near.displacement.amplitudes.items()) for name in SHAPES
        }
        space = WeightSpace(live, 1)
        found = space.measure(near)
        assert same(live, base)
        space.move_to(near)
        assert_close(found, by_hand(base, moved, live))
        assert space.measure(near) == found


class TestPreparing:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(POINT, min_size=1, max_size=8),
        st.lists(st.floats(-3, 3), min_size=1, max_size=3),
        st.integers(0, 5 * ROW),
        st.sampled_from(DTYPES),
        st.randoms(),
    )
    def test_changes_no_weight(
        self, points: list[Point], steps: list[float], memory: int, dtype: torch.dtype, order: random.Random
    ) -> None:
        live = parameters(dtype)
        space = WeightSpace(live, 1, memory)
        announced = [step * point for point in points for step in steps]
        space.prepare(announced[: len(announced) // 2])
        space.move_to(announced[0])
        space.prepare(announced)
        visits = [*announced, *(3 * point for point in points)]
        order.shuffle(visits)
        for point in visits:
            space.move_to(point)
            assert same(live, at(point, dtype))

    POINTS: ClassVar = [Point({1: 0.25, 2: -0.125 * i, 3: 0.5}) for i in range(1, 6)]

    def test_draws_each_seed_once_for_all_points_that_fit(self, passes: list[tuple[int, int]]) -> None:
        space = WeightSpace(parameters(), 1)
        space.prepare([step * point for point in self.POINTS for step in (1.0, 0.5, 2.0)])
        assert passes == []
        for point in self.POINTS:
            for step in (1.0, 0.5, 2.0):
                space.move_to(step * point)
        assert passes == [(5, 3)] * len(SHAPES)

    def test_takes_as_many_passes_as_the_memory_requires(self, passes: list[tuple[int, int]]) -> None:
        space = WeightSpace(parameters(), 1, 2 * ROW)
        space.prepare(self.POINTS)
        for point in self.POINTS:
            space.move_to(point)
        assert passes == [(rows, 3) for rows in (2, 2, 1) for _ in SHAPES]

    def test_stores_nothing_if_the_memory_is_too_small_for_one_direction(self, passes: list[tuple[int, int]]) -> None:
        space = WeightSpace(parameters(), 1, ROW - 1)
        space.prepare(self.POINTS)
        for point in self.POINTS[:2]:
            space.move_to(point)
        assert passes == [(1, 3)] * len(SHAPES) * 2

    def test_forgets_directions_that_are_not_announced_again(self, passes: list[tuple[int, int]]) -> None:
        space = WeightSpace(parameters(), 1)
        space.prepare(self.POINTS)
        space.move_to(self.POINTS[0])
        space.prepare([0.5 * self.POINTS[1]])
        space.move_to(self.POINTS[1])
        assert len(passes) == len(SHAPES)
        space.prepare([])
        space.move_to(self.POINTS[2])
        space.move_to(self.POINTS[1])
        assert passes[len(SHAPES) :] == [(1, 3)] * len(SHAPES) * 2

    def test_keeps_the_two_kinds_of_noise_apart(self, passes: list[tuple[int, int]]) -> None:
        live = parameters()
        space = WeightSpace(live, 1)
        points = [Point(point.amplitudes, kind) for point in self.POINTS for kind in ("iid", "tied")]
        space.prepare(points)
        for point in sorted(points, key=lambda point: point.noise.kind):
            space.move_to(point)
            assert same(live, at(point))
        assert passes[: 2 * len(SHAPES)] == [(5, 3)] * len(SHAPES) + [(1, 3)] * len(SHAPES)

    def test_stores_nothing_for_points_of_one_seed(self, passes: list[tuple[int, int]]) -> None:
        space = WeightSpace(parameters(), 1)
        space.prepare([Point(), Point({1: 0.1}), Point({2: 0.1})])
        space.move_to(Point({1: 0.1}))
        assert passes == [(1, 1)] * len(SHAPES)


def test_several_threads_write_the_same_weights_to_tensors_longer_than_a_slice() -> None:
    size = 2 * SLICE + 5
    point = Point({1: 0.1, 5: -0.07})
    for dtype in DTYPES:
        alone, together, prepared = ({"w": torch.zeros(size, dtype=dtype)} for _ in range(3))
        WeightSpace(alone, 1).move_to(point)
        WeightSpace(together, 3).move_to(point)
        space = WeightSpace(prepared, 3)
        space.prepare([point])
        space.move_to(point)
        assert same(together, alone)
        assert same(prepared, alone)
    total = np.zeros(size, np.float32)
    for amplitude in (1.0, -0.7):
        drawn = np.empty(size, np.float32)
        draw(1 if amplitude == 1.0 else 5, "w", drawn)
        total += np.float32(amplitude) * drawn
    live = {"w": torch.zeros(size)}
    WeightSpace(live, 2).move_to(Point({1: 0.125, 5: -0.7 * 0.125}))
    np.testing.assert_array_equal(live["w"].numpy(), np.float32(0.125) * total)


@settings(max_examples=20, deadline=None)
@given(POINT, st.sampled_from(DTYPES))
def test_torch_operations_write_the_same_weights(point: Point, dtype: torch.dtype) -> None:
    """Run the code of other devices on the CPU."""
    live = parameters(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_numba, "sums", lambda *args: noise_torch.sums(*args[:3], torch.from_numpy(args[3])))
        patch.setattr(slices, "NUMPY_VIEWS", {})
        WeightSpace(live, 1).move_to(point)
    assert same(live, at(point, dtype))


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
        terms = (a * noise(s, name, point.noise.kind).double() for s, a in point.amplitudes.items())
        expected = base[name].double() + sum(terms)
        torch.testing.assert_close(live[name].double(), expected, rtol=1e-6, atol=1e-6)


def test_sums_are_rounded_to_half_precision_once() -> None:
    point = Point({1: 0.01, 2: 0.02, 3: -0.005})
    base = {name: tensor.float() for name, tensor in parameters(torch.bfloat16).items()}
    WeightSpace(base, 1).move_to(point)
    assert same(at(point, torch.bfloat16), {name: tensor.bfloat16() for name, tensor in base.items()})


def test_prepared_directions_must_fit_into_the_memory_of_the_weights_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def free(place: torch.device) -> tuple[int, int]:
        asked.append(place)
        return 7 << 30, 80 << 30

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    main = space_module._available(torch.device("cpu"))
    assert 0 < main <= psutil.virtual_memory().total
    assert not asked
    assert space_module._available(torch.device("cuda:1")) == 7 << 30
    assert asked == [torch.device("cuda:1")]


def test_the_memory_layout_of_a_parameter_does_not_change_its_weights() -> None:
    row_major = parameters()
    turned = {name: tensor.mT.contiguous().mT if tensor.dim() == 2 else tensor for name, tensor in parameters().items()}
    assert not turned["up.weight"].is_contiguous()
    for live in (row_major, turned):
        space = WeightSpace(live, 1)
        space.move_to(Point({1: 0.1, 2: 0.2}))
    assert same(row_major, turned)
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


def test_tensors_of_one_shape_share_their_noise_only_if_it_is_tied() -> None:
    for kind, shared in (("iid", False), ("tied", True)):
        live = {name: torch.zeros(64) for name in ("a", "b")}
        WeightSpace(live, 1).move_to(Point({1: 0.1}, kind))
        assert torch.equal(live["a"], live["b"]) == shared


class TestAMoveThatFailsHalfway:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
        seeds: set[int] = set()
        keys_of = stream_keys

        def breaking(function):
            def run(keys, weights, *rest):
                if any((keys == keys_of([seed], "norm.weight")).all(axis=1).any() for seed in seeds):
                    raise MemoryError
                function(keys, weights, *rest)

            return run

        monkeypatch.setattr(noise_numba, "sums", breaking(noise_numba.sums))
        monkeypatch.setattr(noise_numba, "move", breaking(noise_numba.move))
        return seeds

    @pytest.mark.parametrize("threads", [1, 2])
    def test_is_raised_and_leaves_no_point(
        self, failing: set[int], threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(slices, "SLICE", 16)
        failing.add(2)
        live = parameters()
        space = WeightSpace(live, threads)
        with pytest.raises(MemoryError):
            space.move_to(Point({2: 0.1}))
        assert not same(live, parameters())
        with pytest.raises(RuntimeError, match="failed halfway"):
            _ = space.point

    @pytest.mark.parametrize("point", [Point(), Point({1: 0.1}), Point({1: 0.1, 2: 0.2})])
    def test_is_repaired_by_another_move(self, failing: set[int], point: Point) -> None:
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

    def test_leaves_nothing_half_prepared(self, failing: set[int]) -> None:
        point = Point({1: 0.1, 2: 0.2})
        failing.add(2)
        live = parameters()
        space = WeightSpace(live, 1)
        space.prepare([point])
        with pytest.raises(MemoryError):
            space.move_to(point)
        failing.clear()
        space.move_to(point)
        assert same(live, at(point))


def by_hand(base: dict[str, torch.Tensor], moved: dict[str, torch.Tensor], live: dict[str, torch.Tensor]) -> Move:
    """Return a move from float32 displacements and the live weights."""
    move = torch.cat([tensor.double().flatten() for tensor in moved.values()])
    kept = torch.cat([(live[name].float() - base[name].float()).double().flatten() for name in moved])
    changed = sum(int((live[name] != base[name]).sum()) for name in base) / move.numel()
    cosine = min(1.0, float(torch.nn.functional.cosine_similarity(move, kept, dim=0))) if kept.any() else 0.0
    still = sum(tensor.numel() for tensor in moved.values() if not tensor.any()) / move.numel()
    return Move(
        norm=float(move.norm()),
        survived=float(kept.norm()),
        cosine=cosine,
        changed=changed,
        untouched=still,
        energy={"other": 1.0},
    )


def assert_close(found: Move | None, expected: Move) -> None:
    assert found is not None
    assert found.energy == expected.energy
    alone = {"energy"}
    assert found.model_dump(exclude=alone) == pytest.approx(expected.model_dump(exclude=alone), rel=1e-4, abs=1e-5)


@settings(max_examples=40)
@given(POINT.filter(lambda point: not point.is_base), st.sampled_from(DTYPES), st.sampled_from([1.0, 1e-2, 1e-4]))
def test_a_move_is_measured_as_computed_and_as_written(point: Point, dtype: torch.dtype, scale: float) -> None:
    point = scale * point
    base = parameters(dtype)
    terms, kind = point.amplitudes.items(), point.noise.kind
    moved = {name: sum(a * noise(seed, name, kind) for seed, a in terms) for name in SHAPES}
    live = copied(base)
    space = WeightSpace(live, 1)
    found = space.measure(point)
    assert same(live, base)
    assert space.point.is_base
    space.move_to(point)
    assert_close(found, by_hand(base, moved, live))
    assert space.measure(point) == found  # wherever the live weights are


def test_the_base_has_no_move_and_a_move_below_the_grid_leaves_nothing() -> None:
    space = WeightSpace({"w": torch.ones(8, dtype=torch.bfloat16)})
    assert space.measure(Point()) is None
    found = space.measure(Point({1: 1e-6}))
    assert found is not None
    assert (found.survived, found.cosine, found.changed, found.lost) == (0.0, 0.0, 0.0, True)
    assert found.norm > 0


def test_training_is_measured_before_its_weights_are_rounded(tmp_path: Path) -> None:
    base = parameters(torch.bfloat16)
    moved = {name: 4e-3 * torch.randn(tensor.shape) for name, tensor in base.items()}
    trained = {name: tensor.float() + moved[name] for name, tensor in base.items()}
    space = WeightSpace(live := copied(base))
    checkpoint = write_checkpoint(tmp_path / "narrow", trained, dict.fromkeys(trained, torch.bfloat16))
    found = space.measure(checkpoint)
    space.load(checkpoint)
    assert_close(found, by_hand(base, moved, live))
    assert found is not None
    assert found.cosine is not None
    assert 0 < found.cosine < 0.999
    wide = WeightSpace({name: tensor.float() for name, tensor in base.items()})
    exact = wide.measure(write_checkpoint(tmp_path / "wide", trained))
    assert exact is not None
    assert (exact.norm, exact.survived, exact.cosine) == (found.norm, found.norm, 1.0)
    still = wide.measure(write_checkpoint(tmp_path / "still", {name: t.float() for name, t in base.items()}))
    assert still == Move(norm=0, survived=0, cosine=None, changed=0, untouched=1)
    assert not still.lost


def test_a_measured_move_does_not_depend_on_threads_or_layout() -> None:
    wide = torch.randn(3 * SLICE // 64, 64).bfloat16()
    one, other = (WeightSpace({"w": wide}, threads).measure(Point({3: 1e-3})) for threads in (1, 3))
    assert one == other
    turned = WeightSpace({"w": wide.T.contiguous().T}, 1).measure(Point({3: 1e-3}))
    assert one == turned


def test_tensors_that_do_not_move_are_the_base_s_at_every_point_and_may_differ_in_a_checkpoint(tmp_path: Path) -> None:
    live = {**parameters(torch.bfloat16), "bias": torch.randn(3), "steps": torch.tensor(7)}
    base = copied(live)
    space = WeightSpace({name: live[name] for name in SHAPES}, tensors=live)
    space.move_to(point := Point({1: 0.1}))
    moved = copied(live)
    assert torch.equal(moved["bias"], base["bias"])
    other = {**copied(base), "bias": base["bias"] + 1, "steps": torch.tensor(9)}
    checkpoint = write_checkpoint(tmp_path, other)
    for place, expected in ((point, moved), (Point(), base)):
        space.load(checkpoint)
        assert same(live, other)
        space.move_to(place)
        assert all(torch.equal(live[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_point_around_a_checkpoint_is_its_deployed_weights_plus_noise(dtype: torch.dtype, tmp_path: Path) -> None:
    live = {**parameters(dtype), "bias": torch.randn(3)}
    base = copied(live)
    space = WeightSpace({name: live[name] for name in SHAPES}, 1, tensors=live)
    other = {name: tensor * 2 + 1 for name, tensor in base.items()}
    checkpoint = write_checkpoint(tmp_path, other)
    near, further = checkpoint.step(Point({3: 0.1})), checkpoint.step(Point({4: 0.2})).step(Point({5: -0.3}))
    space.move_to(Point({9: 1.0}).step(Point({1: 0.5})))  # the copy at the centre stands elsewhere
    space.move_to(near)
    for name in SHAPES:
        expected = (other[name].float() + 0.1 * noise(3, name)).to(dtype)
        torch.testing.assert_close(live[name], expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(live["bias"], other["bias"])
    first = copied(live)
    for place, expected in ((Point(), base), (near, first), (further, None), (Point({2: 0.1}), None), (near, first)):
        space.move_to(place)
        assert expected is None or same(live, expected)
        assert torch.equal(live["bias"], base["bias"]) == (not getattr(place, "centre", ()))
    space.move_to(further)
    for name in SHAPES:
        expected = (other[name].float() + 0.2 * noise(4, name) - 0.3 * noise(5, name)).to(dtype)
        torch.testing.assert_close(live[name], expected, rtol=1e-5, atol=1e-5)


def test_a_centre_whose_checkpoint_is_gone_fails_and_leaves_the_space_usable(tmp_path: Path) -> None:
    live = parameters()
    base, space = copied(live), WeightSpace(live, 1)
    near = write_checkpoint(tmp_path / "gone", base).step(Point({3: 0.1}))
    (tmp_path / "gone" / "model.safetensors").unlink()
    with pytest.raises(BenchError, match="weights cannot be read"):
        space.move_to(near)
    space.move_to(Point())
    assert same(live, base)
