"""In bfloat16, on the model that runs use by default, which is fetched if it is not there."""

import pytest
import torch

from bench.compute.meter import Meter
from bench.engines.interface import Sampling
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine
from bench.models.source import resolve
from bench.weights.points import Point
from tasks.humaneval import HumanEval

SAMPLING = Sampling(max_new_tokens=16)


@pytest.fixture(scope="module")
def model():
    return resolve("smollm2-135m").prepare().path


@pytest.fixture(scope="module")
def engine(model, device):
    return VllmEngine(model, max_model_len=512, batch_size=8, device=device)


@pytest.fixture(scope="module")
def prompts(engine):
    task = HumanEval()
    return [engine.encode(task.messages(example)) for example in task.load().support[:4]]


def texts(engine, prompts):
    meter = Meter(engine.shape)
    with meter.account("setup"):
        return [completion.text for completion in engine.generate(prompts, SAMPLING, meter)]


def test_no_noise_is_no_change_and_the_base_comes_back_after_moves(engine, prompts):
    base = texts(engine, prompts)
    engine.move_to(Point({1: 0.0}))
    assert texts(engine, prompts) == base
    for seed in range(20):
        engine.move_to(Point({seed: 2e-2}))
    assert texts(engine, prompts) != base
    engine.move_to(Point())
    assert texts(engine, prompts) == base


def test_one_candidate_has_the_weights_that_the_transformers_engine_holds(engine, model, device):
    theirs = TransformersEngine(model, device=device)
    assert theirs.digest == engine.digest
    for place in (Point({7: 2e-3}), Point()):
        theirs.move_to(place)
        engine.move_to(place)
        (held,) = engine._vllm.collective_rpc(lambda worker: worker.bench_parameters)
        assert held.keys() == dict(theirs._model.named_parameters()).keys()
        for name, tensor in theirs._model.named_parameters():
            assert torch.equal(held[name], tensor), name
