"""The vLLM engine in bfloat16 on SmolLM2-135M, the default model, which is downloaded if needed."""

from functools import partial

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
NEAR_TIE = 0.5
"""Largest difference of the two highest logits at which the engines may disagree; bfloat16 rounds logits to 1/8."""


@pytest.fixture(scope="module")
def model():
    return resolve("smollm2-135m").prepare().path


@pytest.fixture(scope="module")
def engine(model, device):
    return VllmEngine(model, max_model_len=512, batch_size=8, device=device)


@pytest.fixture(scope="module")
def theirs(model, device):
    return TransformersEngine(model, device=device)


@pytest.fixture(scope="module")
def prompts(engine):
    task = HumanEval()
    return [engine.encode(task.messages(example)) for example in task.load().support[:4]]


def answers(engine, prompts):
    meter = Meter(engine.profile)
    with meter.account("setup"):
        return [completion.token_ids for completion in engine.generate(prompts, SAMPLING, meter)]


def test_no_noise_is_no_change_and_the_base_comes_back_after_moves(engine, prompts):
    base = answers(engine, prompts)
    engine.move_to(Point({1: 0.0}))
    assert answers(engine, prompts) == base
    for seed in range(20):
        engine.move_to(Point({seed: 2e-2}))
    assert answers(engine, prompts) != base
    engine.move_to(Point())
    assert answers(engine, prompts) == base


def test_the_loader_receives_the_tensors_of_the_transformers_engine(engine, theirs, fed):
    assert theirs.digest == engine.digest
    for place in (Point({7: 2e-3}), Point()):
        theirs.move_to(place)
        found, held = fed(engine, partial(engine.move_to, place)), dict(theirs._model.named_parameters())
        assert found.keys() == held.keys()
        for name, tensor in held.items():
            assert torch.equal(found[name], tensor), name


def test_both_engines_give_equal_answers_or_differ_at_a_near_tie(engine, theirs, prompts):
    ours, expected = answers(engine, prompts), answers(theirs, prompts)
    common = 0
    for prompt, mine, their in zip(prompts, ours, expected, strict=True):
        at = next((i for i, (a, b) in enumerate(zip(mine, their, strict=False)) if a != b), len(their))
        common += at
        if mine != their:
            with torch.inference_mode():
                ids = torch.tensor([prompt + their[:at]], device=theirs._model.device)
                first, second = theirs._model(ids).logits[0, -1].float().topk(2).values.tolist()
            assert first - second <= NEAR_TIE
    assert common > sum(map(len, expected)) / 4
