"""State of one cell of a grid, as `bench status` shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from bench.records.schema import Status

CellState = Status | Literal["running", "waiting", "stopped", "dead", "unfinished", "unreadable"]
"""State of a cell. `stopped`: interrupted in good order. `dead`: the process that executed it no longer exists.
`unfinished`: its folder does not say. The next attempt goes on from the journal in each of these cases."""


class CellStatus(BaseModel):
    """State of one cell. What is not known is None.

    Attributes:
        name: What it runs, such as `es on addition, tiny-adder, budget small, seed 0`.
        folder: Run directory; None if the cell has not begun.
        state: How far it is.
        where: Process that executes it or did last, such as `4711 on gpu-3`, or the job that it waits for.
        stage: Present stage, such as `population`; the last one of a run that is not running.
        steps: Its finished steps, such as `12/64`.
        best: Best score of the search.
        spent: Spent share of the budget.
        seconds_left: Estimated time left of the whole run.
        silent: Seconds since its process last gave a sign, if it should be running.
        accuracy: Accuracy of each artifact of a finished run on the test split, as trained, by its label.
        reason: Reason why it is not done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    folder: str | None = None
    state: CellState
    where: str | None = None
    stage: str | None = None
    steps: str | None = None
    best: float | None = None
    spent: float | None = None
    seconds_left: float | None = None
    silent: float | None = None
    accuracy: dict[str, float] = {}
    reason: str | None = None
