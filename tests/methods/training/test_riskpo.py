"""Advantages of bundles: the formula, the tracked quantiles, and the settings at which they are those of GRPO."""

import re
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError
from trained_run import trained

from bench.errors import Refused
from bench.run.progress import ProgressDisplay
from methods.training.grpo import Grpo
from methods.training.loop import Loop
from methods.training.riskpo import RiskPo, RiskPoConfig, bundle_advantages, first_quantiles, paper_scores, tracked
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
NAN = float("nan")
REWARDS = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
PLAIN = {"omega": 0, "alpha": 0, "beta": 1, "bundle": 1, "baseline": "mean", "scaled": False}
"""Settings at which the advantages are rewards without their group's mean."""


class Unscaled(Grpo):
    """GRPO whose advantages are not divided by the group's standard deviation."""

    def train(self, loop, folder):
        from methods.training.trainers import GroupTrainer

        GroupTrainer(self.config, loop, folder, scaled=False).train()


def test_the_advantages_are_those_worked_out_by_hand():
    scores = paper_scores(REWARDS, 2)
    np.testing.assert_array_equal(scores, [[2, 1, 0]])
    quantiles = first_quantiles(scores, (0.2, 0.8))
    np.testing.assert_allclose(quantiles, [0.4, 1.6])
    # A_CVaR = 0, 0, -0.4 / 0.2 = -2.  A_RVaR = 0, (0.6 + 0.4 - 1.6) / 0.6 = -1, (0.4 - 1.6) / 0.6 = -2.
    # A = (1.5 A_CVaR + A_RVaR) / 2.5 = 0, -0.4, -2.
    plain = bundle_advantages(REWARDS, quantiles, RiskPoConfig(bundle=2, scaled=False))
    np.testing.assert_allclose(plain, [[0, -0.4, -2]] * 2, atol=1e-12)
    # The scores 2, 1, 0 have deviation 1; the rewards of both questions have deviation sqrt(1 / 3).
    scaled = bundle_advantages(REWARDS, quantiles, RiskPoConfig(bundle=2))
    np.testing.assert_allclose(scaled, [[0, -0.692820, -3.464102]] * 2, atol=1e-6)
    centred = bundle_advantages(REWARDS, quantiles, RiskPoConfig(bundle=2, scaled=False, baseline="mean"))
    np.testing.assert_allclose(centred, [[0.8, 0.4, -1.2]] * 2, atol=1e-12)


def test_quantiles_follow_the_scores():
    # A quarter of the scores is below 0.4, and half of them below 1.6.
    found = tracked([0.4, 1.6], np.array([0.0, 1.0, 2.0, 2.0]), RiskPoConfig())
    np.testing.assert_allclose(found, [0.4 + 0.1 * (0.2 - 0.25), 1.6 + 0.1 * (0.8 - 0.5)])
    draws = np.random.default_rng(0)
    quantiles = [0.0, 0.0]
    for _ in range(2000):
        quantiles = tracked(quantiles, draws.normal(size=16), RiskPoConfig())
    np.testing.assert_allclose(quantiles, [-0.84, 0.84], atol=0.15)


def test_a_paper_with_an_unscored_answer_has_advantage_0_and_counts_nowhere():
    rewards = np.array([[1.0, 0.0, 0.0, NAN], [1.0, 1.0, 0.0, 1.0]])
    for settings in ({}, {"baseline": "mean", "scaled": False}):
        config = RiskPoConfig(bundle=2, **settings)
        found = bundle_advantages(rewards, [0.4, 1.6], config)
        assert found[:, 3].tolist() == [0, 0]
        expected = bundle_advantages(REWARDS, [0.4, 1.6], config)
        np.testing.assert_allclose(found[0, :3], expected[0])  # the first question's deviation is of the known rewards


def test_papers_with_equal_scores_are_not_divided_by_next_to_nothing():
    rewards = np.array([[1.0, 0.0], [0.0, 1.0]])
    config = RiskPoConfig(bundle=2)
    np.testing.assert_allclose(
        bundle_advantages(rewards, [0.5, 2.0], config),
        bundle_advantages(rewards, [0.5, 2.0], RiskPoConfig(bundle=2, scaled=False)) / np.sqrt(0.5),
    )


def test_at_the_plain_settings_the_advantages_are_rewards_without_their_mean():
    config = RiskPoConfig(**PLAIN)
    quantiles = first_quantiles(REWARDS, (config.alpha, config.beta))
    assert quantiles == [-np.inf, np.inf] == tracked(quantiles, REWARDS, config)
    expected = REWARDS - REWARDS.mean(axis=1, keepdims=True)
    np.testing.assert_array_equal(bundle_advantages(REWARDS, quantiles, config), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.8}, "alpha=0.8: expected less than beta=0.8"),
        ({"alpha": 0}, "omega=1.5: there is no tail below level alpha=0; expected omega=0"),
        ({"beta": 1}, "baseline=quantile: beta=1 has no finite quantile; expected baseline=mean"),
    ],
)
def test_levels_that_have_no_advantages_are_refused(settings, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        RiskPoConfig(**settings)


def test_a_batch_consists_of_whole_bundles():
    task = TaskTraits({"support": 100, "select": 10, "gate": 10})
    assert RiskPo(RiskPoConfig()).schedule(65_536, task).batch == 80
    assert RiskPo(RiskPoConfig(bundle=3)).schedule(1000, task).batch == 24
    method = RiskPo(RiskPoConfig())
    method.spread(3)
    assert method.multiple == 120
    with pytest.raises(Refused, match="batch 64 must be a multiple of 40"):
        RiskPo(RiskPoConfig(batch=64)).schedule(65_536, task)


def run(folder, method, **settings):
    settings |= {"lr": 1e-4, "batch": 16}
    return trained(folder, method, settings, gate="off", budget="300", limit=20)


@pytest.mark.slow
def test_at_the_plain_settings_it_ends_in_the_weights_of_unscaled_grpo(tmp_path):
    plain, weights = run(tmp_path, f"{__name__}:Unscaled")
    same, equal = run(tmp_path, "riskpo", **PLAIN)
    assert same.report["training"] == plain.report["training"]
    assert plain.report["training"]["steps"] > 3
    assert max(plain.report["training"]["curve"]["norm"]) > 0
    assert same.ledger == plain.ledger
    assert all(weights[name].equal(equal[name]) for name in weights)


@pytest.mark.slow
def test_the_quantiles_are_kept_from_step_to_step_and_over_an_interruption(tmp_path, monkeypatch):
    seen, end_step = [], Loop.end_step

    def logged(loop, row):
        end_step(loop, row)
        seen.append(tuple(loop.memory["quantiles"]))

    def interrupted(loop, row):
        end_step(loop, row)
        if loop.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "end_step", logged)
    result, weights = run(tmp_path / "whole", "riskpo", bundle=2)
    assert len(seen) == result.report["training"]["steps"] > 3
    for before, after in pairwise(seen):
        assert before != after
        assert np.abs(np.subtract(after, before)).max() <= 0.1 * 0.8 + 1e-9
    monkeypatch.setattr(Loop, "end_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", "riskpo", bundle=2)
    monkeypatch.setattr(Loop, "end_step", logged)
    steps = seen[2:]
    seen.clear()
    resumed, same = run(tmp_path / "broken", "riskpo", bundle=2)
    assert seen == steps
    assert resumed.report["training"] == result.report["training"]
    assert all(weights[name].equal(same[name]) for name in weights)
