import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PositiveFloat

from bench.errors import Refused, UsageError
from bench.records.config import RunConfig
from bench.run.grid import expand
from bench.run.plan import plan_run
from bench.run.settings import Assignment, is_given
from bench.run.tuning import SLACK, configured, describe, halving, plan_tuning, ruleset, sample
from bench.settings import setting
from methods.es import Es
from methods.interface import Choices, Dimension, Lora, MethodConfig, Plan, PlanLine, SingleModel
from methods.interface import Method as Base
from methods.randopt import RandOpt
from methods.self_consistency import SelfConsistency
from methods.training.config import GrpoConfig
from methods.training.grpo import Grpo
from tasks.interface import TaskTraits

TASK = TaskTraits({"support": 200, "select": 60, "gate": 100}, vote_by="the sum")
GRID = {"tasks": ["addition"], "models": ["tiny-adder"], "budgets": ["smoke"], "seeds": [0]}


class Config(MethodConfig):
    sigma: PositiveFloat = setting(1e-3, "Length of a step.")


class Picky(Base):
    """Method that needs 40 evaluations."""

    name, version, Config, space = "picky", "1", Config, {"sigma": Dimension(1e-4, 1e-2)}

    def plan(self, evaluations, task):
        if evaluations < 40:
            raise Refused(f"picky needs 40 evaluations; the budget has {evaluations}")
        return Plan((PlanLine("sample", "a search", evaluations),))

    def adapt(self, context):
        return SingleModel()


def test_trials_are_the_published_setting_and_points_of_a_sobol_sequence():
    space = {"lr": Dimension(1e-6, 1e-2), "temperature": Dimension(0, 1, "linear"), "mode": Choices(("a", "b"))}
    found = sample(space, 9, seed=0)
    assert found[0] == {}
    assert sample(space, 9, seed=0) == found
    assert sample(space, 9, seed=1) != found
    assert sample(space, 5, seed=0) == found[:5], "more trials add to the same ones"
    quarters = [int(math.log10(settings["lr"] / 1e-6)) for settings in found[1:]]
    assert sorted(quarters) == [0, 0, 1, 1, 2, 2, 3, 3], "each quarter of the range has its share"
    assert sorted(settings["mode"] for settings in found[1:]) == ["a"] * 4 + ["b"] * 4
    assert len(sample(space, 2, seed=0)) == 2


@given(trials=st.integers(2, 200), evaluations=st.integers(0, 10**6), rungs=st.none() | st.integers(1, 9))
def test_the_rungs_fit_the_budget_and_halve_the_trials(trials, evaluations, rungs):
    found = halving(trials, evaluations, rungs)
    assert found[0][0] == trials
    assert len(found) <= (rungs or 99)
    assert all(later == math.ceil(size / 2) for (size, _), (later, _) in pairwise(found))
    assert rungs or found[-1][0] == 2
    spent = sum(size * each for size, each in found)
    assert evaluations - sum(size for size, _ in found) - len(found) < spent <= evaluations


def test_five_trials_make_three_rungs():
    assert halving(5, 600) == [(5, 40), (3, 66), (2, 100)]
    assert halving(2, 100) == [(2, 50)]
    assert halving(5, 600, 1) == [(5, 120)]


def test_a_fifth_of_a_trial_is_for_its_judged_answers():
    rungs = plan_tuning(Picky(Config()), 8000, TASK, 5)
    assert [(r.trials, r.evaluations, r.adapting, r.items) for r in rungs] == [
        (5, 266, 213, 42),
        (3, 444, 356, 60),
        (2, 666, 533, 60),
    ]
    lines = describe(rungs)
    assert lines[0].what == "rung 1: 5 trials of 266 evaluations, judged on 42 select examples"
    assert sum(line.evaluations for line in lines) <= 4000
    assert {line.account for line in lines} == {"tune"}


def test_a_small_budget_has_fewer_rungs_of_larger_trials():
    assert [rung.trials for rung in plan_tuning(Picky(Config()), 7500, TASK, 5)] == [5, 3, 2]
    assert [rung.trials for rung in plan_tuning(Picky(Config()), 5000, TASK, 5)] == [5, 3]
    assert [rung.trials for rung in plan_tuning(Picky(Config()), 4999, TASK, 5)] == [5]
    assert [rung.trials for rung in plan_tuning(Picky(Config()), 750, TASK, 5)] == [5]
    small = TaskTraits(TASK.sizes | {"select": 15})
    assert [rung.trials for rung in plan_tuning(Picky(Config()), 2850, small, 5)] == [5, 3, 2], "it has no more"


def test_a_control_spends_its_trials_on_answers():
    (first, *_) = plan_tuning(SelfConsistency(SelfConsistency.Config()), 4000, TASK, 5)
    assert (first.adapting, first.items) == (0, int(400 / (10 * SLACK)))


def test_trials_that_the_budget_cannot_pay_are_refused_with_what_would_do():
    with pytest.raises(Refused) as error:
        plan_tuning(Picky(Config()), 300, TASK, 5, total=lambda size: 2 * size)
    text = str(error.value)
    assert "--tune 5: half of the budget leaves each trial 30 evaluations, which is too little: picky needs 40" in text
    assert text.endswith("--tune 2 or a budget of 1500 would do")
    assert plan_tuning(Picky(Config()), 750, TASK, 5)
    assert plan_tuning(Picky(Config()), 300, TASK, 2)
    with pytest.raises(Refused, match="14 evaluations to judge it buy 11 answers of 1 passes, and 12 are needed"):
        plan_tuning(Picky(Config()), 749, TASK, 5)


def test_any_number_of_trials_is_refused_at_once_with_the_largest_that_would_do():
    for trials in (10, 1_000_000, 10**12):
        with pytest.raises(Refused, match=rf"^--tune {trials}: .*; --tune 8( or a budget of [0-9]+)? would do$"):
            plan_tuning(Picky(Config()), 1200, TASK, trials)
    assert plan_tuning(Picky(Config()), 1200, TASK, 8)


def test_a_method_without_a_space_and_a_task_without_a_select_split_are_refused():
    class Plain(Picky):
        name, space = "plain", {}

    config = RunConfig(method="any", task="addition", model="tiny-adder", tune=4)
    with pytest.raises(Refused, match=r"^--tune 4: method plain has nothing to tune; run it without --tune$"):
        plan_run(Plain(Config()), config, 4000, TASK)
    with pytest.raises(Refused, match=r"^--tune 4: trials are judged on the select split, and the task has none$"):
        plan_run(Picky(Config()), config, 4000, TaskTraits({"support": 9, "select": 0, "gate": 0}))


def test_a_run_without_trials_has_no_rungs():
    assert plan_tuning(Picky(Config()), 4000, TASK, 0) == ()


def test_gate_trials_and_final_run_share_the_budget():
    plain = RunConfig(method="any", task="addition", model="tiny-adder")
    for tune, gate in ((0, "off"), (0, "harness"), (5, "off"), (5, "harness")):
        config = plain.model_copy(update={"tune": tune, "gate": gate})
        plan = plan_run(Picky(Config()), config, 4000, TASK)
        assert list(plan.planned) == ["tune"] * bool(tune) + ["sample"] + ["gate"] * (gate == "harness")
        assert sum(plan.planned.values()) == 4000
        assert plan.planned.get("tune", 0) <= plan.evaluations / 2


def test_a_refusal_says_what_would_do_beside_a_gate():
    config = RunConfig(method="any", task="addition", model="tiny-adder", tune=5)
    with pytest.raises(Refused, match=r"--tune 2 or a budget of 1000 would do \(of the budget of 560 evaluations, 140"):
        plan_run(Picky(Config()), config, 560, TASK)
    assert plan_run(Picky(Config()), config, 1000, TASK).rungs
    assert plan_run(Picky(Config()), config.model_copy(update={"tune": 2}), 560, TASK).rungs


def test_chosen_settings_replace_the_published_ones():
    assert configured(RandOpt(RandOpt.Config()), {"sigmas": 0.01}).config.sigmas == (0.01,)
    method = configured(Grpo(GrpoConfig(group=4)), {"lr": 1e-4, "lora.rank": 8})
    assert (method.config.lr, method.config.group, method.config.lora) == (1e-4, 4, Lora(rank=8))


def test_the_ruleset_follows_from_the_settings_of_the_space():
    assert ruleset(0, Es(Es.Config())) == "published"
    assert ruleset(0, Es(Es.Config(population=8))) == "published", "not in the space"
    assert ruleset(0, Es(Es.Config(step=0.02))) == "custom"
    assert ruleset(5, Es(Es.Config())) == "tuned 5"
    assert ruleset(0, RandOpt(RandOpt.Config(sigmas=(5e-4, 1e-3, 2e-3)))) == "published"
    assert ruleset(0, RandOpt(RandOpt.Config(sigmas=0.01))) == "custom"


@pytest.mark.parametrize("option", ["settings", "variations"])
def test_a_setting_cannot_be_given_and_tuned(option):
    given = [Assignment(("lr",), (1e-5,), "--set lr=1e-5"), Assignment(("grpo", "group"), (4,), "--set grpo.group=4")]
    assert len(expand(methods=["grpo"], tune=3, **GRID, settings=given[1:])) == 1
    with pytest.raises(UsageError, match=r"--set lr=1e-5: --tune 3 chooses grpo.lr within the budget; leave out one"):
        expand(methods=["grpo"], tune=3, **GRID, **{option: given})


def test_one_trial_is_no_choice():
    with pytest.raises(UsageError, match=r"^--tune 1: the only trial .*; give 2 or more, or leave out --tune$"):
        expand(methods=["es"], tune=1, **GRID)


def test_a_setting_above_a_tuned_one_decides_it():
    assert is_given({"lora": None}, ["lora", "rank"])
    assert is_given({"lora": {"rank": 2}}, ["lora", "rank"])
    assert not is_given({"lora": {"alpha": 2}}, ["lora", "rank"])
    assert not is_given({}, ["lora", "rank"])
