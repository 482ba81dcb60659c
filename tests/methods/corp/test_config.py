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
def test_the_significance_levels_of_all_gates_add_up_to_the_error_rate(evaluations, sizes):
    try:
        schedule = make_schedule(evaluations, sizes, CorpConfig())
    except Refused:
        return
    assert (schedule.later_level is None) == (schedule.attempts == 0)
    total = schedule.first_level + schedule.attempts * (schedule.later_level or 0.0)
    assert total == pytest.approx(CorpConfig().error_rate)


SPLITS = {"support": 400, "select": 400, "gate": 1000}


def schedules(evaluations):
    return {gate: make_schedule(evaluations, SPLITS, CorpConfig(gate=gate)) for gate in ("both", "stage2", "off")}


def test_the_cost_of_a_gate_that_is_off_goes_to_the_population():
    found = schedules(20_000)
    assert found["both"].gate == found["stage2"].gate > found["off"].gate == 0
    assert found["both"].sample < found["stage2"].sample < found["off"].sample
    for schedule in found.values():
        assert schedule.sample + schedule.proposals + schedule.looks + schedule.recentering <= 20_000
    saved = found["off"].sample - found["both"].sample
    assert saved == found["both"].looks - found["off"].looks
    assert found["off"].looks == 0


def test_the_gates_that_remain_share_the_error_rate():
    found = schedules(20_000)
    assert [found["both"].first_level, found["both"].later_level] == [0.025, pytest.approx(0.025 / 3)]
    assert [found["stage2"].first_level, found["stage2"].later_level] == [None, pytest.approx(0.05 / 3)]
    assert [found["off"].first_level, found["off"].later_level] == [None, None]


def test_a_skipped_stage_two_needs_no_gate():
    found = schedules(700)
    assert found["stage2"].attempts == 0
    assert found["stage2"] == found["off"]


@pytest.mark.parametrize(("gate", "stages"), [("stage2", "stage 1"), ("off", "each stage")])
def test_a_plan_says_which_stage_has_no_gate(gate, stages):
    config = CorpConfig(gate=gate)
    plan = describe(make_schedule(20_000, SPLITS, config), config)
    assert f"gate = {gate}: {stages} commits its best proposal, even a harmful one" in plan.notes
    assert any(line.account == "gate" for line in plan.lines) == (gate == "stage2")


def test_on_and_off_are_read_from_the_command_line():
    assert CorpConfig.model_validate({"reweight": "off", "racing": "on"}).reweight is False


def test_the_true_cost_of_the_released_schedule_buys_about_the_released_population():
    schedule = make_schedule(435_000, {"support": 500, "select": 100, "gate": 1000}, CorpConfig())
    assert schedule.support == pytest.approx(500, rel=0.1)
    assert schedule.population == pytest.approx(500, rel=0.2)


def test_a_small_budget_leaves_stage_two_out_and_says_so():
    schedule = make_schedule(256, {"support": 32, "select": 20, "gate": 30}, CorpConfig())
    assert (schedule.attempts, schedule.recentering) == (0, 0)
    assert any("stage 2 is left out" in note for note in describe(schedule, CorpConfig()).notes)


def test_too_small_a_budget_is_refused_with_the_budget_needed():
    sizes = {"support": 32, "select": 20, "gate": 30}
    with pytest.raises(Refused, match=r"give it (\d+) or more") as refusal:
        make_schedule(20, sizes, CorpConfig())
    needed = int(str(refusal.value).split("give it ")[1].split()[0])
    make_schedule(needed, sizes, CorpConfig())


def test_unknown_and_invalid_settings_are_refused():
    with pytest.raises(ValidationError, match="attemps"):
        CorpConfig.model_validate({"attemps": 3})
    with pytest.raises(ValidationError, match="error_rate"):
        CorpConfig(error_rate=0)
