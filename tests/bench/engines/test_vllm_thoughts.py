"""Thoughts in the vLLM engine, with a stand-in for vLLM: which requests it gets, and what is recorded of them."""

from itertools import count
from types import SimpleNamespace

import pytest
import torch
from tiny_thinker import write_thinker

from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.interface import Sampling
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine

SAMPLING = Sampling(max_new_tokens=30, max_think_tokens=10)


class Requests:
    """The part of vLLM's engine that ours calls: greedy answers of a model, one token a step for each request."""

    def __init__(self, model):
        self.model, self.running, self.asked = model, {}, []

    def add(self, name, prompt, left):
        self.running[name] = list(prompt)
        self.asked.append((len(prompt), left))

    def abort_request(self, names):
        for name in names:
            del self.running[name]

    @torch.inference_mode()
    def step(self):
        found = []
        for name, tokens in self.running.items():
            token = int(self.model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax())
            tokens.append(token)
            found.append(SimpleNamespace(request_id=name, outputs=[SimpleNamespace(token_ids=[token])]))
        return found


class Standing(VllmEngine):
    """The engine around the stand-in. Its own start needs vLLM."""

    def __init__(self, ours, batch_size):
        self.__dict__ |= {
            name: value for name, value in ours.__dict__.items() if name not in ("_space", "_linears", "settings")
        }
        self.positions, self._batch_size, self._step_tokens = 512, batch_size, 4096
        self._vllm, self._ids = Requests(ours._model), count()
        self._threads = torch.get_num_threads()

    def _request(self, prompt, sampling, seed, owner, **more):
        name = str(next(self._ids))
        self._vllm.add(name, prompt, sampling.max_new_tokens)
        return name


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return TransformersEngine(write_thinker(tmp_path_factory.mktemp("thinker")))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_answer_goes_on_behind_a_thought_that_was_ended_and_what_runs_is_recorded(ours, batch_size):
    prompts = [ours.encode([{"role": "user", "content": f"{n} plus {n * n}?"}]) for n in range(6)]
    meters = [Meter(ours.profile) for _ in range(2)]
    engine = Standing(ours, batch_size)
    with meters[0].account("setup"):
        expected = ours.generate(prompts, SAMPLING, meters[0])
    with meters[1].account("setup"):
        found = engine.generate(prompts, SAMPLING, meters[1])
    assert found == expected
    cut = [(prompt, each) for prompt, each in zip(prompts, found, strict=True) if each.thought_cut]
    assert 0 < len(cut) < len(prompts)
    end = ours.longest_thought_end
    behind = [(len(prompt) + 10 + end, 20 - end) for prompt, _ in cut]
    assert sorted(engine._vllm.asked) == sorted([*((len(prompt), 30) for prompt in prompts), *behind])
    assert not engine._vllm.running
    one, two = (meter.ledger["setup"] for meter in meters)
    assert two.evaluations == one.evaluations == len(prompts)
    assert two.prefill_tokens - one.prefill_tokens == sum(length for length, _ in behind)
    assert one.decode_tokens - two.decode_tokens == (end + 1) * len(cut)  # entered with the prompt
    assert two.head_tokens == one.head_tokens - end * len(cut)


def test_a_request_behind_a_thought_is_not_started_if_the_budget_does_not_cover_it(ours):
    prompts = [ours.encode([{"role": "user", "content": f"{n} plus {n * n}?"}]) for n in range(6)]
    meter = Meter(ours.profile)
    with meter.account("setup"):
        found = ours.generate(prompts, SAMPLING, meter)
    prompt = next(prompt for prompt, each in zip(prompts, found, strict=True) if each.thought_cut)
    engine, tokens = Standing(ours, 1), len(prompt)
    thought = Work(
        prefill_tokens=tokens, decode_tokens=9, head_tokens=10, attended=ours.profile.attended(0, tokens + 9)
    )
    meter = Meter(ours.profile)
    with pytest.raises(AllowanceSpent), meter.account("setup", meter.flops(thought)):
        engine.generate([prompt], SAMPLING, meter)
    assert engine._vllm.asked == [(tokens, 30)]
    assert not engine._vllm.running
