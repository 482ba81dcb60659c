"""Vector policy optimisation: the reward of a set, its advantage, settings, and that one part and m = 1 give grpo."""

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.training.vpo import Vpo, VpoConfig, advantages, reward_vectors, set_rewards, standardised
from tasks.addition import Addition
from tasks.interface import Task, TaskTraits

QUIET = ProgressDisplay(quiet=True)
NAN = float("nan")
PARTS = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, {"a": 0.0, "b": 0.0}, {"a": 0.5, "b": 0.5}]


def run(folder, method, settings, **fields):
    config = {"task": "addition", "model": "tiny-adder", "budget": "400", "limit": 60, "dtype": "float32"} | fields
    settings = {"lr": 1e-4, "batch": 16, "group": 8} | settings
    prepared = prepare(RunConfig(method=method, method_config=settings, **config), folder, QUIET)
    result = execute(prepared, QUIET)
    assert result.status == "ok", result.traceback
    return result, load_file(prepared.folder / "artifact" / "model.safetensors")


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


def test_answers_without_a_score_count_in_no_set_and_have_no_advantage():
    one, none = {"r": 1.0}, {"r": 0.0}
    groups = [[one, None, none, none, None, None], [None] * 6]
    found = advantages(groups, 2, 4, np.random.default_rng(0))
    # Three sets: 1, 0, and one without a scored answer. Mean .5, deviation sqrt(.5).
    high = 0.5 / (0.5**0.5 + 1e-4)
    np.testing.assert_allclose(found, [[high, 0, -high, -high, 0, 0], [0] * 6], rtol=1e-6)


def test_advantages_by_hand():
    # Mean .25; deviation with Bessel's correction: sqrt((.75^2 + 3 * .25^2) / 3) = .5
    np.testing.assert_allclose(standardised(np.array([1.0, 0, 0, 0])), np.array([0.75, -0.25, -0.25, -0.25]) / 0.5001)
    np.testing.assert_array_equal(standardised(np.array([NAN, 1.0])), [0, 0])
    # With one part, the reward of a set is that of its best answer: sets of 1, 0, 0, 0.
    group = [{"r": float(reward)} for reward in (0, 1, 0, 0, 0, 0, 0, 0)]
    found = advantages([group], 2, 64, np.random.default_rng(0))
    np.testing.assert_allclose(found[0], np.repeat(np.array([0.75, -0.25, -0.25, -0.25]) / 0.5001, 2), rtol=1e-6)


def test_all_sets_of_a_prompt_share_the_weights():
    found = advantages([[*PARTS[:2], *PARTS[:2]]], 2, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(found, 0)  # equal sets, equal rewards


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
    _, own = run(tmp_path, "vpo", {"m": 1})
    assert not all(weights[name].equal(own[name]) for name in weights)
