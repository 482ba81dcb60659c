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
            RuntimeError: If the last move failed, or the weights are those of a training; another move repairs it.
        """
        if self._place is None:
            raise RuntimeError(
                "the weights are at no known point: the last move failed halfway, or they are those of a training; "
                "move to a point again"
            )
        return self._place

    def leave(self) -> None:
        """Record that the weights are at no point and no checkpoint, but those of a training in progress."""
        self._place = None

    def is_at(self, place: Place) -> bool:
        """Return whether the weights are already at this point or checkpoint."""
        return place == self._place

    @contextmanager
    def moving_to(self, place: Place) -> Iterator[None]:
        """Record a move: the block must write the weights. The point is unknown if the block raises."""
        self._place = None
        yield
        self._place = place
