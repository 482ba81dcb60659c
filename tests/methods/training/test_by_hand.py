"""Loss and gradient of a step equal a computation by hand: advantages, log-probabilities, temperature, accumulation."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.training import TrainingSession
from bench.weights.checkpoint import read_checkpoint
from methods.interface import Lora
from methods.training.config import GrpoConfig, PpoConfig
from methods.training.loop import Finished, Loop
from methods.training.trainers import GroupTrainer, PolicyValueTrainer
from tasks.addition import Addition
from tasks.interface import Score

PATH = resolve("tiny-adder").prepare(lambda *_: None).path
SCHEDULE = SimpleNamespace(batch=8, train=64, save_every=100, step=32)
TEMPERATURE = 3.0
REWARDS = [1.0, 0.0, 0.25, 0.0, 0.5, 1.0, 1.0, 0.75]


@pytest.fixture
def session(tmp_path):
    return open_session(tmp_path)


def open_session(folder, lora=None):
    engine = TransformersEngine(PATH, dtype="float32")
    task = Addition()
    evaluator = Evaluator(engine, task, "chat", Meter(engine.profile, 10**12), Journal(folder / "journal.jsonl"))
    return TrainingSession(evaluator, task.load().support, folder / "training", 10**12, 0, lora)


def one_step(session, config, trainer, folder, rewards=REWARDS):
    """Return the row of the first step, whose answers get these rewards; None for one that is not judged."""
    values = [(session.value_model(), 1e-4)] if trainer is PolicyValueTrainer else []
    loop = Loop(SimpleNamespace(seed=0), session, config, SCHEDULE, [(session.model, 1e-4), *values])
    rows = []

    def end(row):
        rows.append(row)
        raise Finished

    loop.end_step = end
    session.judge = lambda *_: [
        Score(reward=reward or 0.0, correct=reward == 1.0, status="infrastructure" if reward is None else "ok")
        for reward in rewards
    ]
    loop.run(SimpleNamespace(advance=lambda *_, **__: None), trainer(config, loop, str(folder / "trl")).train)
    return rows[0]


def by_hand(rollouts, advantages, temperature=TEMPERATURE):
    """Return loss and gradient norm of the policy gradient, a mean over all tokens, without padding or batches.

    The ratio is 1 before the first update, so its value is 1 and its gradient that of the log-probability.
    """
    model = AutoModelForCausalLM.from_pretrained(PATH)
    tokens = sum(len(rollout.answer) for rollout in rollouts)
    loss = 0.0
    for rollout, advantage in zip(rollouts, advantages, strict=True):
        logits = model(torch.tensor([[*rollout.prompt, *rollout.answer]])).logits[0, len(rollout.prompt) - 1 : -1]
        scores = torch.log_softmax(logits / temperature, dim=-1)
        logprobs = scores.gather(-1, torch.tensor([rollout.answer]).T)[:, 0]
        torch.testing.assert_close(logprobs.detach(), rollout.logprobs, rtol=1e-4, atol=1e-5)
        loss = loss - (advantage * (logprobs - logprobs.detach()).exp()).sum() / tokens
    loss.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    return float(loss.detach()), float(norm)


def group_advantages(rewards, size):
    """Return the advantages of GRPO: by mean and deviation of the judged answers of each group, else 0."""
    found = []
    for start in range(0, len(rewards), size):
        group = rewards[start : start + size]
        judged = torch.tensor([reward for reward in group if reward is not None])
        mean, deviation = float(judged.mean()), float(judged.std())
        found += [0.0 if reward is None else (reward - mean) / (deviation + 1e-4) for reward in group]
    return found


# A pass of at most 2 of the 8 answers accumulates gradients over 4 passes.
@pytest.mark.parametrize("batch_size", [64, 2])
@pytest.mark.parametrize("temperature", [TEMPERATURE, 4.0])
def test_grpo_s_loss_and_gradient_are_those_of_its_formula(session, tmp_path, batch_size, temperature):
    session.batch_size = batch_size
    config = GrpoConfig(group=4, temperature=temperature)
    row = one_step(session, config, GroupTrainer, tmp_path)
    assert len({len(rollout.answer) for rollout in session.rollouts}) > 1  # padding and masks matter
    loss, norm = by_hand(session.rollouts, group_advantages(REWARDS, 4), temperature)
    assert row["loss"] == pytest.approx(loss, abs=1e-6)
    assert row["norm"] == pytest.approx(norm, rel=1e-4)
    assert norm > 0.1


def test_an_answer_that_was_not_judged_is_left_out_of_its_group_and_has_no_loss(session, tmp_path):
    rewards = [None, *REWARDS[1:]]
    row = one_step(session, GrpoConfig(group=4, temperature=TEMPERATURE), GroupTrainer, tmp_path, rewards)
    loss, norm = by_hand(session.rollouts, group_advantages(rewards, 4))
    assert row["loss"] == pytest.approx(loss, abs=1e-6)
    assert row["norm"] == pytest.approx(norm, rel=1e-4)
    assert row["norm"] != pytest.approx(by_hand(session.rollouts, group_advantages(REWARDS, 4))[1], rel=1e-2)


def test_ppo_s_gradient_is_that_of_its_formula_with_values_of_0(session, tmp_path):
    """With values of 0 and gamma = lambda = 1, the advantage of each token is the reward, whitened over all tokens."""
    config = PpoConfig(mini_batches=1, temperature=1.25)
    row = one_step(session, config, PolicyValueTrainer, tmp_path)
    # The trainer takes the padding id for the end of an answer, wherever it was sampled.
    assert all(session.tokenizer.pad_token_id not in rollout.answer for rollout in session.rollouts)
    lengths = torch.tensor([len(rollout.answer) for rollout in session.rollouts])
    each = torch.tensor(REWARDS).repeat_interleave(lengths)
    advantages = (torch.tensor(REWARDS) - each.mean()) * torch.rsqrt(each.var() + 1e-8)
    loss, norm = by_hand(session.rollouts, advantages.tolist(), 1.25)
    assert row["loss"] == pytest.approx(loss, abs=1e-6)
    assert row["norm"] == pytest.approx(norm, rel=1e-4)
    assert norm > 0.1


def test_merged_adapters_are_the_weights_plus_their_scaled_products(tmp_path):
    session = open_session(tmp_path, Lora(rank=2, alpha=6))
    torch.manual_seed(0)
    adapters = {}
    for name, parameter in session.model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.02)
            part = name.split(".lora_")[0].removeprefix("base_model.model.") + ".weight"
            adapters.setdefault(part, {})["lora_A" if "lora_A" in name else "lora_B"] = parameter.detach().clone()
    checkpoint = session.finish({})
    base = dict(AutoModelForCausalLM.from_pretrained(PATH).named_parameters())
    found = read_checkpoint(checkpoint)
    assert found.keys() == base.keys()
    assert adapters.keys() < base.keys()
    for name, weight in base.items():
        factors = adapters.get(name)
        expected = weight if factors is None else weight + 6 / 2 * factors["lora_B"] @ factors["lora_A"]
        torch.testing.assert_close(found[name], expected.detach(), rtol=1e-5, atol=1e-6)
