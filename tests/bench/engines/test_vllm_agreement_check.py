"""Tests of the agreement check, which run without vLLM."""

import numpy as np
import pytest

from bench.engines.vllm.agreement_check import PARTS, PROBE, error_of_moves, probe
from bench.weights.points import Point


class Model:
    """Log-probabilities that change by the distance from the base; the second set has an error that depends on it."""

    def __init__(self, error) -> None:
        self.error = error
        self.visited: list[Point] = []

    def both_at(self, place: Point) -> tuple[list[float], list[float]]:
        self.visited.append(place)
        distance = sum(place.amplitudes.values())
        ours = np.linspace(-3, -1, PROBE) + distance
        return list(ours), list(ours + self.error(distance))


@pytest.mark.parametrize("error", [0.0, 0.1, 0.19])
def test_the_error_is_relative_to_the_change_and_a_small_one_ends_the_check_at_the_first_move(error: float) -> None:
    model = Model(lambda distance: error * distance)
    assert error_of_moves(model.both_at, 8, 0.2) == pytest.approx(error)
    assert model.visited == [Point({0: 8 * PARTS[0]}), Point()]  # it ends at the base


def test_an_error_at_the_base_counts_too() -> None:
    assert error_of_moves(Model(lambda distance: 1.0 * (distance == 0)).both_at, 8, 0.2) == pytest.approx(0.5)


def test_rounding_errors_at_far_points_are_ignored_if_near_points_agree() -> None:
    for garbled in (float("nan"), 9.0):
        model = Model(lambda distance, garbled=garbled: garbled if distance > 1 else 0.0)
        assert error_of_moves(model.both_at, 8, 0.2) == 0
        assert model.visited[-1] == Point()


def test_a_tensor_that_is_not_updated_shows_at_every_distance() -> None:
    model = Model(lambda distance: -0.4 * distance)
    assert error_of_moves(model.both_at, 8, 0.2) == pytest.approx(0.4)
    assert len(model.visited) == 2 * len(PARTS)


@pytest.mark.parametrize(("vocabulary", "longest"), [(16, 40), (49152, 511), (49152, 10)])
def test_the_probe_has_the_maximum_length_and_spans_the_vocabulary(vocabulary: int, longest: int) -> None:
    prompt = probe(vocabulary, longest)
    assert len(prompt) == min(PROBE, longest)
    assert prompt[0] == 0
    assert vocabulary * 0.85 <= prompt[-1] < vocabulary
