import io

from rich.console import Console

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.run.progress import ProgressDisplay

SHAPE = ModelShape(2, 8, 2, 2, 4, 16, 32, tied=True)


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


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
