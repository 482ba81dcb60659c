"""Vector policy optimisation: the reward of a set, its advantage, settings, and that one part and m = 1 give grpo."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from trained_run import trained

from bench.run.progress import ProgressDisplay
from methods.training.loop import Loop
from methods.training.trainers import GroupTrainer
from methods.training.vpo import Vpo, VpoConfig, reward_vectors, rewards_of_sets, set_rewards
from methods.training.vpo_trainer import SetTrainer
from tasks.addition import Addition
from tasks.interface import Score, Task, TaskTraits

QUIET = ProgressDisplay(quiet=True)
NAN = float("nan")
PARTS = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, {"a": 0.0, "b": 0.0}, {"a": 0.5, "b": 0.5}]


def run(folder, method, settings, **fields):
    settings = {"lr": 1e-4, "batch": 16, "group": 8} | settings
    return trained(folder, method, settings, **{"budget": "400", "limit": 60} | fields)


def test_a_set_is_worth_its_best_answer_under_each_weight():
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    vectors = reward_vectors(PARTS)
    # The first set has a specialist for either part: 1, 1 and .5. The second has .5 under every weight.
    np.testing.assert_allclose(set_rewards(vectors, 2, weights), [2.5 / 3, 0.5])
    np.testing.assert_allclose(set_rewards(vectors, 1, weights), [0.5, 0.5, 0.0, 0.5])
    np.testing.assert_allclose(set_rewards(vectors, 4, weights), [2.5 / 3])


def test_the_mean_over_draws_is_that_of_the_uniform_distribution():
    weights = np.random.default_rng(0).dirichlet([1.0, 1.0], size=20_000)
    (found,) = set_rewards(reward_vectors(PARTS[:2]), 2, weights)
    assert found == pytest.approx(0.75, abs=0.005)  # E max(w, 1 - w), w uniform in [0, 1]


def test_a_part_that_an_answer_lacks_is_0_and_an_answer_without_a_score_is_unknown():
    found = reward_vectors([{"a": 1.0}, {"b": 0.5}, None, {}])
    np.testing.assert_array_equal(found, [[1.0, 0.0], [0.0, 0.5], [NAN, NAN], [0.0, 0.0]])
    assert reward_vectors([None, None]).shape == (2, 1)


def test_each_answer_has_the_reward_of_its_set_and_one_without_a_score_has_none():
    one, none = {"r": 1.0}, {"r": 0.0}
    groups = [[one, None, none, none, None, None], [none, none, one, one, none, one]]
    found = rewards_of_sets(groups, 2, 64, np.random.default_rng(0))
    np.testing.assert_allclose(found, [[1.0, NAN, 0.0, 0.0, NAN, NAN], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]])


def test_with_one_part_and_m_1_the_reward_of_a_set_is_that_of_its_answer():
    rewards = np.random.default_rng(1).random((3, 8))
    groups = [[{"r": float(reward)} for reward in row] for row in rewards]
    found = rewards_of_sets(groups, 1, 64, np.random.default_rng(0))
    np.testing.assert_array_equal(found.astype(np.float32), rewards.astype(np.float32))


def test_all_sets_of_a_prompt_share_the_weights():
    found = rewards_of_sets([[*PARTS[:2], *PARTS[:2]]], 2, 3, np.random.default_rng(0))
    assert len(set(found[0])) == 1
    assert 0.5 < found[0, 0] < 1


def test_the_standard_deviation_of_sets_is_larger_by_the_factor_that_the_docstring_names():
    sets = np.array([1.0, 0.0, 0.0, 0.5])
    assert sets.std(ddof=1) / np.repeat(sets, 4).std(ddof=1) == pytest.approx((4 / 3 * 15 / 16) ** 0.5)
    assert f"{(4 / 3 * 15 / 16) ** 0.5:.2f}" == "1.12"


def test_an_answer_that_was_cut_off_is_punished_in_every_part_and_one_without_a_score_has_none():
    loop = Loop.__new__(Loop)
    loop.config, loop.rollouts = VpoConfig(truncated="punish"), ()
    loop.scores = [Score(1.0, True), Score(1.0, True), Score(0.0, False, status="infrastructure"), Score(0.0, False)]
    parts = [{"a": 1.0}, {"a": 1.0}, {"a": 1.0}, None]
    rollouts = [SimpleNamespace(truncated=truncated) for truncated in (False, True, False, False)]
    loop.training = SimpleNamespace(rollouts=rollouts, parts=lambda examples, answers, scores: parts)
    assert loop.parts(["1+1"] * 4, [[1]] * 4) == [{"a": 1.0}, {"a": 0.0}, None, None]


def test_a_set_whose_answers_two_processes_hold_is_rewarded_as_a_whole(monkeypatch):
    own, rewards = [{"r": 0.0}, {"r": 1.0}], torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    monkeypatch.setattr(GroupTrainer, "_calculate_rewards", lambda self, *_: rewards)  # gathered already
    trainer = SetTrainer.__new__(SetTrainer)
    trainer._config, trainer._group = VpoConfig(group=4, m=2, draws=4), 4
    trainer._loop = SimpleNamespace(seed=0, step=0, parts=lambda examples, answers: own)
    trainer._training = SimpleNamespace(ranks=SimpleNamespace(gather=lambda mine: [[{"r": 0.0}, None], mine]))
    found = trainer._calculate_rewards([{"example": "1+1"}] * 2, None, None, [[1], [2]])
    torch.testing.assert_close(found, torch.tensor([[0.0], [NAN], [1.0], [1.0]]), equal_nan=True)


@pytest.mark.parametrize(("settings", "nearest"), [({"m": 3}, "15"), ({"group": 4}, "8"), ({"m": 16}, "32")])
def test_a_group_that_is_not_two_or_more_sets_is_refused(settings, nearest):
    with pytest.raises(ValidationError, match=rf"two or more sets of m=\d+ answers; expected .* such as {nearest}"):
        VpoConfig(**settings)


def test_the_plan_names_the_parts_of_the_reward():
    sizes = {"support": 100, "select": 10, "gate": 10}
    plan = Vpo(VpoConfig()).plan(4000, TaskTraits(sizes, rewards_by="the tests"))
    assert plan.notes[-1] == "the parts of a reward are the tests"
    plan = Vpo(VpoConfig()).plan(4000, TaskTraits(sizes))
    assert plan.notes[-1] == "the reward has no parts here, so that of a set is the reward of the best of its 4 answers"


@pytest.mark.slow
def test_with_one_part_and_m_1_the_weights_are_those_of_grpo(tmp_path, monkeypatch):
    monkeypatch.setattr(Addition, "rewards", Task.rewards)
    plain, weights = run(tmp_path, "grpo", {})
    same, equal = run(tmp_path, "vpo", {"m": 1})
    _, best = run(tmp_path, "vpo", {"m": 2})
    assert plain.report["training"]["steps"] >= 3
    assert plain.report["training"] == same.report["training"]
    assert plain.ledger["train"] == same.ledger["train"]
    assert all(weights[name].equal(equal[name]) for name in weights)
    assert not all(weights[name].equal(best[name]) for name in weights)


@pytest.mark.slow
def test_a_replaced_reward_is_the_only_part(tmp_path):
    plain, weights = run(tmp_path, "grpo", {}, reward="random")
    _, equal = run(tmp_path, "vpo", {"m": 1}, reward="random")
    assert plain.report["training"]["steps"] >= 3
    assert all(weights[name].equal(equal[name]) for name in weights)
