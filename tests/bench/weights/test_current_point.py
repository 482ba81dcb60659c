import pytest

from bench.weights.current_point import CurrentPoint
from bench.weights.points import Point

FAR = Point({1: 0.1})


def test_weights_start_at_the_base_and_follow_moves() -> None:
    current = CurrentPoint()
    assert current.place == Point()
    with current.moving_to(FAR):
        assert not current.is_at(FAR)
    assert current.place == FAR
    assert current.is_at(FAR)


def test_after_a_failed_move_the_point_is_unknown_until_another_move_succeeds() -> None:
    current = CurrentPoint()
    with pytest.raises(MemoryError), current.moving_to(FAR):
        raise MemoryError
    assert not current.is_at(FAR)
    assert not current.is_at(Point())
    with pytest.raises(RuntimeError, match="failed halfway"):
        _ = current.place
    with current.moving_to(FAR):
        pass
    assert current.place == FAR
