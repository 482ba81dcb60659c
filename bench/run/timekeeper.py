"""Time left of a run, by the time that its finished steps took: it feeds `bench.run.eta` with what was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.compute.ledger import Account, Work
from bench.compute.meter import Meter
from bench.records.journal import Journal
from bench.run.eta import Left, Part, time_left

MEASURED = 5.0
"""Seconds of work that an estimate needs. The first answers of a process take up to a hundred times as long as those
that follow, because libraries are loaded and code is compiled."""
WARM_UP = 30.0
"""Seconds below which the first step of each kind of work is left out, for the same reason. A longer step is hardly
affected, and the user waits for an estimate."""
FAR = 3e10
"""Seconds, about a thousand years, up to which every system can tell the date."""


@dataclass(frozen=True)
class Phase:
    """Planned part of a run, by the accounts that its work is booked to.

    Attributes:
        kind: Kind of its work; see `bench.run.eta.Part`.
        accounts: Accounts of its work.
        planned: Planned work.
        follows: Whether all phases before it have ended when it begins.
        times: It takes this many times the work of the phase before it, once that has ended. None: as planned.
    """

    kind: str
    accounts: tuple[Account, ...]
    planned: float
    follows: bool = False
    times: float | None = None


class Timekeeper:
    """Measures the steps of a run, and returns the time left.

    The display calls `step` when a step of a stage has ended. Steps that were recalled from the journal are not
    measured, because they took no time.

    Args:
        meter: Meter of the run.
        journal: Journal of the run.
        phases: Phases of the run, in order.
        size: Returns the size of work, in the unit of the phases.
        prior: Seconds per unit by kind, as the calibration measured them.
        what: Description of the work, such as `384 evaluations planned, 64 test items`.
    """

    def __init__(
        self,
        meter: Meter,
        journal: Journal,
        phases: Sequence[Phase],
        size: Callable[[Work], float],
        prior: dict[str, float] | None = None,
        what: str = "",
    ) -> None:
        self.what = what
        self._meter, self._journal, self._phases, self._size, self._prior = meter, journal, phases, size, prior or {}
        self._measured, self._seconds = [0.0] * len(phases), [0.0] * len(phases)
        self._warm: set[str] = set()
        self._finished: list[float] = []
        self._begun = time.perf_counter()
        self._note(self._begun, self._done())

    @property
    def measured(self) -> float:
        """Seconds of work that were measured."""
        return sum(self._seconds)

    @property
    def elapsed(self) -> float:
        """Seconds since the start of this attempt's work."""
        return time.perf_counter() - self._begun

    @property
    def left(self) -> float | None:
        """Seconds left of the run; None while too little was measured."""
        return None if self._left is None else self._left.after(time.perf_counter() - self._last)

    def begin(self) -> None:
        """Note that a stage begins. Time since the last step without any work, such as loading, is not measured."""
        if self._done() == self._finished:
            self._last_work = time.perf_counter()

    def step(self) -> None:
        """Measure the time since the last step, and estimate anew."""
        now, done = time.perf_counter(), self._done()
        new = [after - before for after, before in zip(done, self._finished, strict=True)]
        if sum(new) <= 0:
            return  # the time counts for the next step that has work
        if self._journal.recalled == self._recalled:
            for number, work in enumerate(new):
                self._book(number, work, (now - self._last_work) * work / sum(new))
        self._note(now, done)

    def _book(self, number: int, work: float, seconds: float) -> None:
        kind = self._phases[number].kind
        if work and (kind in self._warm or seconds >= WARM_UP):
            self._measured[number] += work
            self._seconds[number] += seconds
        if work:
            self._warm.add(kind)

    def _note(self, now: float, done: list[float]) -> None:
        self._last = self._last_work = now
        self._finished, self._recalled = done, self._journal.recalled
        parts = self._parts()
        found = time_left(parts, self._prior)
        present = next((part.kind for part in parts if part.left), None)
        known = self.measured >= MEASURED or present in self._prior or present is None
        self._left: Left | None = found if known else None

    def _done(self) -> list[float]:
        accounts = self._meter.ledger.accounts()
        return [sum(self._size(accounts[a]) for a in phase.accounts if a in accounts) for phase in self._phases]

    def _parts(self) -> list[Part]:
        found: list[Part] = []
        begun = [number for number, done in enumerate(self._finished) if done and self._phases[number].follows]
        last = max(begun, default=0)
        for number, phase in enumerate(self._phases):
            planned = phase.planned
            if phase.times is not None and found and found[-1].ended:
                planned = phase.times * found[-1].done
            found.append(
                Part(
                    phase.kind,
                    planned,
                    self._finished[number],
                    self._measured[number],
                    self._seconds[number],
                    ended=number < last,
                )
            )
        return found


def duration(seconds: float) -> str:
    """Return a time for a reader, such as `40 seconds`, `12 minutes` or `3.5 hours`."""
    from bench.amounts import counted

    if seconds < 120:
        return counted(round(seconds), "second")
    return counted(round(seconds / 60), "minute") if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def clock(seconds: float | None) -> str:
    """Return a time as `0:07` or `1:02:30`; empty if it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ends_at(seconds: float) -> str:
    """Return when something ends: `18:42` today, `Nov 30, 02:15` this year, else `2027-01-03`."""
    now = time.time()
    end, today = time.localtime(now + min(seconds, FAR)), time.localtime(now)
    form = "%H:%M" if end[:3] == today[:3] else "%b %d, %H:%M" if end[0] == today[0] else "%Y-%m-%d"
    return time.strftime(form, end)
