import pytest
from simulated_populations import World, found

pytestmark = pytest.mark.slow


def test_planted_structure_is_found_by_other_candidates_on_other_examples():
    shares = found(World(candidates=200, examples=60, planted=0.8), 25, permutations=59)
    assert shares.shared[1] >= 0.8
    assert shares.reproduced[1] >= 0.8


def test_qualities_without_direction_are_reproduced_and_not_shared():
    shares = found(World(candidates=80, examples=40, own=0.8), 60, permutations=39)
    assert shares.reproduced[1] >= 0.8
    # Binomial, 60 draws at 5 %: more than 8 come once in a hundred such tests.
    assert max(shares.shared) <= 8 / 60


def test_where_nothing_is_nothing_is_found():
    shares = found(World(candidates=80, examples=40), 60, permutations=39)
    assert max(*shares.shared, *shares.reproduced) <= 8 / 60
