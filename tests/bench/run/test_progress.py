import io
import re

import pytest
from rich.console import Console

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.run.progress import ProgressDisplay, Snapshot

SHAPE = ModelShape(2, 8, 2, 2, 4, 16, 32, tied=True).profile()


def console(terminal, width=120):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width)


def test_a_terminal_shows_stage_best_and_budget():
    display = ProgressDisplay(console(True))
    meter = Meter(SHAPE, limit=10**9)
    with display:
        display.watch(meter, 64, 10**9)
        with display.stage("population", 3) as stage, meter.account("sample"):
            stage.advance(0.25)
            stage.advance(float("nan"))
            meter.reserve(Work(evaluations=5, prefill_tokens=10))
            display._progress.refresh()
    shown = display.console.file.getvalue()
    for part in ("population", "2/3", "best 0.250", "5/64 evaluations"):
        assert part in shown


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_cuts_the_name_of_the_stage_and_nothing_else(width):
    display = ProgressDisplay(console(True, width))
    meter = Meter(SHAPE, limit=10**9)
    display.watch(meter, 4096, 10**9)
    name = "stage 1: population of a rather long name"
    with display.stage(name, 64) as stage, meter.account("sample"):
        stage.advance(0.25, steps=12)
        meter.reserve(Work(evaluations=1234, prefill_tokens=12340))
        shown = console(True, width)
        shown.print(display._progress.get_renderable())
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.file.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    budget, population = lines
    assert budget.startswith("adaptatio… " if width == 60 else "adaptation budget ")
    assert "1234/4096 evaluations" in budget
    assert (f"/{10**9:.2e} FLOPs" in budget) == (width == 120)
    assert population.startswith("stage 1: …" if width == 60 else "stage 1: population")
    assert " 12/64 " in population
    assert "best 0.250" in population
    assert all(re.search(r"\d\d:\d\d|--:--", line) for line in lines)


def test_the_budget_keeps_the_best_score_and_has_no_time_left_once_adaptation_has_ended():
    display = ProgressDisplay(console(True))
    meter = Meter(SHAPE, limit=10**9)
    display.watch(meter, 64, 10**9)
    assert display.snapshot() == Snapshot(spent=0.0)
    with display.stage("population", 2) as stage, meter.account("sample"):
        stage.advance(0.25)
        meter.reserve(Work(evaluations=5, prefill_tokens=10))
        assert (display.snapshot().stage, display.snapshot().steps) == ("population", "1/2")
    meter.limit = None
    with meter.account("evaluation"), display.stage("saving"):
        meter.reserve(Work(evaluations=5, prefill_tokens=10))
        spent = meter.spent / 10**9
        assert display.snapshot() == Snapshot("saving", "", best=0.25, spent=spent)
        shown = console(True)
        shown.print(display._progress.get_renderable())
    assert "best 0.250" in shown.file.getvalue()
    assert "--:--" not in shown.file.getvalue()


def test_a_stage_without_steps_says_how_long_it_took():
    display = ProgressDisplay(console(False))
    with display, display.stage("calibration"):
        pass
    assert re.fullmatch(r"calibration: \d\.\d s\n", display.console.file.getvalue())


def test_without_a_terminal_each_stage_ends_with_one_line():
    display = ProgressDisplay(console(False))
    with display, display.stage("population", 3) as stage:
        stage.advance(0.5, steps=3)
    assert display.console.file.getvalue().startswith("population: 3 done, best 0.500")
    assert "\x1b" not in display.console.file.getvalue()


def test_quiet_shows_nothing_but_measures_time():
    display = ProgressDisplay(console(True), quiet=True)
    with display, display.stage("population"):
        display.say("something")
    assert display.console.file.getvalue() == ""
    assert display.seconds["population"] >= 0


def test_text_is_printed_verbatim():
    display = ProgressDisplay(console(False))
    display.say("model [/INST] list[int] :smile:")
    assert display.console.file.getvalue() == "model [/INST] list[int] :smile:\n"
