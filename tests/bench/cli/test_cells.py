import io
import re

import pytest
from rich.console import Console

from bench.cli.cells import CellTable
from bench.errors import Refused
from bench.run.grid import RunOutcome, expand, short_names
from bench.run.progress import Snapshot
from bench.run.settings import parse


def grid(methods=("base", "corp"), seeds=(0, 1), variations=(), **fields):
    given = {"tasks": ["addition"], "models": ["tiny-adder"], "budgets": ["600"]} | fields
    varied = [parse(text, "--vary", separator="|") for text in variations]
    return expand(methods=methods, seeds=seeds, variations=varied, **given)


def table(runs, width=80, height=24):
    return CellTable(runs, Console(file=io.StringIO(), force_terminal=True, width=width, height=height))


def frame(cells):
    """Return the lines of the table as it is now."""
    console = Console(file=io.StringIO(), width=cells._console.width, height=cells._console.height)
    console.print(cells._render())
    return console.file.getvalue().splitlines()


def refused(run, reason="no such luck"):
    return RunOutcome(run.config, error=Refused(reason))


def test_names_are_what_differs():
    shared, names = short_names(
        grid(variations=["corp.noise=iid|tied"], tasks=["addition", "modular-addition"], seeds=[3])
    )
    assert shared == "tiny-adder, budget 600, seed 3"
    assert names[:3] == ["base, addition", 'corp (noise = "iid"), addition', 'corp (noise = "tied"), addition']
    assert len(set(names)) == 6
    same = grid(["base"], seeds=[0]) * 2
    assert short_names(same) == ("addition, tiny-adder, budget 600, seed 0", ["base", "base #2"])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_keeps_best_spent_and_time(width):
    cells = table(grid(), width)
    display = cells.begin(2)
    task = display._progress.add_task("adaptation budget", total=100, completed=37, amount="", best="")
    display._budget = task
    with display.stage("stage 1: population of a rather long name, which has no room", 64) as stage:
        stage.advance(0.25, steps=12)
        lines = frame(cells)
    assert max(map(len, lines)) <= width
    (row,) = (line for line in lines if line.startswith("corp, seed 0"))
    assert all(part in row for part in ("stage 1", " 12/64 ", " 0.250 ", " 37 %"))
    assert lines[0].startswith("grid of 4 cells: addition, tiny-a")
    assert lines[-1] == "1 of 4 running, 3 waiting"


def test_a_cell_shows_how_it_ended():
    runs = grid()
    cells = table(runs)
    for number in range(2):
        cells.begin(number)
        cells.end(number, refused(runs[number]))
    lines = frame(cells)
    assert lines[2].split() == ["base,", "seed", "0", "refused:", "no", "such", "luck"]
    assert lines[4].split() == ["corp,", "seed", "0", "waiting"]
    assert lines[-1] == "2 of 4 refused, 2 waiting"


def test_a_table_that_is_too_long_shows_what_runs_and_what_failed_and_counts_the_rest():
    runs = grid(seeds=range(20))
    cells = table(runs, height=12)
    for number in (0, 1, 2):
        cells.begin(number)
        cells.end(number, refused(runs[number]))
    cells.begin(30)
    lines = frame(cells)
    assert len(lines) == 3 + 4
    assert [line.split("  ")[0] for line in lines[2:6]] == [f"base, seed {n}" for n in range(3)] + ["corp, seed 10"]
    assert lines[-1] == "1 of 40 running, 3 refused, 36 waiting, 36 not shown"
    for number in range(3, 20):
        cells.begin(number)
        cells.end(number, refused(runs[number]))
    lines = frame(cells)
    assert len(lines) < 12
    assert any(line.startswith("corp, seed 10") for line in lines)


def test_the_time_left_is_that_of_done_cells_of_the_same_kind(monkeypatch):
    runs = grid(seeds=[0, 1, 2])
    cells = table(runs)
    now = [100.0]
    monkeypatch.setattr("bench.cli.cells.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(RunOutcome, "state", "done")
    for number, seconds in ((0, 10), (3, 60)):
        cells.begin(number)
        now[0] += seconds
        cells.end(number, RunOutcome(runs[number].config))
    cells.begin(4)
    now[0] += 20
    lines = frame(cells)
    assert lines[6].split() == ["corp,", "seed", "1", "running", "0:40"]
    assert re.fullmatch(r"2 of 6 done, 1 running, 3 waiting; about 2:00 left, until .*\d\d:\d\d", lines[-1])


def test_the_time_left_of_a_grid_is_known_from_the_first_estimate_of_a_run_on(monkeypatch):
    cells = table(grid(["base"], seeds=[0, 1], budgets=["600", "1200"]))
    now = [100.0]
    monkeypatch.setattr("bench.cli.cells.time.perf_counter", lambda: now[0])
    display = cells.begin(0)
    now[0] += 20
    assert frame(cells)[-1] == "1 of 4 running, 3 waiting"
    monkeypatch.setattr(display, "snapshot", lambda: Snapshot("population", seconds_left=40.0))
    lines = frame(cells)
    assert [each.split()[-1] for each in lines if "population" in each] == ["0:40"]
    assert "; about 5:40 left, until " in lines[-1]  # 40 and 60 seconds, and 120 for each with twice the budget


def test_a_quiet_grid_tells_warnings_alone():
    cells = CellTable(grid(), Console(file=io.StringIO(), width=80), quiet=True)
    display = cells.begin(0)
    display.note("a fact")
    display.warn("a tracker failed")
    assert cells._console.file.getvalue() == "a tracker failed\n"


def test_a_note_is_told_once_and_progress_is_not_told():
    cells = CellTable(grid(), Console(file=io.StringIO(), width=80))
    for number in range(2):
        display = cells.begin(number)
        display.note("the checkpoint stores [bold] numbers")
        display.say("about 3 minutes")
    assert cells._console.file.getvalue() == "the checkpoint stores [bold] numbers\n"
