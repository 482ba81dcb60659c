import numpy as np
import pytest

from bench.errors import BenchError, Refused
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.interface import MethodConfig, SingleModel
from methods.prompt_search import PromptSearch
from methods.testing import FLOPS, CoinFlips
from tasks.interface import TaskTraits

SIZES = {"support": 100, "select": 10, "gate": 10}


class Prompted(CoinFlips):
    """Prompts earn what they are said to, at what they are said to cost."""

    def __init__(self, evaluations: int, rewards: dict[str, float], cost: dict[str, int] | None = None) -> None:
        super().__init__(0, SIZES, evaluations)
        self.task = TaskTraits(SIZES, prompts=tuple(rewards))
        self.earned, self.cost = rewards, cost or {}
        self.asked: dict[str, list[int]] = {prompt: [] for prompt in rewards}

    def evaluate(self, point, split, *, account, examples, allowance, prompt):
        assert (point.is_base, split, account) == (True, "support", "tune")
        found = super().evaluate(point, split, account=account, examples=examples, allowance=allowance)
        self.remaining -= (self.cost.get(prompt, 1) - 1) * found.flops
        self.asked[prompt] += examples
        if found.complete:
            found.rewards[:] = self.earned[prompt]
        return found


def adapt(world):
    return PromptSearch(MethodConfig()).adapt(world)


def test_the_best_prompt_is_chosen_and_the_weights_are_the_bases():
    world = Prompted(1000, {"default": 0.4, "terse": 0.6, "long": 0.5})
    assert adapt(world) == SingleModel(prompt="terse")
    assert world.report["chosen"] == "terse"
    assert world.report["examples"] == 100
    assert world.report["rewards"] == pytest.approx({"default": 0.4, "terse": 0.6, "long": 0.5})


def test_of_equals_the_first_is_kept():
    assert adapt(Prompted(1000, {"default": 0.5, "other": 0.5})).prompt == "default"


@pytest.mark.parametrize("evaluations", [40, 101, 150, 199])
def test_below_the_split_a_budget_is_spent_and_all_prompts_see_the_same_examples(evaluations):
    world = Prompted(evaluations, {"default": 0.1, "other": 0.2})
    adapt(world)
    assert world.asked["default"] == world.asked["other"] == list(range(len(world.asked["default"])))
    assert world.remaining <= max(0.05 * world.budget, 4 * FLOPS)


def test_beyond_the_split_the_rest_stays_unspent_and_the_plan_says_so():
    world = Prompted(1000, {"default": 0.1, "other": 0.2})
    adapt(world)
    assert world.remaining == 800 * FLOPS
    plan = PromptSearch(MethodConfig()).plan(1000, world.task)
    assert plan.evaluations == 200
    assert "the rest cannot be spent" in plan.notes[0]
    assert not PromptSearch(MethodConfig()).plan(200, world.task).notes


def test_examples_that_one_prompt_was_not_judged_on_count_for_none():
    class Flaky(Prompted):
        def evaluate(self, point, split, *, examples, prompt, **rest):
            found = super().evaluate(point, split, examples=examples, prompt=prompt, **rest)
            if prompt == "other":
                found.rewards[np.array(examples) % 2 == 0] = np.nan
            else:
                found.rewards[:] = np.where(np.array(examples) % 2, 0.0, 1.0)
            return found

    world = Flaky(1000, {"default": 0.0, "other": 0.3})
    assert adapt(world).prompt == "other"
    assert world.report["examples"] == 50


def test_one_prompt_leaves_no_choice_and_a_tiny_budget_buys_none():
    method = PromptSearch(MethodConfig())
    assert "one way" in method.supports(TaskTraits(SIZES))
    two = TaskTraits(SIZES, prompts=("default", "other"))
    assert method.supports(two) is None
    with pytest.raises(Refused, match=r"15 evaluations.* take 16"):
        method.plan(15, two)


def test_a_budget_that_pays_no_round_fails_with_the_reason():
    world = Prompted(1, {"default": 0.1, "other": 0.2})
    with pytest.raises(BenchError, match="paid no comparison"):
        adapt(world)


def test_a_run_books_its_search_as_tuning_and_answers_to_the_chosen_prompt(tmp_path):
    config = {"method": "prompt-search", "task": "addition", "model": "tiny-adder", "budget": "200", "limit": 40}
    prepared = prepare(RunConfig(**config), tmp_path, ProgressDisplay(quiet=True))
    result = execute(prepared, ProgressDisplay(quiet=True))
    assert result.status == "ok", result.traceback
    assert 0.95 <= result.budget.share <= 1
    assert set(result.ledger) == {"tune", "inference", "evaluation", "setup"}
    assert result.ledger["tune"].work.weight_moves == 0
    rewards = result.report["rewards"]
    assert list(rewards) == ["default", "swapped"]
    assert result.report["chosen"] == max(rewards, key=rewards.get)
    assert result.rows[0].changed == (result.report["chosen"] != "default")
    assert f'"prompt": "{result.report["chosen"]}"' in (prepared.folder / "artifact" / "point.json").read_text()
