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
    """Context in which each prompt has a fixed reward and a relative cost.

    Attributes:
        used: Indices of the examples evaluated under each prompt.
    """

    def __init__(self, evaluations: int, rewards: dict[str, float], cost: dict[str, int] | None = None) -> None:
        super().__init__(0, SIZES, evaluations)
        self.task = TaskTraits(SIZES, prompts=tuple(rewards))
        self.rewards, self.cost = rewards, cost or {}
        self.used: dict[str, list[int]] = {prompt: [] for prompt in rewards}

    def evaluate(self, point, split, *, account, examples, allowance, prompt):
        assert (point.is_base, split, account) == (True, "support", "tune")
        found = super().evaluate(point, split, account=account, examples=examples, allowance=allowance)
        self.remaining -= (self.cost.get(prompt, 1) - 1) * found.flops
        self.used[prompt] += examples
        if found.complete:
            found.rewards[:] = self.rewards[prompt]
        return found


def adapt(context):
    return PromptSearch(MethodConfig()).adapt(context)


def test_the_best_prompt_is_chosen_and_the_weights_are_unchanged():
    context = Prompted(1000, {"default": 0.4, "terse": 0.6, "long": 0.5})
    assert adapt(context) == SingleModel(prompt="terse")
    assert context.report["chosen"] == "terse"
    assert context.report["examples"] == 100
    assert context.report["rewards"] == pytest.approx({"default": 0.4, "terse": 0.6, "long": 0.5})


def test_ties_go_to_the_first_prompt():
    assert adapt(Prompted(1000, {"default": 0.5, "other": 0.5})).prompt == "default"


@pytest.mark.parametrize("evaluations", [40, 101, 150, 199])
def test_a_budget_below_the_whole_split_is_spent_with_the_same_examples_for_all_prompts(evaluations):
    context = Prompted(evaluations, {"default": 0.1, "other": 0.2})
    adapt(context)
    assert context.used["default"] == context.used["other"] == list(range(len(context.used["default"])))
    assert context.remaining <= max(0.05 * context.budget, 4 * FLOPS)


def test_budget_beyond_the_whole_split_stays_unspent_and_the_plan_says_so():
    context = Prompted(1000, {"default": 0.1, "other": 0.2})
    adapt(context)
    assert context.remaining == 800 * FLOPS
    plan = PromptSearch(MethodConfig()).plan(1000, context.task)
    assert plan.evaluations == 200
    assert "the rest cannot be spent" in plan.notes[0]
    assert not PromptSearch(MethodConfig()).plan(200, context.task).notes


def test_an_example_counts_only_if_it_is_scored_under_every_prompt():
    class Flaky(Prompted):
        def evaluate(self, point, split, *, examples, prompt, **rest):
            found = super().evaluate(point, split, examples=examples, prompt=prompt, **rest)
            if prompt == "other":
                found.rewards[np.array(examples) % 2 == 0] = np.nan
            else:
                found.rewards[:] = np.where(np.array(examples) % 2, 0.0, 1.0)
            return found

    context = Flaky(1000, {"default": 0.0, "other": 0.3})
    assert adapt(context).prompt == "other"
    assert context.report["examples"] == 50


def test_a_single_prompt_and_a_tiny_budget_are_refused():
    method = PromptSearch(MethodConfig())
    assert "one prompt" in method.supports(TaskTraits(SIZES))
    two = TaskTraits(SIZES, prompts=("default", "other"))
    assert method.supports(two) is None
    with pytest.raises(Refused, match=r"15 evaluations.* take 16"):
        method.plan(15, two)


def test_a_budget_that_covers_no_round_fails_with_the_reason():
    context = Prompted(1, {"default": 0.1, "other": 0.2})
    with pytest.raises(BenchError, match="too small to compare"):
        adapt(context)


def test_a_run_books_its_search_as_tuning_and_answers_with_the_chosen_prompt(tmp_path):
    config = {
        "method": "prompt-search",
        "task": "addition",
        "model": "tiny-adder",
        "budget": "200",
        "limit": 40,
        "gate": "off",
    }
    prepared = prepare(RunConfig(**config), tmp_path, ProgressDisplay(quiet=True))
    result = execute(prepared, ProgressDisplay(quiet=True))
    assert result.status == "ok", result.traceback
    assert 0.95 <= result.budget.share <= 1
    assert set(result.ledger) == {"tune", "inference", "evaluation", "setup"}
    assert result.ledger["tune"].work.weight_moves == 0
    rewards = result.report["rewards"]
    assert list(rewards) == ["default", "swapped"]
    assert result.report["chosen"] == max(rewards, key=rewards.get)
    assert result.rows[1].changed == (result.report["chosen"] != "default")
    assert f'"prompt": "{result.report["chosen"]}"' in (prepared.folder / "artifact" / "point.json").read_text()
