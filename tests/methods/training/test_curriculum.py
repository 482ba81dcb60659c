"""A curriculum chooses the prompts of each step and receives their rewards, with either trainer."""

import math
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from bench.errors import BenchError
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.training import TrainingSession
from methods.training.curriculum import mean_rewards
from methods.training.grpo import Grpo
from methods.training.loop import Loop
from methods.training.ppo import Ppo
from tasks.interface import Score


class FirstPrompts:
    """Curriculum that always chooses the first prompts."""

    made: ClassVar[list["FirstPrompts"]] = []

    def __init__(self, first: int = 0) -> None:
        self.first, self.learned = first, []
        self.made.append(self)

    def choose(self, step: int, count: int) -> list[int]:
        return [self.first + place for place in range(count)]

    def learn(self, chosen: list[int], rewards: list[float], advantages: list[float]) -> None:
        self.learned.append((chosen, rewards, advantages))

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        raise AssertionError("nothing is resumed here")

    def report(self) -> dict[str, Any]:
        return {"learned": len(self.learned)}


class GrpoOnFirst(Grpo):
    def curriculum(self, context: Any, training: Any) -> FirstPrompts:
        return FirstPrompts()


class PpoOnFirst(Ppo):
    def curriculum(self, context: Any, training: Any) -> FirstPrompts:
        return FirstPrompts()


class OutOfRange(Grpo):
    def curriculum(self, context: Any, training: Any) -> FirstPrompts:
        return FirstPrompts(10_000)


def run(tmp_path, method, **settings):
    config = RunConfig(
        method=f"{__name__}:{method.__name__}",
        task="addition",
        model="tiny-adder",
        budget="400",
        limit=4,
        dtype="float32",
        method_config={"batch": 16} | settings,
    )
    return execute(prepare(config, tmp_path, ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))


def test_the_mean_reward_of_a_prompt_leaves_out_unscored_answers():
    assert mean_rewards([1.0, 0.0, 0.5, None], 2) == [0.5, 0.5]
    assert mean_rewards([1.0, 0.0], 2) == [1.0, 0.0]
    mean, unknown = mean_rewards([1.0, 1.0, None, None], 2)
    assert mean == 1.0
    assert math.isnan(unknown)


@pytest.mark.parametrize(("method", "prompts"), [(GrpoOnFirst, 2), (PpoOnFirst, 16)])
def test_the_chosen_prompts_are_trained_on_and_the_curriculum_learns_their_rewards(
    tmp_path, monkeypatch, method, prompts
):
    scored, judge = [], TrainingSession.judge

    def logged(self, examples, answers):
        scores = judge(self, examples, answers)
        scored.append((list(examples), [score.reward for score in scores], [p.id for p in self.prompts[:prompts]]))
        return scores

    monkeypatch.setattr(TrainingSession, "judge", logged)
    result = run(tmp_path, method)
    learned, steps = FirstPrompts.made[-1].learned, result.report["training"]["steps"]
    assert result.report["training"]["curriculum"] == {"learned": steps}
    assert len(learned) == steps > 1
    for (examples, rewards, first), (chosen, means, advantages) in zip(scored, learned, strict=False):
        each = 16 // prompts
        assert examples == [example for example in first for _ in range(each)]
        assert chosen == list(range(prompts))
        assert means == [sum(rewards[i : i + each]) / each for i in range(0, 16, each)]
        groups = np.array(rewards).reshape(prompts, each)
        if method is GrpoOnFirst:
            scaled = (groups - groups.mean(axis=1, keepdims=True)) / (groups.std(axis=1, keepdims=True, ddof=1) + 1e-4)
            np.testing.assert_allclose(advantages, np.abs(scaled).mean(axis=1), rtol=1e-5)
        else:
            assert np.isnan(advantages).all()


@pytest.mark.parametrize("truncated", ["punish", "mask"])
def test_the_curriculum_learns_of_truncated_answers_what_they_were_trained_with(tmp_path, monkeypatch, truncated):
    cut, given = [], np.tile([1.0, 0.0], 8).reshape(2, 8)

    def judged(self, examples, answers):
        cut.append([rollout.truncated for rollout in self.rollouts])
        return [Score(reward=reward, correct=reward == 1.0) for reward in given.flatten()]

    monkeypatch.setattr(TrainingSession, "judge", judged)
    assert run(tmp_path, GrpoOnFirst, truncated=truncated, temperature=5.0).status == "ok"
    _, means, advantages = FirstPrompts.made[-1].learned[0]
    lost = np.array(cut[0]).reshape(2, 8)
    assert 0 < (lost & (given > 0)).sum() < given.sum()
    rewards = given * ~lost if truncated == "punish" else given
    scaled = (rewards - rewards.mean(axis=1, keepdims=True)) / (rewards.std(axis=1, keepdims=True, ddof=1) + 1e-4)
    np.testing.assert_allclose(means, rewards.mean(axis=1))
    trained = np.abs(scaled) * (~lost if truncated == "mask" else 1)
    np.testing.assert_allclose(advantages, trained.mean(axis=1), rtol=1e-5)


def test_an_index_out_of_range_is_an_error(tmp_path):
    result = run(tmp_path, OutOfRange)
    assert result.status == "failed"
    assert "the curriculum chose [10000, 10001] at step 0; expected 2 indices below 400" in result.reason


def test_processes_that_choose_different_prompts_are_an_error():
    def chosen(other):
        ranks = SimpleNamespace(gather=lambda mine: [mine, other])
        loop = Loop.__new__(Loop)
        loop.training, loop.rows = SimpleNamespace(prompts=range(9), ranks=ranks), []
        loop._curriculum = FirstPrompts()
        return loop.choose(2)

    assert chosen([0, 1]) == [0, 1]
    with pytest.raises(BenchError, match="at step 0 the curricula of several processes chose different prompts"):
        chosen([1, 0])
