"""Splits from a single file of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from bench.errors import UsageError, shown
from tasks.interface import Example, Splits, cut


def cut_one_file(
    examples: Sequence[Example], origin: str, *, salt: str, support: int, select: int, gate: int
) -> Splits:
    """Cut all four splits from one file. All rows that the other splits leave are the test split, at least half.

    If support, select and gate together need more than half of the rows, all three shrink in proportion.

    Args:
        examples: All rows; repeated rows count once.
        origin: Source of the rows, for error messages.
        salt: See `tasks.interface.cut`.
        support: Size of the support split, before shrinking.
        select: Size of the select split, before shrinking.
        gate: Size of the gate split, before shrinking.

    Raises:
        UsageError: If a split would be empty, or two different rows have the same id.
    """
    examples = distinct(examples, origin)
    wanted = {"support": support, "select": select, "gate": gate}
    total, half = sum(wanted.values()), len(examples) // 2
    sizes = {name: size if total <= half else size * half // total for name, size in wanted.items()}
    if not all(sizes.values()):
        needed = 2 * -(-total // min(wanted.values()))
        raise UsageError(f"{origin}: {len(examples)} rows; the splits need at least {needed}")
    return cut(examples, salt=salt, **sizes, test=len(examples) - sum(sizes.values()))


def distinct(examples: Iterable[Example], origin: str) -> list[Example]:
    """Return the examples without repetitions, which could otherwise be in two splits.

    Args:
        examples: All rows.
        origin: Source of the rows, for error messages.

    Raises:
        UsageError: If two different rows have the same id.
    """
    found: dict[str, Example] = {}
    for example in examples:
        if found.setdefault(example.id, example) != example:
            raise _conflict(found[example.id], example, origin)
    return list(found.values())


def _conflict(first: Example, second: Example, origin: str) -> UsageError:
    """Return the error for two different rows with one id; names the first field in which they differ."""
    before, after = dict(first.fields), dict(second.fields)
    name = next((name for name in [*after, *before] if before.get(name) != after.get(name)), None)
    difference = (
        f"; field {name!r} is {shown(after.get(name))} here and {shown(before.get(name))} there" if name else ""
    )
    return UsageError(
        f"{second.where or origin}: same question or id ({second.id!r}) as {first.where or 'another row'}"
        f"{difference}; keep one of the two rows"
    )


def text_id(text: str) -> str:
    """Return an id for a row without one: the first 12 digits of the SHA-256 of its text, such as `3b64db95cb55`."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
