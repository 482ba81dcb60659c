"""Values that can be changed and that both sides of a call have: lists, dictionaries and the like.

Both sides number them alike. A call's values are shared until it ends. If an iterator is among its arguments or its
result, they are shared as long as that iterator: with each item, either side tells the other what has changed. So a
generator that yields one list again and again yields one list on the other side, too.
"""

from __future__ import annotations

import operator
import sys
from array import array
from collections import deque
from typing import Any

_PER_CALL = 256
"""Items that a call of an iterator may compare. Larger values are compared once in several calls, and at the end."""
_PER_VALUE = 16
"""Items that take as long to compare as it takes to begin with a value."""


class Shared:
    """Values that two sides share.

    Attributes:
        values: The values by their numbers. They are kept alive, so that their ids stay theirs.
        sizes: Number of plain values in each of them when it was sent.
        count: The next value's number.
        followed: Whether an iterator shares the values, too.
        met: Whether the message that is being written names one of the values instead of sending it.
    """

    __slots__ = (
        "_compared",
        "_contents",
        "_credit",
        "_noted",
        "_numbers",
        "_weight",
        "count",
        "followed",
        "met",
        "sizes",
        "values",
    )

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.sizes: dict[int, int] = {}
        self.count = self._noted = self._credit = self._weight = 0
        self.followed = self.met = self._compared = False
        self._numbers: dict[int, int] = {}
        self._contents: dict[int, list[Any] | bytes] = {}

    def number(self, value: Any) -> int | None:
        """Return the number of a value; None if it is not shared."""
        return self._numbers.get(id(value))

    def add(self, value: Any, size: int) -> None:
        """Give a value the next number."""
        self.values[self.count] = value
        self.sizes[self.count] = size
        self._numbers[id(value)] = self.count
        self.count += 1

    def forget(self, number: int) -> None:
        """Share a value no longer."""
        value = self.values.pop(number)
        del self._numbers[id(value)], self.sizes[number]
        self._contents.pop(number, None)

    def cut(self, count: int) -> None:
        """Forget the values from a number on, which were not sent after all."""
        while self.count > count:
            self.count -= 1
            self.forget(self.count)

    def note(self) -> None:
        """Note the content of each new value, on which both sides agree at this moment."""
        while self._noted < self.count:
            if self._noted in self.values:
                self._contents[self._noted] = _content(self.values[self._noted])
                self._weight += _PER_VALUE + len(self._contents[self._noted])
            self._noted += 1

    def replace(self, number: int, new: Any) -> None:
        """Give a value the content of another one of the same kind, as the other side has it.

        Raises:
            TypeError: If they are not of the same kind.
        """
        _replace_content(self.values[number], new)
        self._contents[number] = _content(self.values[number])

    def changed(self, *, complete: bool) -> list[int]:
        """Return numbers of the values that this side has changed, and note their content.

        Args:
            complete: Whether to compare the values in any case. Otherwise it may be put off, so that many short calls
                do not each compare a long list.
        """
        self._credit += _PER_CALL
        self._compared = complete or self.met or self._weight <= self._credit
        if not self._compared:
            return []
        self._credit = max(0, self._credit - self._weight)
        self._weight, self.met, found = 0, False, []
        for number, old in self._contents.items():
            new = self._contents[number] = _content(self.values[number])
            self._weight += _PER_VALUE + len(new)
            if len(old) != len(new) or not all(map(operator.is_, old, new)):
                found.append(number)
        return found

    def drop(self) -> list[int]:
        """Forget the values that nothing else here refers to, unless they were not compared. Return their numbers."""
        if not self._compared:
            return []
        # A reference of this dictionary, and one of the call.
        unused = [number for number in self.values if sys.getrefcount(self.values[number]) == 2]
        for number in unused:
            self.forget(number)
        return unused


def _content(value: Any) -> list[Any] | bytes:
    """Return the items of a value that can be changed: references to them, or the bytes of an array."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return bytes(value) if isinstance(value, (bytearray, array)) else list(value)


def _replace_content(old: Any, new: Any) -> None:
    kind: Any = next((kind for kind in (list, bytearray, array, deque, dict, set) if isinstance(old, kind)), None)
    if kind is None or not isinstance(new, kind):
        raise TypeError("a change of an argument keeps its kind")
    if kind in (list, bytearray, array):
        old[:] = new
        return
    old.clear()
    if kind is dict:  # Counter.update would count
        for key, item in new.items():
            old[key] = item
    elif kind is set:
        old.update(new)
    else:
        old.extend(new)
