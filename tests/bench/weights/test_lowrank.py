"""Noise of low rank: the same values whole, in slices, compiled and in torch; what moves; what it sums to."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.models.opening import open_model
from bench.models.source import resolve
from bench.weights import noise_numba, noise_torch, slices
from bench.weights.layers import layout_of
from bench.weights.layout import Layout, TensorLayout
from bench.weights.lowrank import factors
from bench.weights.noise import Noise, draw_lowrank, rank_of
from bench.weights.points import Point
from bench.weights.sketch import sketch
from bench.weights.space import WeightSpace

KINDS = ["lowrank", "lowrank-2", "lowrank-4"]
NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(("kind", "rank"), [("iid", None), ("tied", None), *zip(KINDS, (1, 2, 4), strict=True)])
def test_a_kind_names_its_rank(kind, rank):
    assert rank_of(kind) == rank


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_its_rank_and_the_variance_of_full_rank(kind):
    noise = draw_lowrank(3, NAME, (300, 200), kind)
    assert np.linalg.matrix_rank(noise.astype(np.float64), tol=1e-3) == rank_of(kind)
    together = np.concatenate([draw_lowrank(seed, NAME, (300, 200), kind).ravel() for seed in range(40)])
    assert abs(together.mean()) < 0.02
    assert abs(together.var() - 1) < 0.1


def test_the_values_are_those_of_this_version():
    """If this fails, saved points no longer mean the same weights."""
    values = draw_lowrank(0, "w", (2, 3), "lowrank-2")
    expected = [[-0.134573653, 0.722730458, -0.617626429], [-0.0314614102, -0.253100127, -0.00780213624]]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_seeds_matrices_factors_and_ranks_differ():
    found = [
        draw_lowrank(seed, name, (40, 40), kind) for seed in (1, 2) for name in ("a", "b") for kind in ("lowrank",)
    ]
    found += [found[0].T, draw_lowrank(1, "a", (40, 40), "lowrank-2")]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.8
            assert not np.array_equal(one, other)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 700)),
    kind=st.sampled_from(KINDS),
    seeds=st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_a_slice_is_that_of_the_whole_compiled_and_in_torch(shape, kind, seeds, data):
    size = shape[0] * shape[1]
    start = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - start))
    weights = np.eye(len(seeds), dtype=np.float32)
    whole = np.stack([draw_lowrank(seed, NAME, shape, kind).ravel() for seed in seeds])
    parts = factors(seeds, weights, NAME, shape, kind, start, count)
    compiled, by_torch = np.empty((len(seeds), count), np.float32), torch.empty(len(seeds), count)
    noise_numba.outer_sums(*parts, compiled)
    noise_torch.outer_sums(*parts, by_torch)
    np.testing.assert_array_equal(compiled, whole[:, start : start + count])
    np.testing.assert_array_equal(by_torch.numpy(), compiled)


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (30, 20), "embedding": (9, 20), "norm": (20,), "turned": (20, 30)}
    found = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    found["turned"] = found["turned"].T
    return found


MOVING = ("a.weight", "turned")
LAYOUT = Layout({name: TensorLayout(tuple(each.shape), low_rank=name in MOVING) for name, each in tensors().items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_move_adds_it_to_the_named_matrices_alone_and_back_is_bit_for_bit(dtype, kind, monkeypatch):
    monkeypatch.setattr(slices, "SLICE", 64)
    base, live = tensors(dtype), tensors(dtype)
    space = WeightSpace(live, 2, layout=LAYOUT)
    point = Point({5: 0.25, 9: -0.5}, kind)
    space.move_to(point)
    for name, value in base.items():
        if name in MOVING:
            shape = tuple(value.shape)
            total = -np.float32(0.5) * draw_lowrank(5, name, shape, kind) + draw_lowrank(9, name, shape, kind)
            expected = value.float() + torch.from_numpy(total) * -0.5
            torch.testing.assert_close(
                live[name].float(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5
            )
            assert not torch.equal(live[name], value)
        else:
            assert torch.equal(live[name], value)
    other = tensors(dtype)
    prepared = WeightSpace(other, 1, layout=LAYOUT)
    prepared.prepare([point, Point({5: 1.0, 11: 1.0}, kind)])
    prepared.move_to(point)
    assert all(torch.equal(other[name], live[name]) for name in live)
    measured = space.measure(point)
    moved = torch.cat([(live[name].float() - base[name].float()).ravel() for name in base])
    assert measured.survived == pytest.approx(float(moved.norm()), rel=1e-4)
    space.move_to(Point())
    assert all(torch.equal(live[name], base[name]) for name in live)


def test_without_compiled_loops_the_values_are_the_same(monkeypatch):
    point, found = Point({1: 0.1, 2: 0.3}, "lowrank-2"), []
    for views in (slices.NUMPY_VIEWS, {}):
        monkeypatch.setattr(slices, "NUMPY_VIEWS", views)
        live = tensors()
        WeightSpace(live, 1, layout=LAYOUT).move_to(point)
        found.append(live)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_walk_of_centres_adds_its_steps():
    live = tensors()
    space = WeightSpace(live, 1, layout=LAYOUT)
    theta = Point().step(Point({1: 0.1}, "lowrank")).step(Point({2: 0.2}, "lowrank"))
    space.move_to(theta.step(Point({3: 0.3}, "lowrank")))
    walked = {name: each.clone() for name, each in live.items()}
    other = tensors()
    WeightSpace(other, 1, layout=LAYOUT).move_to(Point({1: 0.1, 2: 0.2, 3: 0.3}, "lowrank"))
    for name in live:
        torch.testing.assert_close(walked[name], other[name], rtol=1e-5, atol=1e-6)


def test_a_model_without_matrices_refuses_it_and_kinds_do_not_mix():
    with pytest.raises(BenchError, match=r"noise lowrank: this model has no linear layer that it can move"):
        WeightSpace(tensors(), 1).move_to(Point({1: 0.1}, "lowrank"))
    with pytest.raises(ValueError, match="points of iid and of lowrank noise do not combine"):
        Point({1: 0.1}) + Point({1: 0.1}, "lowrank")
    assert Point({1: 0.1}, "lowrank").digest != Point({1: 0.1}, "lowrank-2").digest


@pytest.fixture(scope="module")
def folder():
    return resolve("tiny-adder").prepare().path


def test_it_moves_the_linear_layers_of_a_model_without_its_head(folder):
    layout = layout_of(open_model(Path(folder), torch.float32))
    shapes = layout.matrices(Noise("lowrank"))
    assert shapes.keys() == {
        f"model.layers.{layer}.{part}.weight"
        for layer in range(3)
        for part in (
            *(f"self_attn.{side}_proj" for side in "qkvo"),
            *(f"mlp.{side}_proj" for side in ("gate", "up", "down")),
        )
    }
    assert shapes.keys() < layout.tensors.keys()
    assert layout.noise_values(Noise("lowrank-2")) == 2 * sum(map(sum, shapes.values()))


def test_sketches_keep_its_inner_products():
    shapes = {"a": (40, 50), "b": (30, 60)}
    moving = {name: TensorLayout(shape, low_rank=True) for name, shape in shapes.items()}
    layout = Layout({**moving, "c": TensorLayout((9,))})
    seeds = tuple(range(10))
    found = sketch(seeds, layout, 4096, noise=Noise("lowrank"))
    true = np.stack(
        [
            np.concatenate([draw_lowrank(s, name, shape, "lowrank").ravel() for name, shape in shapes.items()])
            for s in seeds
        ]
    ) / math.sqrt(3800)
    errors = (found @ found.T - true @ true.T)[np.triu_indices(10)]
    assert np.sqrt(np.square(errors).mean()) < 3 * np.sqrt(2 / 4096)
