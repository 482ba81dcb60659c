"""Signals that stop a run in good order: it unwinds as after Ctrl-C, and all finished work is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

WARNINGS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which batch systems announce the end of a job: SIGTERM before they kill it, SIGUSR1 or SIGUSR2 (as
`sbatch --signal` asks) some time before its time limit."""


class Stopped(KeyboardInterrupt):
    """One of these signals. It unwinds the program as Ctrl-C does, so that engines and training processes are stopped.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping() -> Iterator[None]:
    """Let a signal stop the block, by raising `Stopped`, or KeyboardInterrupt for Ctrl-C.

    Engines and training processes are stopped then, which takes a moment. A second Ctrl-C, or another warning, does not
    disturb it. A second SIGTERM kills at once. The block must run in the main thread.
    """
    before = {number: signal.signal(number, _stop) for number in WARNINGS}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def signal_of(stop: KeyboardInterrupt) -> int:
    """Return the number of the signal behind an interruption, or behind its cause."""
    found = next((each for each in (stop, stop.__cause__) if isinstance(each, Stopped)), None)
    return signal.SIGINT if found is None else found.number


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on: the process is ending."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    ignore_interrupts()
    raise KeyboardInterrupt


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    ignore_interrupts()
    for warning in WARNINGS:
        signal.signal(warning, signal.SIG_DFL if warning == signal.SIGTERM else signal.SIG_IGN)
    raise Stopped(number)
