"""Cutting one file of rows into the four splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from bench.errors import UsageError
from tasks.interface import Example, Splits, cut


def cut_one_file(
    examples: Sequence[Example], origin: str, *, salt: str, support: int, select: int, gate: int
) -> Splits:
    """Cut all four splits from one file; the test split is what the others leave, and at least half.

    Args:
        examples: All rows; one that is there twice counts once.
        origin: Where the rows are from, for the message.
        salt: See `tasks.interface.cut`.
        support: Wanted size. Where the three make more than half of the rows, each shrinks in proportion.
        select: Likewise.
        gate: Likewise.

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
    """Return the examples without repetitions, so that no split can hold what another one holds.

    Raises:
        UsageError: If two that differ have the same id.
    """
    found: dict[str, Example] = {}
    for example in examples:
        if found.setdefault(example.id, example) != example:
            raise UsageError(f"{origin}: two different rows have the id {example.id!r}")
    return list(found.values())


def text_id(text: str) -> str:
    """Return an id for a row that has none of its own: the beginning of the text's hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
