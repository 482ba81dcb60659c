"""Live table of the cells of a grid, on stderr: state, best score, spent share of the budget, and time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.cells.job import NotingDisplay
from bench.compute.budget import parse_budget
from bench.plain import line
from bench.run.grid_eta import CellTime, cell_left, grid_left
from bench.run.progress import ProgressDisplay, Snapshot
from bench.run.timekeeper import clock, ends_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.run.grid import GridRun, RunOutcome

STATES = ("done before", "done", "running", "failed", "refused", "held", "stopped", "waiting")
"""States of cells, in the order of the counts below the table."""
STYLES = {"running": "bold", "failed": "red", "refused": "yellow", "held": "yellow", "stopped": "yellow"}
FIGURES = {"best": 6, "spent": 6, "ETA": 8}
"""Columns of figures, with their widths."""
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": True}
"""Options of a console's `print` for a text that stays one line as it is."""


@dataclass
class Cell:
    """One run of a grid.

    Attributes:
        name: Short name, unique in the grid.
        kinds: Its configuration without the seed, its method with its unit of budget, and that unit; see `CellTime`.
        planned: Its budget, in that unit.
        display: Display of the run while it is running.
        outcome: Outcome of the run once it has ended.
        started: Monotonic time when it started.
        seconds: Time that it took.
        last: State of the run at its end.
    """

    name: str
    kinds: tuple[str, ...]
    planned: float
    display: ProgressDisplay | None = None
    outcome: RunOutcome | None = None
    started: float = 0.0
    seconds: float | None = None
    last: Snapshot = field(default_factory=Snapshot)

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.display is not None:
            return "running"
        return self.outcome.state if self.outcome else "waiting"


class CellTable:
    """Live table of the cells on a terminal; elsewhere a line for each cell as it ends.

    Args:
        runs: Runs of the grid.
        console: Console to write to.
        quiet: Write nothing.
    """

    def __init__(self, runs: Sequence[GridRun], console: Console, *, quiet: bool = False) -> None:
        from bench.run.grid import short_names

        shared, names = short_names(runs)
        self.cells = [_waiting(name, run) for name, run in zip(names, runs, strict=True)]
        self._title = f"grid of {len(runs)} cells" + (f": {shared}" if shared else "")
        self._console, self._quiet = console, quiet
        self._told: set[str] = set()
        self._live = Live(
            console=console, get_renderable=self._render, transient=True, auto_refresh=console.is_terminal
        )

    def __enter__(self) -> CellTable:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        elif not self._quiet:
            self._console.print(line(self._title), style="bold", **PLAIN)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, number: int, progress: Callable[[], Snapshot] | None = None) -> ProgressDisplay:
        """Show a cell as running. Return the display of its run.

        Args:
            number: Number of the cell.
            progress: Function that returns the progress of a run that another process executes; None if this one does.
        """
        cell = self.cells[number]
        cell.started = time.perf_counter()
        cell.display = NotingDisplay(self.tell, progress, partial(self.tell, always=True))
        return cell.display

    def end(self, number: int, outcome: RunOutcome) -> None:
        """Show how a cell ended."""
        cell = self.cells[number]
        cell.last = cell.display.snapshot() if cell.display else Snapshot()
        again = cell.outcome is not None and cell.outcome.state == outcome.state  # it is still held
        cell.outcome, cell.display = outcome, None
        cell.seconds = time.perf_counter() - cell.started
        if not (self._quiet or self._console.is_terminal or cell.state == "done before" or again):
            took = f" in {clock(cell.seconds)}" if cell.state == "done" else ""
            ended = sum(each.outcome is not None for each in self.cells)
            # A held cell is tried again, and the grid's end has its reason.
            reason = f": {outcome.reason}" if outcome.reason and cell.state != "held" else ""
            text = f"{cell.name}: {cell.state}{took}{reason}  ({ended} of {len(self.cells)})"
            self._console.print(line(text), style=STYLES.get(cell.state), **PLAIN)

    def tell(self, text: str, *, always: bool = False) -> None:
        """Print a fact that the user should know of, once; even if quiet, where `always` is True."""
        if text not in self._told and (always or not self._quiet):
            self._told.add(text)
            self._console.print(line(text), **PLAIN)

    def _render(self) -> Group:
        width, height = self._console.size
        shown, left_out = self._shown(height - 4)  # title, headings, counts, and the line of the cursor
        table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="dim")
        names = min(max([4, *(len(line(cell.name)) for cell in shown)]), width // 2) + 1
        states = max(width - names - sum(FIGURES.values()) - len(FIGURES) - 1, 1)  # one space between columns
        table.add_column("cell", no_wrap=True, overflow="ellipsis", width=names)
        table.add_column("state", no_wrap=True, overflow="ellipsis", width=states)
        for heading, size in FIGURES.items():
            table.add_column(heading, justify="right", no_wrap=True, width=size)
        for cell in shown:
            table.add_row(*self._row(cell, states))
        title = Text(line(self._title), style="bold", no_wrap=True, overflow="ellipsis")
        counts = Text(self._counts(left_out), no_wrap=True, overflow="ellipsis")
        return Group(title, table, counts)

    def _shown(self, room: int) -> tuple[list[Cell], int]:
        """Return the cells that are shown, and how many are not: the running and failed ones come first."""
        if len(self.cells) <= room:
            return self.cells, 0
        first = [cell for cell in self.cells if cell.state == "running"]
        first += [cell for cell in self.cells if cell.state in ("failed", "refused", "held", "stopped")]
        kept = {id(cell) for cell in first[: max(room, 1)]}
        shown = [cell for cell in self.cells if id(cell) in kept]
        return shown, len(self.cells) - len(shown)

    def _row(self, cell: Cell, width: int) -> list[Text]:
        now = cell.display.snapshot() if cell.display else cell.last
        state, left = cell.state, ""
        if cell.display is not None:
            state = _shortened(now.stage or "running", now.steps, width)
            left = clock(self._left(cell))
        elif cell.outcome is not None and cell.outcome.reason:
            state = f"{cell.state}: {cell.outcome.reason}"
        elif cell.state == "done" and cell.seconds is not None:
            state = f"done in {clock(cell.seconds)}"
        best = "" if now.best is None else f"{now.best:.3f}"
        spent = "" if now.spent is None else f"{100 * now.spent:.0f} %"
        style = STYLES.get(cell.state, "")
        return [Text(line(text), style=style) for text in (cell.name, state, best, spent, left)]

    def _counts(self, left_out: int) -> str:
        found = [cell.state for cell in self.cells]
        parts = [f"{found.count(state)} {state}" for state in STATES if state in found]
        parts += [f"{left_out} not shown"] if left_out else []
        left = self._grid_left()
        parts[0] = parts[0].replace(" ", f" of {len(found)} ", 1)
        return ", ".join(parts) + (f"; about {clock(left)} left, until {ends_at(left)}" if left else "")

    def _left(self, cell: Cell) -> float | None:
        """Return the time left of a running cell: by the cells of its kind that are done, else by its own estimate."""
        times = self._times()
        return cell_left(times[id(cell)], list(times.values()))

    def _grid_left(self) -> float | None:
        """Return the time left of the grid; None while it is not known, and if nothing is left."""
        times = list(self._times().values())
        unfinished = any(each.state != "ended" for each in times)
        return grid_left(times) if unfinished else None

    def _times(self) -> dict[int, CellTime]:
        """Return the times of the cells that tell something, by the `id` of the cell."""
        found = {}
        for cell in self.cells:
            if cell.display is not None:
                elapsed, left = time.perf_counter() - cell.started, cell.display.snapshot().seconds_left
                found[id(cell)] = CellTime(cell.kinds, cell.planned, "running", elapsed, left)
            elif cell.state == "done" and cell.seconds:
                found[id(cell)] = CellTime(cell.kinds, cell.planned, "ended", cell.seconds)
            elif cell.state == "waiting":
                found[id(cell)] = CellTime(cell.kinds, cell.planned, "waiting")
        return found


def _waiting(name: str, run: GridRun) -> Cell:
    """Return a cell that has not begun."""
    budget = parse_budget(run.config.budget)
    alike = run.config.model_copy(update={"seed": 0}).model_dump_json()
    return Cell(name, (alike, f"{run.config.method} {budget.unit}", budget.unit), budget.amount)


def _shortened(stage: str, steps: str, width: int) -> str:
    """Return a stage with its steps. The name of the stage is cut off where there is no room for both."""
    room = max(width - len(steps) - 1, 0) if steps else width
    stage = line(stage)
    return f"{stage if len(stage) <= room else stage[: max(room - 1, 0)] + '…'} {steps}".strip()
