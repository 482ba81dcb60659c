"""Tracker of the point that the live weights are at; unknown after a failed move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.weights.checkpoint import Place
from bench.weights.points import Point


class CurrentPoint:
    """Point or checkpoint of the live weights, initially the base. Does not move the weights itself."""

    def __init__(self) -> None:
        self._place: Place | None = Point()

    @property
    def place(self) -> Place:
        """Current point or checkpoint.

        Raises:
            RuntimeError: If the last move failed; another move repairs it.
        """
        if self._place is None:
            raise RuntimeError("the last move through weight space failed halfway; move to a point again")
        return self._place

    def is_at(self, place: Place) -> bool:
        """Return whether the weights are already at this point or checkpoint."""
        return place == self._place

    @contextmanager
    def moving_to(self, place: Place) -> Iterator[None]:
        """Record a move: the block must write the weights. The point is unknown if the block raises."""
        self._place = None
        yield
        self._place = place
