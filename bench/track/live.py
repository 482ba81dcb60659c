"""Observer that tells trackers of a run while it is running. Each tracker has a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.compute.meter import Meter
from bench.run.progress import ProgressDisplay
from bench.track.follow import Budget
from bench.track.interface import short
from bench.track.process import TrackerProcess

LIMIT = 30.0
"""Seconds that all trackers together may take at the end of a run. They are stopped then. A library takes seconds to
load, so a short run may end before."""
INTERRUPTED = 5.0
"""The same at the end of a run without a record, such as an interrupted one: the user waits for the prompt."""
LOOK = 1.0
"""Seconds between two looks at whether a tracker has failed."""


class Tracking:
    """Trackers of one run. See `bench.run.observer.Observer`.

    A tracker that fails is named once, and the run goes on. A tracker that does not read its messages misses some:
    the run never waits for it before its end, and then for `LIMIT` or `INTERRUPTED` seconds.

    Args:
        names: Names of trackers, see `bench.track.interface.check`. One that does not end in time is removed from this
            list, so that the runs of a grid do not all wait for it.
        say: Function that prints where the user finds the run.
        note: Function that prints why a tracker has failed.
    """

    def __init__(self, names: list[str], say: Callable[[str], None], note: Callable[[str], None]) -> None:
        self._names, self._say, self._note = names, say, note
        self._opened = ExitStack()
        self._processes: list[TrackerProcess] = []
        self._run: dict[str, Any] = {}
        self._meter: Meter | None = None
        self._started = False
        self._looked = 0.0

    def began(self, folder: Path, identity: str) -> None:
        """Keep the run's directory and id."""
        self._run = {"folder": str(folder.absolute()), "id": identity, "budget": None}
        self._started, self._meter = False, None

    def budgeted(self, meter: Meter, evaluations: int, flops: int) -> None:
        """Start the trackers, with what the curves need."""
        self._meter = meter
        self._run["budget"] = TypeAdapter(Budget).dump_python(Budget(meter.profile, evaluations, flops), mode="json")
        self._start()

    def _start(self) -> None:
        self._started = True
        for name in self._names:
            process = self._opened.enter_context(TrackerProcess(name))
            process.send(self._run)
            self._processes.append(process)

    def advanced(self, values: Mapping[str, float | None]) -> None:
        """Send a row of the training curve, unless it is of a trial."""
        if self._meter is not None and values and self._meter.booked_to("train") == "train":
            for process in self._processes:
                process.send({"spent": self._meter.spent, "row": dict(values)})
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            self._name_failed()

    def ended(self, *, complete: bool) -> None:
        """Let the trackers finish, and say where the run is."""
        with self._opened:
            if not self._started and complete:  # a test, or a run that ended before it had a budget
                self._start()
            deadline = time.monotonic() + (LIMIT if complete else INTERRUPTED)
            for process in self._processes:
                process.send_last({"ended": complete}, deadline - time.monotonic())
            for process in self._processes:
                process.wait(max(deadline - time.monotonic(), 0))
            self._name_failed()
            for process in self._processes:
                self._say(f"{process.name}: {process.where}")
            self._processes = []

    def _name_failed(self) -> None:
        for process in list(self._processes):
            if process.look() and process.error is not None:
                self._processes.remove(process)
                if process.late:
                    self._names.remove(process.name)
                self._note(
                    f"tracker {process.name} failed, and the run does not need it: {process.error}; to log it once it "
                    f"has ended: bench track {short(self._run['folder'])} --to {process.name}"
                )


def tracked(display: ProgressDisplay, names: list[str]) -> ProgressDisplay:
    """Return the display, with trackers that are told of its run.

    Args:
        display: Display of a run.
        names: Names of trackers, see `Tracking`.
    """
    if names:
        display.observers.add(Tracking(names, display.say, display.note))
    return display
