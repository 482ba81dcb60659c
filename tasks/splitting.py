"""Splits from rows of a file or a published data set. Rows that belong together are cut together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bench.amounts import counted
from bench.errors import UsageError, shown
from tasks.duplicates import grouped, near_duplicates
from tasks.examples import Example, Splits, cut


def cut_one_file(
    examples: Sequence[Example],
    origin: str,
    *,
    salt: str,
    support: int,
    select: int,
    gate: int,
    content: Callable[[Example], str] | None,
) -> Splits:
    """Cut all four splits from one file. All rows that the other splits leave are the test split, at least half.

    If support, select and gate together need more than half of the rows, all three shrink in proportion.

    Args:
        examples: All rows; repeated rows count once.
        origin: Source of the rows, for error messages.
        salt: See `tasks.examples.cut`.
        support: Size of the support split, before shrinking.
        select: Size of the select split, before shrinking.
        gate: Size of the gate split, before shrinking.
        content: Function that returns the text of an example, by which near duplicates are found and grouped; None to
            look for none, as among generated examples. See `tasks.interface.Task.content`.

    Raises:
        UsageError: If a split would be empty, two different rows have the same id, or more rows belong together than
            the largest split has.
    """
    examples = distinct(examples, origin)
    if content is not None:
        examples = grouped(examples, near_duplicates([content(example) for example in examples]))
    wanted = {"support": support, "select": select, "gate": gate}
    total, half = sum(wanted.values()), len(examples) // 2
    sizes = {name: size if total <= half else size * half // total for name, size in wanted.items()}
    if not all(sizes.values()):
        needed = 2 * -(-total // min(wanted.values()))
        raise UsageError(f"{origin}: {counted(len(examples), 'row')}; the splits need at least {needed}; add rows")
    return _cut(examples, origin, salt, {**sizes, "test": len(examples) - sum(sizes.values())})


def cut_beside(
    test: Sequence[Example],
    others: Sequence[Example],
    origin: str,
    *,
    salt: str,
    support: int,
    select: int,
    gate: int,
    content: Callable[[Example], str],
) -> Splits:
    """Cut support, select and gate from the rows beside a published test split, which stays as it is.

    Rows that nearly equal a test example are left out. If too few rows are left, the three splits shrink in proportion.

    Args:
        test: Test split, in order.
        others: All other rows.
        origin: Source of the rows, for error messages.
        salt: See `tasks.examples.cut`.
        support: Size of the support split, before shrinking.
        select: Size of the select split, before shrinking.
        gate: Size of the gate split, before shrinking.
        content: See `cut_one_file`.

    Raises:
        UsageError: If a split would be empty.
    """
    everything = [*test, *others]
    everything = grouped(everything, near_duplicates([content(example) for example in everything]))
    tested, rest = everything[: len(test)], everything[len(test) :]
    groups = {example.group for example in tested if example.group}
    kept = [example for example in rest if example.group not in groups]
    wanted = {"support": support, "select": select, "gate": gate}
    total = sum(wanted.values())
    sizes = {name: min(size, size * len(kept) // total) for name, size in wanted.items()}
    if not tested or not all(sizes.values()):
        left_out = len(rest) - len(kept)
        nearly = f", without the {left_out} that nearly equal one of these" if left_out else ""
        raise UsageError(
            f"{origin}: {len(tested)} rows of the test split and {len(kept)} others{nearly}; the splits need 1 and "
            f"{-(-total // min(wanted.values()))}"
        )
    splits = _cut(kept, origin, salt, {**sizes, "test": 0})
    return replace(splits, test=tuple(tested), left_out=len(rest) - len(kept))


def _cut(examples: Sequence[Example], origin: str, salt: str, sizes: Mapping[str, int]) -> Splits:
    try:
        splits = cut(examples, salt=salt, **sizes)
    except ValueError as error:
        raise UsageError(f"{origin}: {error}") from error
    empty = [name for name, size in sizes.items() if size and not getattr(splits, name)]
    if empty:
        raise UsageError(f"{origin}: the split {empty[0]} is empty, as too many rows belong together; give more rows")
    return splits


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
