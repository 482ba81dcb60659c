"""Observers of a run: trackers and other displays that are told what happens in it, and cannot change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from bench.compute.meter import Meter
from bench.failures import located


class Observer(Protocol):
    """Observer of a run. Its methods return at once; one that raises is not called again."""

    def began(self, folder: Path, identity: str) -> None:
        """Hear that a run begins, or continues, in a run directory; with its id."""

    def budgeted(self, meter: Meter, evaluations: int, flops: int) -> None:
        """Hear the budget of the run, once the model is loaded and calibrated. A test has none."""

    def advanced(self, values: Mapping[str, float | None]) -> None:
        """Hear that a step is done, with the values of its row of the training curve; empty without any."""

    def ended(self, *, complete: bool) -> None:
        """Hear that the run has ended. Its result is written if it is complete, and it can be resumed if not."""


class Observers:
    """Observers of one display. An observer that raises is named once and then left out.

    Args:
        note: Function that prints one line for the user.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._observers: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Add an observer."""
        self._observers.append(observer)

    def tell(self, event: Callable[[Observer], None]) -> None:
        """Call a method of each observer."""
        for each in list(self._observers):
            try:
                event(each)
            except Exception as error:
                self._observers.remove(each)
                self._note(f"{type(each).__name__} failed and is left out, the run goes on: {located(error)}")
