"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Kind = Literal["loading", "moves", "generation", "judging", "training"]
"""Loading models and starting engines; moving weights; decoding answers, or waiting for engines that do; scoring,
running programs among it; gradient training as a whole."""


class Clock:
    """Wall-clock seconds by kind; what lies in no span is the harness's own time.

    Attributes:
        seconds: So far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open = False

    @contextmanager
    def span(self, kind: Kind) -> Iterator[None]:
        """Book the time of a block. In a block within it nothing is booked twice."""
        if self._open:
            yield
            return
        self._open, started = True, time.perf_counter()
        try:
            yield
        finally:
            self._open = False
            self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - started
