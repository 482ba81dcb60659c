import io
import re
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.run import bars, notebook, timekeeper
from bench.run.progress import ProgressDisplay, Snapshot

SHAPE = ModelShape(2, 8, 2, 2, 4, 16, 32, tied=True).profile()


def console(terminal, width=120):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets, and noon as the time of the day at its start."""
    now = [100.0]
    noon = time.mktime((2026, 11, 29, 12, 0, 0, 0, 0, -1)) - now[0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: noon + now[0])
    return now


def keep_time(display, meter, planned=40, what="40 evaluations planned"):
    """Let a display show the time left of a run."""
    phases = [timekeeper.Phase("answers", ("sample",), planned)]
    journal = SimpleNamespace(recalled=0)
    display.keep_time(timekeeper.Timekeeper(meter, journal, phases, lambda work: work.evaluations, what=what))


def answer(meter, evaluations=1):
    with meter.account("sample"):
        meter.reserve(Work(evaluations=evaluations, prefill_tokens=10))


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
def test_a_narrow_terminal_cuts_the_name_of_the_stage_and_nothing_else(width, clock):
    display = ProgressDisplay(console(True, width))
    meter = Meter(SHAPE, limit=10**9)
    display.watch(meter, 4096, 10**9)
    keep_time(display, meter, 4096)
    name = "stage 1: population of a rather long name"
    with display.stage(name, 64) as stage:
        for _ in range(2):
            answer(meter, 617)
            clock[0] += 40
            stage.advance(0.25, steps=6)
        shown = console(True, width)
        shown.print(display._progress.get_renderable())
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.file.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    budget, run, population = lines
    assert budget.startswith("adaptatio… " if width == 60 else "adaptation budget ")
    assert "1234/4096 evaluations" in budget
    assert (f"/{10**9:.2e} FLOPs" in budget) == (width == 120)
    assert run.startswith("whole run")
    assert re.search(r" ends at 12:04 +3:06 ", run)  # 2862 evaluations at 40 / 617 s each, 80 s after noon
    assert population.startswith("stage 1: …" if width == 60 else "stage 1: population")
    assert " 12/64 " in population
    assert "best 0.250" in population


def test_the_first_estimate_is_said_and_later_ones_are_shown(clock):
    display = ProgressDisplay(console(False))
    meter = Meter(SHAPE, limit=10**9)
    keep_time(display, meter)
    assert display.snapshot().seconds_left is None
    with display.stage("population", 40) as stage:
        for _ in range(3):
            answer(meter)
            clock[0] += 40
            stage.advance()
        assert display.snapshot().seconds_left == 37 * 40
    said = display.console.file.getvalue().splitlines()
    assert said[0] == "about 26 minutes left, until 12:26, judging by 40 s of work: 40 evaluations planned"
    assert sum("judging by" in each for each in said) == 1


def test_the_budget_keeps_the_best_score_and_shows_no_time():
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


@pytest.mark.parametrize("calls", [[(0, None)], [(5, 5)], [(0, None), (2, 5), (5, 5)]])
def test_a_transfer_is_shown_until_the_next_one_and_is_no_stage_of_the_run(calls):
    display = ProgressDisplay(console(False))
    for done, total in calls:
        display.bytes("hashing /home/me/model", done, total)
        shown = [task.description for task in display._progress.tasks]
        assert shown == (["hashing /home/me/model"] if done != total else [])
    assert display.snapshot() == Snapshot()
    display.bytes("converting", 0, None)
    assert [task.description for task in display._progress.tasks] == ["converting"]
    with display.stage("population", 2) as stage:
        stage.advance(0.25)
        assert [task.description for task in display._progress.tasks] == ["population"]
        assert display.snapshot() == Snapshot("population", "1/2", best=0.25)
    assert display.console.file.getvalue().startswith("hashing /home/me/model ...\nconverting ...\npopulation: ")


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


def test_a_log_has_a_line_for_each_tenth_of_a_long_stage_but_one_a_minute_at_most(clock):
    display = ProgressDisplay(console(False))
    meter = Meter(SHAPE, limit=10**9)
    display.watch(meter, 40, 10**9)
    keep_time(display, meter)
    with display, display.stage("population", 40) as stage:
        for _ in range(40):
            answer(meter)
            clock[0] += 25
            stage.advance(0.25)
    said = [each for each in display.console.file.getvalue().splitlines() if "judging by" not in each]
    assert said[:2] == [
        "population: 5/40, best 0.250; about 15 minutes left, until 12:16",
        "population: 8/40, best 0.250; about 13 minutes left, until 12:16",
    ]
    assert len(said) == 10
    assert said[-1] == "population: 40 done, best 0.250, 1000.0 s"
    assert all(each.isprintable() for each in said)


def test_a_log_has_a_line_every_ten_minutes_of_a_stage_without_steps(clock):
    display = ProgressDisplay(console(False))
    meter = Meter(SHAPE, limit=10**9)
    display.watch(meter, 40, 10**9)
    with display.stage("votes"):
        for _ in range(25):
            answer(meter)
            clock[0] += 60
    assert display.console.file.getvalue().splitlines() == ["votes: running", "votes: running", "votes: 1500.0 s"]


def test_neither_a_terminal_nor_quiet_have_lines_of_a_log(clock):
    for terminal, quiet in ((True, False), (False, True)):
        display = ProgressDisplay(console(terminal), quiet=quiet)
        with display.stage("population", 2) as stage:
            clock[0] += 700
            stage.advance()
            assert "population: 1/2" not in display.console.file.getvalue()


class FakeIPython(ModuleType):
    """IPython's module `display`, which keeps the pages of each output."""

    def __init__(self):
        super().__init__("IPython.display")
        self.HTML, self.outputs = (lambda page: page), []

    def display(self, page, *, display_id):
        assert display_id is True
        pages = [page]
        self.outputs.append(pages)
        return SimpleNamespace(update=pages.append)


@pytest.fixture
def outputs(monkeypatch):
    """Outputs of the cells of a notebook."""
    fake = FakeIPython()
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    return fake.outputs


def in_notebook():
    return Console(file=io.StringIO(), force_jupyter=True)


def text(page):
    return re.sub("<[^>]*>", "", page)


def test_a_notebook_has_one_output_that_is_replaced_and_ends_with_the_lines(clock, outputs):
    display = ProgressDisplay(in_notebook())
    meter = Meter(SHAPE, limit=10**9)
    with display:
        display.watch(meter, 40, 10**9)
        with display.stage("population", 4) as stage:
            for _ in range(4):
                answer(meter)
                clock[0] += notebook.SECONDS
                stage.advance(0.25)
    assert display.console.file.getvalue() == ""
    (pages,) = outputs
    assert any("population                " in text(page) and " 3/4 " in text(page) for page in pages)
    assert any(" 2/40 evaluations" in text(page) for page in pages)
    assert text(pages[-1]).strip() == "population: 4 done, best 0.250, 2.0 s"
    assert len(pages) <= 4 + 3


def test_a_notebook_is_updated_twice_a_second_at_most(clock, outputs):
    display = ProgressDisplay(in_notebook())
    with display, display.stage("population", 1000) as stage:
        for _ in range(1000):
            clock[0] += 0.01
            stage.advance()
    assert len(outputs[0]) <= 10 / notebook.SECONDS + 3


def test_each_run_in_a_notebook_has_an_output_of_its_own_and_so_has_a_line_outside_of_it(clock, outputs):
    display = ProgressDisplay(in_notebook())
    display.note("the checkpoint stores [bold] & <numbers>")
    for name in ("first", "second"):
        with display, display.stage(name):
            pass
    ended = [text(pages[-1]).strip() for pages in outputs]
    assert ended == ["the checkpoint stores [bold] &amp; &lt;numbers&gt;", "first: 0.0 s", "second: 0.0 s"]


def test_a_long_line_is_folded_by_the_browser_and_not_by_the_display(outputs):
    sentence = "a note that is longer than the bars are wide " * 5
    ProgressDisplay(in_notebook()).note(sentence)
    assert sentence in text(outputs[0][-1])


def test_a_notebook_that_fails_stops_no_run(outputs, monkeypatch):
    def fail(page, *, display_id):
        raise ConnectionError("the kernel is gone")

    monkeypatch.setattr(sys.modules["IPython.display"], "display", fail)
    display = ProgressDisplay(in_notebook())
    with display, display.stage("population"):
        display.say("something")
    assert display.seconds["population"] >= 0


def test_a_quiet_notebook_has_no_output(outputs):
    display = ProgressDisplay(in_notebook(), quiet=True)
    with display, display.stage("population"):
        display.say("something")
    assert outputs == []


def test_a_wide_terminal_has_longer_bars():
    widths = [bars.bars(console(True, width), disable=True).columns[1].bar_width for width in (99, 100)]
    assert widths == [10, 20]
