import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.errors import Refused
from methods.corp.config import CorpConfig, describe, make_schedule

SIZES = st.fixed_dictionaries(
    {"support": st.integers(8, 1000), "select": st.integers(8, 1000), "gate": st.integers(8, 2000)}
)


@given(st.integers(64, 2_000_000), SIZES)
def test_a_schedule_never_plans_more_than_the_budget_or_the_splits(evaluations, sizes):
    try:
        schedule = make_schedule(evaluations, sizes, CorpConfig())
    except Refused:
        return
    assert schedule.sample + schedule.proposals + schedule.recentering <= evaluations
    assert schedule.support <= sizes["support"]
    assert schedule.select + schedule.decision <= sizes["select"]
    assert schedule.population >= CorpConfig().smallest_population
    assert describe(schedule, CorpConfig()).evaluations <= evaluations


SPLITS = {"support": 400, "select": 400, "gate": 1000}


def test_stage_two_decides_on_examples_that_choose_nothing():
    schedule = make_schedule(20_000, SPLITS, CorpConfig())
    assert schedule.attempts == 3
    assert schedule.decision >= CorpConfig().smallest_population
    assert schedule.select + schedule.decision <= SPLITS["select"]


def test_stage_two_is_left_out_if_the_select_split_is_too_small_to_decide():
    sizes = SPLITS | {"select": 15}
    assert make_schedule(20_000, sizes, CorpConfig()).attempts == 0
    assert make_schedule(20_000, sizes | {"select": 40}, CorpConfig()).attempts == 3


def test_a_schedule_does_not_depend_on_the_gate_split():
    assert make_schedule(20_000, SPLITS, CorpConfig()) == make_schedule(20_000, SPLITS | {"gate": 0}, CorpConfig())


def test_on_and_off_are_read_from_the_command_line():
    assert CorpConfig.model_validate({"reweight": "off", "racing": "on"}).reweight is False


def test_the_true_cost_of_the_released_schedule_buys_about_the_released_population():
    schedule = make_schedule(435_000, {"support": 500, "select": 100, "gate": 1000}, CorpConfig())
    assert schedule.support == pytest.approx(500, rel=0.1)
    assert schedule.population == pytest.approx(500, rel=0.2)


def test_a_small_budget_leaves_stage_two_out_and_says_so():
    schedule = make_schedule(256, {"support": 32, "select": 20, "gate": 30}, CorpConfig())
    assert (schedule.attempts, schedule.recentering) == (0, 0)
    assert any(
        "stage 2 does not run: budget or select split" in note for note in describe(schedule, CorpConfig()).notes
    )


def test_too_small_a_budget_is_refused_with_the_budget_needed():
    sizes = {"support": 32, "select": 20, "gate": 30}
    with pytest.raises(Refused, match=r"give it (\d+) or more") as refusal:
        make_schedule(20, sizes, CorpConfig())
    needed = int(str(refusal.value).split("give it ")[1].split()[0])
    make_schedule(needed, sizes, CorpConfig())


def test_unknown_and_invalid_settings_are_refused():
    with pytest.raises(ValidationError, match="attemps"):
        CorpConfig.model_validate({"attemps": 3})
    with pytest.raises(ValidationError, match="penalty"):
        CorpConfig(penalty=-1)
    for name in ("gate", "gate_share", "gate_slack", "error_rate"):
        with pytest.raises(ValidationError, match=r"no longer a setting; .*--gate off\|harness"):
            CorpConfig.model_validate({name: "off"})
