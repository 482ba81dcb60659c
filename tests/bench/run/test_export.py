import json

import pytest

from bench.errors import BenchError
from bench.run.export import read_point
from bench.weights.points import Point
from methods.interface import describe_point

NEAR = Point({1: 0.1, 2: -0.25}).step(Point({3: 1e-3})).step(Point({1: 0.2}))


@pytest.mark.parametrize("point", [Point(), Point({7: 0.1}), Point({7: 0.1}, "tied"), NEAR], ids=str)
def test_a_point_is_rebuilt_from_its_description(point, tmp_path):
    origin = json.loads(json.dumps(describe_point(point)))
    assert read_point(tmp_path / "point.json", origin) == point
    assert ("centre" in origin) == bool(point.centre)


def test_a_point_of_other_noise_is_not_rebuilt(tmp_path):
    with pytest.raises(BenchError, match=r"its noise is pink, and this version of bench draws philox"):
        read_point(tmp_path / "point.json", describe_point(NEAR) | {"noise": "pink"})
