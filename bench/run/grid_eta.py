"""Time left of a grid, by its cells that have ended and the estimates of those that run. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CellTime:
    """Time of one cell of a grid.

    Attributes:
        kinds: What it is, from narrow to wide, such as its configuration without the seed, and its method. Cells that
            agree in an entry are expected to take times in proportion to their planned work.
        planned: Planned work.
        state: Whether it has ended, is running or is waiting. Cells of another fate, such as a refused one, tell
            nothing and are left out.
        elapsed: Seconds that it took, or has taken so far.
        left: Estimate by itself of its seconds left, while it is running; None without one.
    """

    kinds: tuple[str, ...]
    planned: float
    state: Literal["ended", "running", "waiting"]
    elapsed: float = 0.0
    left: float | None = None

    @property
    def total(self) -> float | None:
        """Time of the whole cell; None if nothing is known of it."""
        return self.elapsed if self.state == "ended" else None if self.left is None else self.elapsed + self.left


def cell_left(cell: CellTime, cells: Sequence[CellTime]) -> float | None:
    """Return the time left of a cell that has not ended; None if nothing is known.

    It follows from ended cells of its narrowest kind. Without any, or if it takes longer than these did, it is what
    the cell itself estimates, and else follows from cells of wider kinds.
    """
    usual = _usual(cell, cells, 0, "ended")
    if usual is not None and usual > cell.elapsed:
        return usual - cell.elapsed
    if cell.left is not None:
        return cell.left
    known = (_usual(cell, cells, depth, state) for depth in range(len(cell.kinds)) for state in ("ended", "running"))
    total = next((each for each in known if each is not None), None)
    return None if total is None else max(0.0, total - cell.elapsed)


def grid_left(cells: Sequence[CellTime]) -> float | None:
    """Return the time left of a grid that goes on with as many cells at once as now; None while nothing is known."""
    running = [cell_left(cell, cells) for cell in cells if cell.state == "running"]
    waiting = [cell_left(cell, cells) for cell in cells if cell.state == "waiting"]
    known = [left for left in (*running, *waiting) if left is not None]
    if len(known) < len(running) + len(waiting):
        return None
    return max([sum(known) / max(1, len(running)), *known[: len(running)]])


def _usual(cell: CellTime, cells: Sequence[CellTime], depth: int, state: str) -> float | None:
    """Return the time that a cell takes by others in a state that agree in an entry of `kinds`; None without any."""
    alike = [
        (each.total, each.planned)
        for each in cells
        if each is not cell and each.state == state and each.kinds[depth] == cell.kinds[depth]
    ]
    known = [(total, planned) for total, planned in alike if total is not None]
    planned = sum(planned for _, planned in known)
    return cell.planned * sum(total for total, _ in known) / planned if planned else None
