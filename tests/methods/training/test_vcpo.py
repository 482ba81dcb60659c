"""VCPO: its formulas by hand, and that it reduces to GRPO."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training_steps import LR, PATH, REWARDS, open_session, train, weights
from transformers import AutoModelForCausalLM

from bench.errors import Refused
from methods.training.config import GrpoConfig
from methods.training.trainers import GroupTrainer
from methods.training.vcpo import Vcpo, VcpoConfig, capped, effective_share, recentred
from methods.training.vcpo_trainer import VarianceControlledTrainer
from tasks.interface import TaskTraits


def config(**settings):
    return VcpoConfig(**{"group": 4, "temperature": 3.0, "lr": LR, "steps_per_batch": 2} | settings)


def test_the_effective_sample_size_is_that_of_the_weights():
    assert effective_share(np.log([1.0, 1.0, 1.0, 9.0])) == pytest.approx(12**2 / 84 / 4)
    assert effective_share(np.zeros(7)) == effective_share(np.array([])) == 1.0
    assert effective_share(np.array([5000.0, 5000.0, 0.0, 0.0])) == pytest.approx(0.5)  # no overflow


def test_the_baseline_is_the_mean_reward_weighted_by_squared_weights_and_gradient_norms():
    # Rewards 1 and 0, w = 1 and 2, squared norms 1 and 1/2, so v = 1 and 2: the baseline is 1/3.
    half = np.array([[0.5, -0.5]])
    found = recentred(half, np.log([[1.0, 2.0]]), np.array([[1.0, 0.5]]), np.array([[True, True]]))
    np.testing.assert_allclose(found, [[2 / 3, -1 / 3]])
    # An answer that could not be scored does not count, and a group without gradients keeps its advantages.
    unscored = recentred(np.array([[0.5, -0.5, 0.0]]), np.zeros((1, 3)), np.ones((1, 3)), np.array([[1, 1, 0]]) > 0)
    np.testing.assert_allclose(unscored, [[0.5, -0.5, 0.0]])
    np.testing.assert_allclose(recentred(half, np.zeros((1, 2)), np.zeros((1, 2)), half != 0), half)


def test_weights_are_capped():
    np.testing.assert_allclose(capped(np.log([0.5, 8.0, 9.0, 1e300]), 8.0), [0.5, 8.0, 8.0, 8.0])
    assert capped(np.zeros(3), 8.0).tolist() == [1.0] * 3


def test_settings_and_plan():
    for loss in ("rloo", "gspo"):
        with pytest.raises(ValidationError, match=r"VCPO weighs whole answers .*expected dapo, grpo or dr_grpo"):
            VcpoConfig(loss=loss)
    method = Vcpo(VcpoConfig())
    method.spread(2)
    schedule = method.schedule(65_536, TaskTraits({"support": 400}))
    assert (schedule.batch, schedule.step) == (64, 4 * 64)
    assert method.multiple == 8 * 2 * 4


@pytest.mark.slow
def test_one_step_per_batch_with_the_mean_as_baseline_gives_grpo_s_weights(tmp_path):
    def trained(trainer, settings):
        session = open_session(tmp_path)
        loop = train(session, trainer, settings, tmp_path, steps=3)
        return weights(session), loop.rows, session.spent

    common = {"group": 4, "temperature": 3.0, "lr": LR}
    expected, rows, spent = trained(partial(GroupTrainer, loss="grpo"), GrpoConfig(**common))
    found, same, cost = trained(VarianceControlledTrainer, config(steps_per_batch=1, baseline="mean"))
    assert not expected.equal(weights(open_session(tmp_path)))
    assert found.equal(expected)
    assert (cost, [row.pop("ess") for row in same]) == (spent, [1.0] * 3)
    assert same == rows
    assert not trained(VarianceControlledTrainer, config(steps_per_batch=1))[0].equal(expected)


@pytest.mark.slow
def test_each_update_has_the_weights_the_baseline_and_the_rate_of_the_formula(tmp_path):
    rewards, parts, rates = [None, *REWARDS[1:]], [], []
    session = open_session(tmp_path, rewards)

    def keep(trainer, loop):
        rates.append(loop.optimizer.param_groups[0]["lr"])
        if not parts:
            parts.extend({name: value.clone() for name, value in part.items()} for part in trainer._buffered_inputs)

    loop = train(session, VarianceControlledTrainer, config(cap=1.05), tmp_path, before_update=keep)
    rollouts = session.rollouts
    model, shares, largest = AutoModelForCausalLM.from_pretrained(PATH), [], 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    for number, part in enumerate(parts):
        assert part["place"].tolist() == list(range(4 * number, 4 * number + 4))  # a whole group
        judged = torch.tensor([r for r in rewards[4 * number : 4 * number + 4] if r is not None], dtype=torch.float64)
        logs, means, norms = [], [], []
        for rollout in rollouts[4 * number : 4 * number + 4]:
            logits = model(torch.tensor([[*rollout.prompt, *rollout.answer]])).logits[0, len(rollout.prompt) - 1 : -1]
            scores, answer = torch.log_softmax(logits / 3.0, dim=-1), torch.tensor(rollout.answer)
            logprobs = scores.gather(-1, answer[:, None])[:, 0]
            chosen = torch.nn.functional.one_hot(answer, scores.shape[1])
            logs.append((logprobs.detach() - rollout.logprobs).double().sum())
            norms.append(((chosen - scores.detach().exp()) ** 2).double().sum())
            means.append(logprobs.mean())
        w = torch.stack(logs).exp()
        shares.append(float(w.sum() ** 2 / (w**2).sum() / 4))
        largest = max(largest, float(w.max()))
        v = (w**2 * torch.stack(norms))[-len(judged) :]
        advantages = (judged - (v * judged).sum() / v.sum()) / (judged.std() + 1e-4)
        used = (w.clamp(max=1.05)[-len(judged) :] * advantages).float()
        (-(used * torch.stack(means)[-len(judged) :]).sum() / 4).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = LR * math.sqrt(shares[-1])
        optimizer.step()
        optimizer.zero_grad()
    assert len(parts) == 2
    assert shares[0] == pytest.approx(1.0, abs=1e-6)
    assert shares[1] < 0.999
    assert largest > 1.05  # the cap matters
    assert rates == pytest.approx([LR * math.sqrt(share) for share in shares], rel=1e-4)
    assert loop.optimizer.param_groups[0]["lr"] == LR
    assert loop.rows[0]["ess"] == pytest.approx(sum(shares) / 2, rel=1e-4)
    by_hand = torch.cat([p.detach().flatten() for p in model.parameters()])
    moved = (by_hand - weights(open_session(tmp_path))).norm()
    assert (weights(session) - by_hand).norm() < 1e-3 * moved
    assert set(session.phases) == {"rollout", "update"}  # no pass for the log-probabilities before


def test_an_update_that_needs_several_passes_is_refused(tmp_path):
    session = open_session(tmp_path)
    session.batch_size = 3
    with pytest.raises(Refused, match=r"with 4 answers does not fit one pass of 3, .* batch of at most 6, or"):
        train(session, VarianceControlledTrainer, config(), tmp_path)
