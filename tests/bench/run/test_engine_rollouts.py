"""Rollouts by an engine: what it is given, and what the trainer gets. tests/bench/engines/vllm samples by vLLM."""

import pytest
import torch
from tiny_families import make
from transformers import GenerationConfig

from bench.compute.ledger import Work
from bench.engines.interface import Completion, SampledAnswer
from bench.errors import BenchError
from bench.models.tensors import held
from bench.run.adapters import with_adapters
from bench.run.engine_rollouts import EngineSampler
from methods.interface import Lora

PAD = 0
PLAIN = GenerationConfig(do_sample=True, temperature=0.5, top_p=1.0, top_k=0, max_new_tokens=3)
RULE = object()


class Recorder:
    """Engine that keeps what it is given, and answers with the length of the prompt."""

    def sample_at(self, weights, prompts, sampling, reserve, end_rules):
        self.weights, self.prompts, self.sampling, self.end_rules = weights, prompts, sampling, end_rules
        reserve(Work(prefill_tokens=sum(map(len, prompts))))
        finishes = ["end" if len(prompt) < 3 else "length" for prompt in prompts]
        return [
            SampledAnswer(Completion("", (9,) * len(p), len(p), finish), (-0.5,) * len(p))
            for p, finish in zip(prompts, finishes, strict=True)
        ]


@pytest.fixture
def sampled():
    model, engine, booked = make("llama"), Recorder(), []
    model.generation_config.pad_token_id = PAD
    sampler = EngineSampler(model, engine, lambda: {(5, 6): RULE}, ("\n",), lambda *work: booked.append(work))
    return model, engine, sampler, booked


def generate(model, config=PLAIN, **more):
    ids = torch.tensor([[PAD, 5, 6], [7, 8, 9]])
    return model.generate(input_ids=ids, attention_mask=ids.ne(PAD).long(), generation_config=config, **more)


def test_the_engine_gets_weights_prompts_and_rules_and_the_trainer_padded_answers(sampled):
    model, engine, sampler, booked = sampled
    found = generate(model)
    assert found.tolist() == [[PAD, 5, 6, 9, 9, PAD], [7, 8, 9, 9, 9, 9]]
    assert (engine.prompts, engine.end_rules) == ([(5, 6), (7, 8, 9)], [RULE, None])
    assert (engine.sampling.max_new_tokens, engine.sampling.temperature, engine.sampling.stop) == (3, 0.5, ("\n",))
    assert booked == [(Work(prefill_tokens=5), "rollout")]
    assert [(r.prompt, r.answer, r.truncated) for r in sampler.rollouts] == [
        ((5, 6), (9, 9), False),
        ((7, 8, 9), (9, 9, 9), True),
    ]
    assert [r.logprobs.tolist() for r in sampler.rollouts] == [[-0.5] * 2, [-0.5] * 3]
    assert all(r.entropies is None for r in sampler.rollouts)
    assert all(torch.equal(engine.weights[name], tensor) for name, tensor in held(model).items())


def test_adapters_are_merged_for_the_engine(sampled):
    model, engine, _, _ = sampled
    base = {name: tensor.clone() for name, tensor in held(model).items()}
    adapted = with_adapters(model, Lora(rank=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    generate(adapted)
    assert engine.weights.keys() == base.keys()
    changed = {name for name, tensor in base.items() if not torch.equal(engine.weights[name], tensor)}
    assert changed == {name for name in base if name.endswith("proj.weight")}


def test_the_seed_follows_from_the_trainer_s_generator(sampled):
    model, engine, _, _ = sampled
    seeds = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        generate(model)
        seeds.append(engine.sampling.seed)
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(
    ("config", "given", "expected"),
    [
        (PLAIN, {"top_k": 5}, r"generate\(top_k=5\): an engine's rollouts take top_k=0 only"),
        (PLAIN, {"do_sample": False}, r"generate\(do_sample=False\): an engine's rollouts take do_sample=True only"),
        (GenerationConfig(do_sample=True, top_p=0.9), {}, r"top_p=0.9\): .* top_p=1.0 only"),
        (PLAIN, {"prefix_lengths": torch.ones(2)}, "cannot begin with given tokens; use --engine transformers"),
    ],
)
def test_another_distribution_than_the_model_s_is_refused(sampled, config, given, expected):
    with pytest.raises(BenchError, match=expected):
        generate(sampled[0], config, **given)
