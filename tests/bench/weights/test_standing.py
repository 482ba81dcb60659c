import pytest

from bench.weights.points import Point
from bench.weights.standing import Standing

FAR = Point({1: 0.1})


def test_weights_begin_at_the_base_and_stand_where_they_were_moved() -> None:
    standing = Standing()
    assert standing.place == Point()
    with standing.moving_to(FAR):
        assert not standing.is_at(FAR)
    assert standing.place == FAR
    assert standing.is_at(FAR)


def test_a_move_that_fails_leaves_no_place_until_another_one_succeeds() -> None:
    standing = Standing()
    with pytest.raises(MemoryError), standing.moving_to(FAR):
        raise MemoryError
    assert not standing.is_at(FAR)
    assert not standing.is_at(Point())
    with pytest.raises(RuntimeError, match="failed half way"):
        _ = standing.place
    with standing.moving_to(FAR):
        pass
    assert standing.place == FAR
