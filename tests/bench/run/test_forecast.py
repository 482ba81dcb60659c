from pathlib import Path
from types import SimpleNamespace

from bench.records.config import RunConfig
from bench.records.rows import Accuracy
from bench.registry import load_method
from bench.run.forecast import deciding_budget, gate_forecast, never_right
from bench.run.plan import GatePlan
from tasks.interface import TaskTraits


def test_the_gate_says_what_it_detects_or_why_there_is_none():
    assert "56 items; detects a gain of +18.8 points" in gate_forecast(GatePlan(56, 126))
    assert gate_forecast(GatePlan(0, 0, "--gate off")) == "no gate: --gate off"


def decides(name, evaluations, gate=1000, **fields):
    kind = load_method(name)
    config = RunConfig(method=name, task="addition", model="tiny-adder", **fields)
    traits = TaskTraits({"support": 400, "select": 400, "gate": gate})
    return deciding_budget(kind(kind.Config()), config, evaluations, traits)


def test_the_smallest_named_budget_whose_gate_keeps_ten_points_is_named():
    assert decides("es", 512) == "budget small (4,096 evaluations): its gate keeps a gain of 10 points in 9 of 10 runs"
    assert decides("es", 4096).startswith("this gate keeps a gain of 10 points in 9 of 10 runs; five seeds")


def test_a_gate_split_that_is_too_small_for_every_budget_is_named():
    found = decides("es", 512, gate=56)
    assert found.startswith("no named budget: its gate has at most 56 items and keeps a gain of 22.9 points in 9 of 10")
    assert found.endswith("(--adapt-on)")


def test_more_rows_of_ones_own_are_asked_for_in_their_file():
    assert decides("es", 512, gate=56, data="my rows.jsonl").endswith("of 10 runs; add rows to my rows.jsonl")
    elsewhere = decides("es", 512, gate=56, data="my rows.jsonl", adapt_on="addition", adapt_data="sums.jsonl")
    assert elsewhere.endswith("; add rows to sums.jsonl")


def accuracy(correct, reward):
    return Accuracy(correct=correct, items=40, excluded=0, accuracy=correct / 40, low=0, high=1, mean_reward=reward)


def rows(*results, **gate):
    """Return the rows of a record: the base and artifacts, and the gated row of the last one."""
    found = [SimpleNamespace(accuracy=accuracy(*each), gate=None) for each in results]
    return [*found, SimpleNamespace(accuracy=accuracy(*results[-1]), gate=SimpleNamespace(**gate))] if gate else found


def test_a_base_that_is_never_right_is_to_be_looked_at():
    nothing = {"fixes": 0, "regressions": 0}
    expected = (
        "the base has no right answer to 40 test items, and none has a reward, which gives a method nothing to "
        "reinforce; look at its answers: bench show 'my runs/a' -n 5"
    )
    assert never_right(rows((0, 0.0), (0, 0.0), **nothing), Path("my runs/a")) == expected
    assert never_right(rows((0, 0.0)), Path("my runs/a")) == expected
    assert never_right(rows((1, 0.025), (0, 0.0), **nothing), Path("a")) is None
    assert never_right(rows((0, 0.1), (0, 0.0), **nothing), Path("a")) is None
    assert never_right(rows((0, 0.0), (3, 0.1), **nothing), Path("a")) is None
    assert never_right(rows((0, 0.0), (0, 0.0), fixes=1, regressions=0), Path("a")) is None


def test_a_run_without_a_gate_at_any_budget_has_no_such_budget():
    assert decides("base", 512) is None
    assert decides("es", 512, gate=0) is None
