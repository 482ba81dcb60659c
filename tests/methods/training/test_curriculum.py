"""A curriculum is asked for each step's prompts, and told what came of them, whichever trainer takes the step."""

import math
from types import SimpleNamespace
from typing import Any, ClassVar

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


class Few:
    """Takes the first prompts and no others."""

    made: ClassVar[list["Few"]] = []

    def __init__(self, first: int = 0) -> None:
        self.first, self.told = first, []
        self.made.append(self)

    def choose(self, step: int, count: int) -> list[int]:
        return [self.first + place for place in range(count)]

    def learn(self, chosen: list[int], rewards: list[float]) -> None:
        self.told.append((chosen, rewards))

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        raise AssertionError("nothing is resumed here")

    def report(self) -> dict[str, Any]:
        return {"told": len(self.told)}


class FewGroups(Grpo):
    def curriculum(self, context: Any, training: Any) -> Few:
        return Few()


class FewAnswers(Ppo):
    def curriculum(self, context: Any, training: Any) -> Few:
        return Few()


class Astray(Grpo):
    def curriculum(self, context: Any, training: Any) -> Few:
        return Few(10_000)


def run(tmp_path, method):
    config = RunConfig(
        method=f"{__name__}:{method.__name__}",
        task="addition",
        model="tiny-adder",
        budget="400",
        limit=4,
        dtype="float32",
        method_config={"gate": False, "batch": 16},
    )
    return execute(prepare(config, tmp_path, ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))


def test_answers_of_a_prompt_stand_together_and_those_not_judged_do_not_count():
    assert mean_rewards([1.0, 0.0, 0.5, None], 2) == [0.5, 0.5]
    assert mean_rewards([1.0, 0.0], 2) == [1.0, 0.0]
    mean, unknown = mean_rewards([1.0, 1.0, None, None], 2)
    assert mean == 1.0
    assert math.isnan(unknown)


@pytest.mark.parametrize(("method", "prompts"), [(FewGroups, 2), (FewAnswers, 16)])
def test_what_is_chosen_is_trained_on_and_its_rewards_are_told(tmp_path, monkeypatch, method, prompts):
    judged, judge = [], TrainingSession.judge

    def seen(self, examples, answers):
        scores = judge(self, examples, answers)
        judged.append((list(examples), [score.reward for score in scores], [p.id for p in self.prompts[:prompts]]))
        return scores

    monkeypatch.setattr(TrainingSession, "judge", seen)
    result = run(tmp_path, method)
    told, steps = Few.made[-1].told, result.report["training"]["steps"]
    assert result.report["training"]["curriculum"] == {"told": steps}
    assert len(told) == steps > 1
    for (examples, rewards, first), (chosen, means) in zip(judged, told, strict=False):
        each = 16 // prompts
        assert examples == [example for example in first for _ in range(each)]
        assert chosen == list(range(prompts))
        assert means == [sum(rewards[i : i + each]) / each for i in range(0, 16, each)]


def test_what_is_no_prompt_cannot_be_chosen(tmp_path):
    result = run(tmp_path, Astray)
    assert result.status == "failed"
    assert "the curriculum chose [10000, 10001] at step 0; 2 places below 400 were asked for" in result.reason


def test_processes_that_choose_differently_are_stopped():
    def chosen(theirs):
        ranks = SimpleNamespace(gather=lambda mine: [mine, theirs])
        loop = Loop.__new__(Loop)
        loop.training, loop.rows = SimpleNamespace(prompts=range(9), ranks=ranks), []
        loop._curriculum = Few()
        return loop.chosen(2)

    assert chosen([0, 1]) == [0, 1]
    with pytest.raises(BenchError, match="at step 0 the curricula of several processes chose different prompts"):
        chosen([1, 0])
