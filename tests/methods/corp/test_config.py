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
    assert schedule.sample + schedule.proposals + schedule.looks + schedule.recentering <= evaluations
    assert schedule.support <= sizes["support"]
    assert schedule.select <= sizes["select"]
    assert schedule.gate <= sizes["gate"]
    assert schedule.population >= CorpConfig().smallest_population
    assert describe(schedule, CorpConfig()).evaluations <= evaluations


@given(st.integers(200, 2_000_000), SIZES)
def test_error_rates_of_all_looks_add_up_to_the_total(evaluations, sizes):
    try:
        schedule = make_schedule(evaluations, sizes, CorpConfig())
    except Refused:
        return
    total = schedule.first_level + schedule.attempts * schedule.later_level
    assert total == pytest.approx(CorpConfig().error_rate)


def test_the_true_cost_of_the_released_schedule_buys_about_the_released_population():
    schedule = make_schedule(435_000, {"support": 500, "select": 100, "gate": 1000}, CorpConfig())
    assert schedule.support == pytest.approx(500, rel=0.1)
    assert schedule.population == pytest.approx(500, rel=0.2)


def test_a_small_budget_leaves_stage_two_out_and_says_so():
    schedule = make_schedule(256, {"support": 32, "select": 20, "gate": 30}, CorpConfig())
    assert (schedule.attempts, schedule.recentering) == (0, 0)
    assert any("stage 2 is left out" in note for note in describe(schedule, CorpConfig()).notes)


def test_a_budget_too_small_is_refused_with_what_it_would_take():
    sizes = {"support": 32, "select": 20, "gate": 30}
    with pytest.raises(Refused, match=r"give it (\d+) or more") as refusal:
        make_schedule(20, sizes, CorpConfig())
    needed = int(str(refusal.value).split("give it ")[1].split()[0])
    make_schedule(needed, sizes, CorpConfig())


def test_unknown_and_impossible_settings_are_refused():
    with pytest.raises(ValidationError, match="attemps"):
        CorpConfig.model_validate({"attemps": 3})
    with pytest.raises(ValidationError, match="error_rate"):
        CorpConfig(error_rate=0)
