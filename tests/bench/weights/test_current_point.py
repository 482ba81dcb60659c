import pytest

from bench.weights.current_point import CurrentPoint
from bench.weights.points import Point

FAR = Point({1: 0.1})


def test_weights_begin_at_the_base_and_stand_where_they_were_moved() -> None:
    current = CurrentPoint()
    assert current.place == Point()
    with current.moving_to(FAR):
        assert not current.is_at(FAR)
    assert current.place == FAR
    assert current.is_at(FAR)


def test_a_move_that_fails_leaves_no_place_until_another_one_succeeds() -> None:
    current = CurrentPoint()
    with pytest.raises(MemoryError), current.moving_to(FAR):
        raise MemoryError
    assert not current.is_at(FAR)
    assert not current.is_at(Point())
    with pytest.raises(RuntimeError, match="failed half way"):
        _ = current.place
    with current.moving_to(FAR):
        pass
    assert current.place == FAR
