import pytest
from simulated_populations import SimulatedPopulation, detection_rates

pytestmark = pytest.mark.slow


def test_planted_structure_is_detected_in_other_candidates_on_other_examples():
    rates = detection_rates(SimulatedPopulation(candidates=200, examples=60, planted=0.8), 25, permutations=59)
    assert rates.shared[1] >= 0.8
    assert rates.reproduced[1] >= 0.8


def test_qualities_without_direction_are_reproduced_and_not_shared():
    rates = detection_rates(SimulatedPopulation(candidates=80, examples=40, own=0.8), 60, permutations=39)
    assert rates.reproduced[1] >= 0.8
    # Binomial with 60 draws at 5 %: more than 8 occur in one of a hundred such tests.
    assert max(rates.shared) <= 8 / 60


def test_without_structure_none_is_detected():
    rates = detection_rates(SimulatedPopulation(candidates=80, examples=40), 60, permutations=39)
    assert max(*rates.shared, *rates.reproduced) <= 8 / 60
