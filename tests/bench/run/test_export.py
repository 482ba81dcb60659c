import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError
from bench.models.embedded import EMBEDDED
from bench.models.tensors import held
from bench.run.artifacts import adapted_weights
from bench.run.context import DeploymentContext
from bench.run.export import _trained, read_point, write_float32
from bench.weights.checkpoint import saved_weights, write_checkpoint
from bench.weights.layout import Layout
from bench.weights.points import Point
from methods.interface import SingleModel, describe_point

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
    # An analysis does not take it for a point around the base.
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "point.json").write_text(json.dumps(origin | {"prompt": "default"}))
    with pytest.raises(BenchError, match="the artifact's weights are gone; run it again"):
        adapted_weights(SimpleNamespace(folder=tmp_path / "lost", run=tmp_path), {}, Layout({}), tmp_path)


def test_the_checkpoint_of_a_run_that_trained_several_times_is_found_by_its_digest(tmp_path):
    first = write_checkpoint(tmp_path / "training" / "finished", {"w": torch.ones(2)})
    assert _trained(tmp_path, first.digest).folder == first.folder
    again = write_checkpoint(tmp_path / "training" / "training-2" / "finished", {"w": torch.zeros(2)})
    assert _trained(tmp_path, again.digest).folder == again.folder
    assert _trained(tmp_path, first.digest).folder == first.folder


@pytest.mark.slow
def test_a_point_around_trained_weights_is_exported_as_it_was_before_rounding(tmp_path):
    base = str(EMBEDDED["tiny-adder"].prepare().path)
    engine = TransformersEngine(base, dtype="bfloat16")
    trained = {name: tensor + 1e-3 for name, tensor in held(engine.trainable()[0]).items()}
    deployed = {name: tensor.dtype for name, tensor in held(engine._model).items()}
    first = write_checkpoint(tmp_path / "training" / "finished", trained, deployed)
    write_checkpoint(tmp_path / "training" / "training-2" / "finished", {"w": torch.ones(2)})
    point = first.step(Point({1: 2e-3})).step(Point({2: 1e-3}))
    model = SimpleNamespace(digest=engine.digest)
    result = SimpleNamespace(engine=engine.settings, model=model, config=SimpleNamespace(model="tiny-adder"))
    for name, place in (("around", point), ("base", Point())):
        (tmp_path / name).mkdir()
        deployment = DeploymentContext(SimpleNamespace(engine=engine), [], None)
        SingleModel(place).save(deployment, tmp_path / name)
    copy = tmp_path / "copy"
    for name in ("around", "base"):
        shutil.copytree(tmp_path / name, copy / name)
    write_float32(tmp_path, result, copy)
    for name in ("around", "base"):
        exact, rounded = saved_weights(copy / name), saved_weights(tmp_path / name)
        assert {tensor.dtype for tensor in exact.values()} == {torch.float32}
        assert all(torch.equal(tensor.to(rounded[key].dtype), rounded[key]) for key, tensor in exact.items())
    exact, rounded = saved_weights(copy / "around"), saved_weights(tmp_path / "around")
    assert not all(torch.equal(tensor, rounded[key].float()) for key, tensor in exact.items())
    # Without the weights that it lies around, the model stays as it is.
    shutil.rmtree(tmp_path / "training")
    with pytest.raises(BenchError, match=r"finished/model.safetensors: weights cannot be read .* leave out --dtype"):
        write_float32(tmp_path, result, copy)
