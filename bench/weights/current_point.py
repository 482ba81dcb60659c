"""Where weights stand, and that nobody is told so after a move that failed half way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.weights.checkpoint import Place
from bench.weights.points import Point


class CurrentPoint:
    """The place that weights are at, the base to begin with. Moves nothing itself."""

    def __init__(self) -> None:
        self._place: Place | None = Point()

    @property
    def place(self) -> Place:
        """The place.

        Raises:
            RuntimeError: If the last move failed half way; any further move mends it.
        """
        if self._place is None:
            raise RuntimeError("the last move through weight space failed half way; move to a point again")
        return self._place

    def is_at(self, place: Place) -> bool:
        """Return whether a move to this place would change nothing."""
        return place == self._place

    @contextmanager
    def moving_to(self, place: Place) -> Iterator[None]:
        """Have the weights written in this block; if it fails, no place describes them."""
        self._place = None
        yield
        self._place = place
