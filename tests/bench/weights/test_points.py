import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.weights.checkpoint import Checkpoint
from bench.weights.noise import Noise
from bench.weights.points import Point, combine, gram, noise_seeds, steps_between

AMPLITUDE = st.floats(-1e3, 1e3).filter(lambda a: a == 0 or abs(a) > 1e-6)
AMPLITUDES = st.dictionaries(st.integers(0, 12), AMPLITUDE, max_size=8)
POINT = AMPLITUDES.map(Point)
FACTOR = st.floats(-8, 8)


def dense(point: Point) -> np.ndarray:
    vector = np.zeros(13)
    for seed, amplitude in point.amplitudes.items():
        vector[seed] = amplitude
    return vector


@given(POINT, POINT, FACTOR, FACTOR)
def test_combining_is_the_linear_combination_of_dense_vectors(p: Point, q: Point, a: float, b: float) -> None:
    np.testing.assert_allclose(dense(combine([(a, p), (b, q)])), a * dense(p) + b * dense(q), rtol=1e-12, atol=1e-9)


@given(POINT, POINT)
def test_operators_are_those_of_vectors(p: Point, q: Point) -> None:
    np.testing.assert_array_equal(dense(p + q), dense(p) + dense(q))
    np.testing.assert_array_equal(dense(p - q), dense(p) - dense(q))
    np.testing.assert_array_equal(dense(-2.5 * p), -2.5 * dense(p))
    assert p * 0.3 == 0.3 * p


@given(POINT, POINT)
def test_addition_commutes_and_a_point_less_itself_is_the_base(p: Point, q: Point) -> None:
    assert p + q == q + p
    assert (p - p).is_base
    assert p + Point() == p


@given(POINT)
def test_the_norm_is_the_euclidean_length_of_the_amplitudes(p: Point) -> None:
    assert p.norm == pytest.approx(math.hypot(*p.amplitudes.values()), rel=1e-12)
    assert (p.norm == 0) == p.is_base


@given(POINT, POINT, POINT, FACTOR)
def test_the_inner_product_is_symmetric_and_linear(p: Point, q: Point, r: Point, a: float) -> None:
    assert p.inner(q) == q.inner(p)
    linear = a * p.inner(r) + q.inner(r)
    scale = (abs(a) * p.norm + q.norm) * r.norm
    assert (a * p + q).inner(r) == pytest.approx(linear, abs=1e-12 * scale + 1e-12)


@given(st.lists(POINT, max_size=5))
def test_the_gram_matrix_holds_the_pairwise_inner_products(points: list[Point]) -> None:
    product = gram(points)
    assert product.shape == (len(points), len(points))
    for i, p in enumerate(points):
        for j, q in enumerate(points):
            assert product[i, j] == pytest.approx(p.inner(q), rel=1e-9, abs=1e-9 * (p.norm * q.norm + 1e-12))


@given(AMPLITUDES, st.randoms())
def test_points_do_not_depend_on_the_order_of_their_seeds_nor_on_zeros(amplitudes: dict[int, float], random) -> None:
    items = list(amplitudes.items())
    random.shuffle(items)
    p, q = Point(amplitudes), Point({**dict(items), 99: 0.0, 98: -0.0})
    assert p == q
    assert hash(p) == hash(q)
    assert list(q.amplitudes) == sorted(seed for seed, a in amplitudes.items() if a != 0)


@given(POINT, POINT)
def test_digests_are_equal_exactly_if_points_are_equal(p: Point, q: Point) -> None:
    assert (p.digest == q.digest) == (p == q)
    assert Point(dict(p.amplitudes)).digest == p.digest


def test_digests_distinguish_neighbouring_floats_and_shifted_digits() -> None:
    points = [Point({1: 0.1}), Point({1: math.nextafter(0.1, 1)}), Point({1: -0.1}), Point({11: 0.1}), Point()]
    assert len({p.digest for p in points}) == len(points)


@pytest.mark.parametrize("amplitude", [math.nan, math.inf, -math.inf])
def test_an_amplitude_that_is_not_finite_is_refused(amplitude: float) -> None:
    with pytest.raises(ValueError, match="seed 7"):
        Point({3: 1.0, 7: amplitude})


def test_later_changes_of_the_mapping_do_not_change_a_point() -> None:
    amplitudes = {1: 2.0}
    point = Point(amplitudes)
    amplitudes[1] = 3.0
    assert point == Point({1: 2.0})


def test_the_base_has_no_kind_of_noise() -> None:
    assert Point({}, "tied") == Point() == Point({1: 0.0}, "tied")
    assert Point({}, "tied").digest == Point().digest


@given(POINT)
def test_the_kind_of_noise_is_part_of_a_point_s_identity(p: Point) -> None:
    tied = Point(p.amplitudes, "tied")
    assert (tied == p) == (tied.digest == p.digest) == p.is_base
    if not p.is_base:
        assert hash(tied) != hash(p)


@given(POINT, FACTOR)
def test_the_algebra_keeps_the_kind_of_noise(p: Point, factor: float) -> None:
    tied = Point(p.amplitudes, "tied")
    for result in (tied + Point(), Point() + tied, tied - Point(), tied * 1.0, combine([(1.0, tied), (0.5, Point())])):
        assert result == tied
    assert factor * tied == Point((factor * p).amplitudes, "tied")
    assert tied.norm == p.norm


@pytest.mark.parametrize(
    "mix", [lambda p, q: p + q, lambda p, q: p - q, lambda p, q: p.inner(q), lambda p, q: gram([p, q])]
)
def test_points_of_two_kinds_of_noise_do_not_mix(mix) -> None:
    with pytest.raises(ValueError, match="iid and of tied"):
        mix(Point({1: 1.0}), Point({2: 1.0}, "tied"))


def test_a_kind_of_noise_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'pink'.* one of iid, tied"):
        Point({1: 1.0}, "pink")


class TestPointsAroundACentre:
    @given(POINT, POINT, POINT)
    def test_are_vectors_from_the_base(self, p: Point, q: Point, r: Point) -> None:
        near = p.step(q).step(r)
        np.testing.assert_allclose(dense(near.displacement), dense(p + q + r), rtol=1e-12, atol=1e-9)
        assert near.displacement.centre == ()
        assert 2 * near == 2 * near.displacement
        assert near + p == near.displacement + p
        assert near.inner(p) == near.displacement.inner(p)
        assert near.norm == near.displacement.norm
        assert gram([near, p]).tolist() == gram([near.displacement, p]).tolist()

    @given(POINT, POINT, POINT)
    def test_are_their_last_step_around_the_steps_before(self, p: Point, q: Point, r: Point) -> None:
        near = p.step(q).step(r)
        moved = [step for step in (p, q, r) if not step.is_base]
        assert near == Point(r.amplitudes, centre=(p, q))
        assert [step for step in near.steps if not step.is_base] == moved
        assert near.is_base == (not moved)
        assert hash(near) == hash(Point(r.amplitudes, centre=(p, q)))

    @given(POINT, POINT)
    def test_without_a_displacement_are_the_centre_itself(self, p: Point, q: Point) -> None:
        assert p.step(q).step(Point()) == p.step(q)
        assert Point().step(p) == p

    def test_have_a_digest_of_their_own(self) -> None:
        a, b = Point({1: 0.1}), Point({2: 0.2})
        points = [a, b, a + b, a.step(b), b.step(a), a.step(b).step(a), b.step(a).step(a), a.step(a), 2 * a]
        assert len({point.digest for point in points}) == len(points) == len(set(points))

    def test_have_one_kind_of_noise(self) -> None:
        tied = Point({2: 1.0}, "tied")
        assert tied.step(tied).noise == tied.step(Point()).noise == Noise("tied")
        with pytest.raises(ValueError, match="iid and of tied"):
            Point({1: 1.0}).step(tied)

    def test_have_steps_without_a_centre(self) -> None:
        near = Point({1: 1.0}).step(Point({2: 1.0}))
        with pytest.raises(ValueError, match="a centre of its own"):
            near.step(near)
        with pytest.raises(ValueError, match="a centre of its own"):
            Point({3: 1.0}, centre=(near,))


def test_steps_between_centres_are_the_new_ones_or_all() -> None:
    a, b, c = (Point({seed: 1.0}) for seed in range(3))
    assert steps_between((a,), (a, b, c)) == (b, c)
    assert steps_between((a, b), (a, b)) == ()
    assert steps_between((), (a, b)) == (a, b)
    assert steps_between((b,), (a, b)) == (a, b)
    assert steps_between((a, b, c), (a, b)) == (a, b)


def test_a_move_adds_the_noise_of_new_steps_and_of_the_displacement() -> None:
    a, b = Point({1: 1.0, 2: 1.0}), Point({3: 1.0, 4: 1.0, 5: 1.0})
    near = a.step(b).step(Point({6: 1.0}))
    assert [noise_seeds(near, centre) for centre in ((), (a,), (a, b), (b,))] == [6, 4, 1, 6]
    assert [noise_seeds(point, (a,)) for point in (Point(), a, a.step(b))] == [0, 2, 3]


TRAINED = Checkpoint(Path("trained"), "83deaa83")


def test_a_centre_can_begin_at_a_checkpoint() -> None:
    near = TRAINED.step(Point({1: 0.3}))
    theta = near.step(Point({2: 0.4}))
    assert isinstance(near, Point)
    assert not near.is_base
    assert theta.steps == (TRAINED, Point({1: 0.3}), Point({2: 0.4}))
    others = Point({1: 0.3}), Point({1: 0.3}, centre=(Point({9: 1}),))
    assert len({point.digest for point in (near, theta, *others)}) == 4
    assert near.digest != Checkpoint(Path("trained"), "other").step(Point({1: 0.3})).digest
    assert near == Checkpoint(Path("moved"), "83deaa83").step(Point({1: 0.3}))
    assert theta.step(Point()) == theta
    assert TRAINED.step(Point()) == TRAINED
    assert steps_between(near.centre, theta.centre) == (Point({1: 0.3}),)
    assert noise_seeds(near, ()) == 1
    assert noise_seeds(theta, near.centre) == 2


def test_a_point_around_a_checkpoint_is_no_displacement_from_the_base() -> None:
    near = TRAINED.step(Point({1: 0.3}))
    for use in (lambda: near.norm, lambda: near + Point({1: 1.0}), lambda: 2 * near, lambda: gram([near])):
        with pytest.raises(ValueError, match="no sum of noise from the base"):
            use()
    with pytest.raises(ValueError, match="it can only be the first"):
        Point({2: 1.0}, centre=(Point({1: 1.0}), TRAINED))
    with pytest.raises(ValueError, match="use that instead"):
        Point(centre=(TRAINED,))
    with pytest.raises(ValueError, match="a step has a centre of its own"):
        TRAINED.step(near)
