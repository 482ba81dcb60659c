"""Follow a run into a tracker: while it is running, or afterwards from its run directory. The code is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.compute.ledger import model_flops
from bench.compute.profile import ComputeProfile
from bench.records.config import read_config
from bench.records.digests import JOURNAL
from bench.records.journal import new_entries
from bench.records.schema import Result, read_result
from bench.track.curves import Curves, booking
from bench.track.interface import Point, Tracker
from bench.track.result import final, tracked


@dataclass(frozen=True)
class Budget:
    """Budget of a run, and what its journal is priced with.

    Attributes:
        profile: Compute profile of the run's model.
        evaluations: Budget in evaluations of the base model.
        flops: Budget in FLOPs.
    """

    profile: ComputeProfile
    evaluations: int
    flops: int


class Follower:
    """Logs a run to a tracker.

    Args:
        tracker: The tracker.
        folder: Run directory.
        identity: Run id.
        budget: Budget of the run; None for a run without curves, such as a test.
    """

    def __init__(self, tracker: Tracker, folder: Path, identity: str, budget: Budget | None) -> None:
        self._tracker, self._folder = tracker, folder
        after = tracker.begin(tracked(folder, read_config(folder), identity))
        self._curves = None
        if budget is not None:
            price = partial(model_flops, budget.profile)
            self._curves = Curves(price, budget.evaluations, budget.flops, after)
        self._read = 0
        self._training: list[int] = []  # what was spent before the first and after the last entry of training

    def follow(self) -> None:
        """Log what the journal has got since the last call."""
        if self._curves is None:
            return
        entries, self._read = new_entries(self._folder / JOURNAL, self._read)
        points: list[Point] = []
        for entry in entries:
            before = self._curves.spent
            points += self._curves.entry(entry)
            booked = booking(entry)
            if booked is not None and booked[0] == "train":
                self._training = [*(self._training[:1] or [before]), self._curves.spent]
        self._log(points)

    def row(self, flops: float, row: Mapping[str, float | None]) -> None:
        """Log a row of the training curve.

        Args:
            flops: FLOPs billed to the budget when the row was complete.
            row: Values by column.
        """
        if self._curves is not None:
            self._log(list(self._curves.row(flops, row)))

    def recorded(self, result: Result) -> None:
        """Log the training curve of a record, which does not tell what each step cost: its points are evenly spaced."""
        columns = result.report.get("training", {}).get("curve", {})
        steps = columns.get("step", [])
        if not self._training or not steps:
            return
        start, end = self._training
        for number in range(len(steps)):
            flops = start + (end - start) * (number + 1) / len(steps)
            self.row(flops, {name: values[number] for name, values in columns.items()})

    def end(self, result: Result | None) -> str:
        """Log the final values, and close the run. Return where the user finds it.

        Args:
            result: Result of the run; None if it was interrupted and can be resumed.
        """
        step = 0
        if self._curves is not None:
            self._log(list(self._curves.rest()))
            step = self._curves.step(self._curves.spent)
        values = {} if result is None else final(result)
        return self._tracker.end(step, values, status="interrupted" if result is None else result.status)

    def _log(self, points: list[Point]) -> None:
        if points:
            self._tracker.log(points)


def follow_finished(tracker: Tracker, folder: Path) -> str:
    """Log a finished run from its run directory. Return where the user finds it.

    Raises:
        UsageError: If the folder holds no finished run.
    """
    result = read_result(folder)
    profile = result.model.costs if result.model else None
    budget = None
    if profile is not None and result.budget is not None and result.source is None:
        budget = Budget(profile, result.budget.evaluations, result.budget.flops)
    follower = Follower(tracker, folder, result.id, budget)
    follower.follow()
    follower.recorded(result)
    return follower.end(result)
