import json

import pytest
import torch

from bench.errors import BenchError
from bench.run.export import _trained, read_point
from bench.weights.checkpoint import write_checkpoint
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


def test_a_point_around_trained_weights_names_their_digest(tmp_path):
    checkpoint = write_checkpoint(tmp_path, {"w": torch.ones(2)})
    origin = json.loads(json.dumps(describe_point(checkpoint.step(Point({1: 0.5})).step(Point({2: 0.25})))))
    assert origin["start"] == checkpoint.digest
    assert (origin["centre"], origin["amplitudes"]) == ([{"1": 0.5}], {"2": 0.25})
    assert read_point(tmp_path / "point.json", origin) == Point({1: 0.5}).step(Point({2: 0.25}))


def test_the_checkpoint_of_a_run_that_trained_several_times_is_found_by_its_digest(tmp_path):
    first = write_checkpoint(tmp_path / "training" / "finished", {"w": torch.ones(2)})
    assert _trained(tmp_path, first.digest).folder == first.folder
    again = write_checkpoint(tmp_path / "training" / "training-2" / "finished", {"w": torch.zeros(2)})
    assert _trained(tmp_path, again.digest).folder == again.folder
    assert _trained(tmp_path, first.digest).folder == first.folder
