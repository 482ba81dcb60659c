import re
from functools import partial

import pytest
from pydantic import ValidationError

from bench.errors import Refused
from methods.training.cat import Cat
from methods.training.config import CatConfig, GrpoConfig, PpoConfig, make_schedule
from methods.training.grpo import Grpo
from methods.training.ppo import Ppo
from tasks.interface import TaskTraits

SIZES = {"support": 400, "select": 400, "gate": 1000}
TASK = TaskTraits(SIZES, vote_by="the number")


@pytest.mark.parametrize("method", [Grpo(GrpoConfig()), Ppo(PpoConfig()), Cat(CatConfig()), Cat(CatConfig(on="sft"))])
@pytest.mark.parametrize("evaluations", [600, 4_096, 65_536, 1_000_000])
def test_a_plan_spends_the_budget_in_whole_steps(method, evaluations):
    schedule = method.schedule(evaluations, TASK)
    assert schedule.train == evaluations == method.plan(evaluations, TASK).evaluations
    assert schedule.steps * schedule.step <= schedule.train < (schedule.steps + 1) * schedule.step
    assert schedule.batch % method.multiple == 0
    assert schedule.batch <= method.batch
    assert schedule.steps >= 32 or schedule.batch == method.multiple


@pytest.mark.parametrize(
    "make", [lambda: Grpo(GrpoConfig()), lambda: Ppo(PpoConfig()), lambda: Cat(CatConfig(on="sft"))]
)
def test_every_process_has_an_equal_part_of_a_batch(make):
    method = make()
    method.spread(3)
    batch = method.schedule(16_384, TASK).batch
    assert batch % 3 == 0
    assert batch % make().multiple == 0
    assert batch // 3 % getattr(method.config, "mini_batches", 1) == 0


def test_the_plan_warns_of_an_expensive_step():
    assert any("one step takes" in note for note in Ppo(PpoConfig(batch=64)).plan(2_000, TASK).notes)
    assert not any("one step takes" in note for note in Ppo(PpoConfig()).plan(65_536, TASK).notes)


@pytest.mark.parametrize("method", [(Grpo, GrpoConfig), (Ppo, PpoConfig), (Cat, partial(CatConfig, on="sft"))])
def test_too_small_a_budget_is_refused_with_the_budget_needed(method):
    make, config = method
    trained = make(config())
    refusals = 0
    for budget in range(1, 1000):
        try:
            assert trained.schedule(budget, TASK).steps >= 1
        except Refused as error:
            refusals += 1
            needed = int(re.search(r"give it (\d+) or more", str(error))[1])
            assert budget < needed < 1000
            assert all(trained.schedule(enough, TASK).steps >= 1 for enough in range(needed, needed + 30))
    assert refusals


@pytest.mark.parametrize("name", ["gate", "gate_share", "gate_slack", "error_rate"])
@pytest.mark.parametrize("config", [GrpoConfig, PpoConfig, CatConfig])
def test_a_setting_of_the_gates_that_methods_had_is_an_error_that_says_what_to_do(config, name):
    with pytest.raises(ValidationError, match=r"no longer a setting; .*--gate off\|harness"):
        config.model_validate({name: False})


def test_a_batch_that_splits_a_group_is_refused():
    with pytest.raises(Refused, match="batch 12 must be a multiple of 8"):
        make_schedule(4_096, GrpoConfig(batch=12), batch=64, multiple=8, cost=4)


def test_an_objective_that_does_not_suit_the_task_or_the_training_is_refused():
    no_votes = TaskTraits(SIZES)
    assert "needs votes" in Cat(CatConfig(objective="maj@8")).supports(no_votes)
    assert "only the gold one" in Cat(CatConfig(objective="bon@8", on="sft")).supports(TASK)
    assert Cat(CatConfig(objective="maj@8", on="sft")).supports(no_votes) is None
    assert Cat(CatConfig(objective="bon@8")).supports(no_votes) is None


def test_the_plan_warns_of_groups_that_are_too_small_for_unbiased_weights():
    def notes(**settings):
        return [note for note in Cat(CatConfig(**settings)).plan(65_536, TASK).notes if "unbiased" in note]

    assert "--set group=64 has unbiased ones" in notes(objective="pass@64")[0]
    assert not notes(objective="pass@8") + notes(objective="bon@64") + notes(objective="pass@64", on="sft")


def test_scaled_advantages_of_fine_tuning_are_refused():
    with pytest.raises(ValidationError, match=r"on=sft has no advantages; expected scaled=false"):
        CatConfig(on="sft", scaled=True)


def test_an_unknown_objective_is_a_validation_error():
    with pytest.raises(ValueError, match="expected pass@N, maj@N or bon@N"):
        CatConfig(objective="best@8")


def test_truncated_answers_are_masked_only_where_answers_have_a_loss_of_their_own():
    assert GrpoConfig(truncated="mask").truncated == CatConfig(truncated="mask").truncated == "mask"
    with pytest.raises(ValidationError, match=r"truncated\n.*PPO has no loss per answer .*expected train or punish"):
        PpoConfig(truncated="mask")
    with pytest.raises(ValidationError, match="truncated=punish: on=sft samples no answers; expected truncated=train"):
        CatConfig(on="sft", truncated="punish")
