"""The expected reward of prompts: its regression, its candidates, and that one candidate a prompt is grpo."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trained_run import trained

from bench.run.progress import ProgressDisplay
from methods.training.config import GrpoConfig
from methods.training.curriculum import endless_order
from methods.training.difficulty import IntermediateDifficulty
from methods.training.grpo import Grpo
from methods.training.pcl import Pcl, PclConfig

QUIET = ProgressDisplay(quiet=True)


class Model:
    """Model whose hidden state after a prompt is one of two axes, by the parity of the prompt's number."""

    device = "cpu"

    def __init__(self):
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=2))
        self.asked = []

    def __call__(self, input_ids, **_):
        self.asked += input_ids[:, 0].tolist()
        even = (input_ids % 2 == 0).double()
        return SimpleNamespace(hidden_states=[torch.stack([even, 1 - even], dim=-1)])


def chooser(candidates=4, memory=0.5, prompts=40):
    session = SimpleNamespace(
        batch_size=5,
        prompts=tuple(SimpleNamespace(token_ids=(n,)) for n in range(prompts)),
        tokenizer=SimpleNamespace(pad_token_id=0),
        model=Model(),
    )
    return session.model, IntermediateDifficulty(session, 0, candidates, 0.5, 0.1, memory)


def train(curriculum, rewards, steps):
    for step in steps:
        chosen = curriculum.choose(step, 8)
        curriculum.learn(chosen, [rewards[place % 2] for place in chosen], [])


def test_the_expected_reward_after_one_observation_is_that_worked_out_by_hand():
    _, curriculum = chooser(memory=1.0, prompts=8)
    (chosen,) = curriculum.choose(0, 1)
    curriculum.learn([chosen], [1.0], [])
    # Features are an axis and 1, so of squared norm 2: weights = 0.5 f / (2 + 0.1), for both kinds of prompts.
    features = curriculum._features([chosen, chosen + 1])
    np.testing.assert_allclose(0.5 + features @ curriculum._weights(), [0.5 + 1 / 2.1, 0.5 + 0.5 / 2.1])
    assert curriculum.report() == {"expected": [0.5], "reward": [1.0], "error": [0.5], "error_of_threshold": [0.5]}


def test_it_learns_forgets_and_resumes():
    _, curriculum = chooser()
    train(curriculum, (0.5, 0.0), range(10))
    assert {place % 2 for place in curriculum.choose(10, 8)} == {0}
    _, resumed = chooser()
    resumed.restore(curriculum.state())
    assert resumed.choose(11, 8) == curriculum.choose(11, 8)
    assert resumed.report() == curriculum.report()
    train(curriculum, (0.0, 0.5), range(11, 40))
    assert {place % 2 for place in curriculum.choose(40, 8)} == {1}
    curriculum.learn(chosen := curriculum.choose(41, 8), [float("nan")] * len(chosen), [])
    assert np.isfinite(curriculum.state()["moments"].numpy()).all()


def test_candidates_are_the_next_prompts_of_the_order_of_grpo_each_once():
    model, curriculum = chooser(candidates=3, prompts=10)
    order = list(islice(endless_order(0, 10, 0), 60))
    for step in range(6):
        chosen = curriculum.choose(step, 2)
        pool = order[6 * step : 6 * step + 6]
        assert sorted(model.asked) == sorted(set(pool))
        assert set(chosen) <= set(pool)
        assert len(set(chosen)) == 2
        model.asked.clear()


def test_one_candidate_a_prompt_makes_no_pass_and_costs_what_grpo_does():
    model, curriculum = chooser(candidates=1, prompts=10)
    assert [i for step in range(9) for i in curriculum.choose(step, 3)] == list(islice(endless_order(0, 10, 0), 27))
    curriculum.learn([0, 1, 2], [1.0] * 3, [])
    assert model.asked == []
    assert Pcl(PclConfig(candidates=1)).cost == Grpo(GrpoConfig()).cost
    method = Pcl(PclConfig())
    assert method.cost == Grpo(GrpoConfig()).cost + 4 / 8
    method.spread(3)
    assert method.cost == Grpo(GrpoConfig()).cost + 3 * 4 / 8  # each process passes over all candidates


def run(folder, method, **settings):
    settings |= {"lr": 1e-4, "batch": 16}
    return trained(folder, method, settings, gate="off", budget="300", limit=20)


@pytest.mark.slow
def test_one_candidate_a_prompt_ends_in_the_weights_of_grpo_and_the_passes_over_more_are_billed(tmp_path):
    plain, weights = run(tmp_path, "grpo")
    one, same = run(tmp_path, "pcl", candidates=1)
    assert one.report["training"]["steps"] == plain.report["training"]["steps"] > 3
    assert one.report["training"]["curve"] == plain.report["training"]["curve"]
    assert one.ledger == plain.ledger
    assert all(weights[name].equal(same[name]) for name in weights)
    four = run(tmp_path, "pcl")[0].report["training"]
    assert len(four["curriculum"]["expected"]) == four["steps"] > 3
    assert four["curriculum"]["expected"][0] == 0.5  # before any observation
    assert four["curve"] != plain.report["training"]["curve"]
    # The candidates' passes cover prompts without answers, so they cost less than the rollouts.
    assert "logprobs" not in plain.report["training"]["phases"]
    assert 0 < four["phases"]["logprobs"] < four["phases"]["rollout"]
