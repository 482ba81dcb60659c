import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.records.config import RunConfig
from bench.records.rows import Accuracy
from bench.registry import load_method
from bench.run import forecast
from bench.run.forecast import TimeForecast, deciding_budget, duration, gate_forecast, never_right
from bench.run.plan import GatePlan
from bench.run.progress import ProgressDisplay
from tasks.interface import TaskTraits

SHAPE = ModelShape(
    layers=2, hidden_size=8, heads=2, kv_heads=1, head_dim=4, intermediate_size=16, vocab_size=32, tied=True
).profile()
WORK = Work(evaluations=1, decode_tokens=1, head_tokens=1)


class Heard(ProgressDisplay):
    def __init__(self):
        super().__init__(quiet=True)
        self.said = []

    def say(self, text, style=None):
        self.said.append(text)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def book(meter):
    with meter.account("sample"):
        meter.reserve(WORK)


def test_the_time_is_forecast_once_when_enough_work_is_measured(clock):
    meter, heard = Meter(SHAPE, limit=10**9), Heard()
    TimeForecast(meter, heard, "10 answers", 40 * meter.flops(WORK))
    book(meter)
    clock[0] += forecast.MEASURED - 1
    book(meter)
    assert heard.said == []
    clock[0] += 4
    book(meter)
    book(meter)
    assert heard.said == ["about 99 seconds left, judging by 8 s of work: 10 answers"]  # 37 of 40 at 8 / 3 s each


def test_a_long_calibration_is_enough_and_a_short_one_is_not(clock):
    for seconds, said in ((8.0, ["about 80 seconds left, judging by 8 s of work: x"]), (0.5, [])):
        meter, heard = Meter(SHAPE), Heard()
        TimeForecast(meter, heard, "x", 10.0).measured(seconds, 1.0)
        assert heard.said == said


def test_times_read_well():
    assert list(map(duration, (40.2, 119.0, 150.0, 7000.0, 12600.0))) == [
        "40 seconds",
        "119 seconds",
        "2 minutes",
        "117 minutes",
        "3.5 hours",
    ]


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
